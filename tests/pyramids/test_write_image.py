"""Written pictures, read back by the libraries that others read them with."""

from __future__ import annotations

import io
import json
import sys
import warnings
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import rasterio
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rasterio.crs import CRS
from tests.pyramids.pictures import HALF_UM, UInt8, Watched, field, picture

from patchloom.errors import CapacityError, FormatError, InputError, MissingError
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box, Frame, PixelSize
from patchloom.pyramids import read_provenance, write_image
from patchloom.pyramids.layout import rational
from patchloom.pyramids.levels import halved
from patchloom.rasters import GeoReference

GIVEN = {"seed": 7, "synthetic": True, "weights": "sha256:ab", "note": "Gewebe · 组织"}
SIZES = [(1, 1), (1, 700), (700, 1), (255, 257), (512, 512), (520, 1537)]
ALL = ["a.tif", "a.ome.tif", "a.png"]
UTM = GeoReference(CRS.from_epsg(26911).to_wkt(), (0.6, 0.0, 435416.4, 0.0, -0.6, 3774381.6))


def by_openslide(path: Path, level: int = 0) -> UInt8:
    with openslide.OpenSlide(path) as slide:
        size = slide.level_dimensions[level]
        return np.asarray(slide.read_region((0, 0), level, size))[..., :3].transpose(2, 0, 1)


def by_rasterio(path: Path) -> UInt8:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            pixels: UInt8 = dataset.read()
    return pixels


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_lossless_pixels_come_back_exactly(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    source, path = field(*size), tmp_path / name
    write_image(source, path, compression="deflate")
    assert np.array_equal(by_openslide(path), source.array)
    assert np.array_equal(by_rasterio(path), source.array)
    with tifffile.TiffFile(path) as file:
        first = file.pages[0]
        level, levels = source.array.transpose(1, 2, 0), [first, *(first.pages or file.pages[1:])]
        for stored in levels:
            assert np.array_equal(np.squeeze(stored.asarray()), np.squeeze(level))
            level = halved(level)
    assert max(levels[-1].shape[:2]) <= 512


@pytest.mark.parametrize("size", SIZES)
def test_png_pixels_come_back_exactly(tmp_path: Path, size: tuple[int, int]) -> None:
    source, path = field(*size), tmp_path / "a.png"
    write_image(source, path)
    with Image.open(path) as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image).transpose(2, 0, 1), source.array)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_png_of_any_small_picture(tmp_path_factory: pytest.TempPathFactory, height: int, width: int, seed: int) -> None:
    pixels = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (3, height, width), np.uint8)
    path = tmp_path_factory.getbasetemp() / "any.png"
    write_image(ArrayField(pixels), path)
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image).transpose(2, 0, 1), pixels)


@pytest.mark.parametrize(("quality", "subsampling"), [(95, 0), (75, 2)])
def test_jpeg_is_as_near_as_another_encoder_gets(tmp_path: Path, quality: int, subsampling: int) -> None:
    source, path = field(700, 530), tmp_path / "a.tif"
    write_image(source, path, quality=quality)
    buffer = io.BytesIO()
    Image.fromarray(source.array.transpose(1, 2, 0)).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    other = np.abs(np.asarray(Image.open(buffer)).transpose(2, 0, 1).astype(float) - source.array).mean()
    for back in (by_openslide(path), by_rasterio(path)):
        assert np.abs(back.astype(float) - source.array).mean() < 1.05 * other
        assert np.abs(back.mean(axis=(1, 2)) - source.array.mean(axis=(1, 2))).max() < 0.3
    half = halved(source.array.transpose(1, 2, 0)).transpose(2, 0, 1)
    assert np.abs(by_openslide(path, level=1).astype(float) - half).mean() < 1.2 * other


@pytest.mark.parametrize("metres", [0.25e-6, 0.499e-6, 0.1e-6 / 3, 0.6, 30.0])
def test_others_read_the_pixel_size(tmp_path: Path, metres: float) -> None:
    path = tmp_path / "a.tif"
    write_image(field(300, 600, PixelSize(metres)), path)
    with openslide.OpenSlide(path) as slide:
        assert all(
            isclose(float(slide.properties[f"openslide.mpp-{axis}"]), metres * 1e6, rel_tol=1e-6) for axis in "xy"
        )
        assert slide.level_dimensions == ((600, 300), (300, 150), (150, 75))
    write_image(field(300, 600, PixelSize(metres)), tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert isclose(pixels["PhysicalSizeX"], metres * 1e6, rel_tol=1e-12)
        assert (pixels["SizeX"], pixels["SizeY"]) == (600, 300)


@given(st.floats(1e-9, 1e9))
def test_fractions_are_near(value: float) -> None:
    top, bottom = np.frombuffer(rational(282, value).data, "<u4")
    assert isclose(top / bottom, value, rel_tol=1e-6 if 1e-4 < value < 1e6 else 0.3)


def test_no_pixel_size_is_no_pixel_size(tmp_path: Path) -> None:
    write_image(field(300, 300, None), tmp_path / "a.tif")
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert "openslide.mpp-x" not in slide.properties


@pytest.mark.parametrize("compression", ["jpeg", "deflate"])
def test_georeferenced_tiff_is_cloud_optimised(tmp_path: Path, compression: Any) -> None:
    path = tmp_path / "a.tif"
    write_image(field(1100, 1400, PixelSize(0.6)), path, geo=UTM, compression=compression)
    with rasterio.open(path) as dataset:
        assert dataset.crs == CRS.from_epsg(26911)
        assert tuple(dataset.transform)[:6] == UTM.transform
        assert dataset.overviews(1) == [2, 4]
        assert dataset.block_shapes[0] == (512, 512)
    with tifffile.TiffFile(path) as file:
        pages = list(file.pages)
        heads = [page.offset for page in pages]
        first_tiles, last_tiles = ([page.dataoffsets[index] for page in pages] for index in (0, -1))
    assert heads[0] == 16
    assert heads == sorted(heads)
    assert max(heads) < min(first_tiles)
    assert first_tiles == sorted(first_tiles, reverse=True)  # coarsest first
    assert all(finer > coarser for finer, coarser in zip(first_tiles, last_tiles[1:], strict=False))


def test_a_turned_transform_survives(tmp_path: Path) -> None:
    geo = GeoReference(CRS.from_epsg(3857).to_wkt(), (0.5, 0.1, 1000.0, 0.1, -0.5, 2000.0))
    write_image(field(64, 64), tmp_path / "a.tif", geo=geo)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert np.allclose(tuple(dataset.transform)[:6], geo.transform, atol=1e-9)
        assert dataset.crs.to_epsg() == 3857


def test_unknown_reference_systems_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="WKT"):
        write_image(field(64, 64), tmp_path / "a.tif", geo=GeoReference("PROJCS[nonsense", UTM.transform))


@pytest.mark.parametrize("name", ALL)
def test_provenance_comes_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_image(field(90, 80), path, provenance=GIVEN)
    block = read_provenance(path)
    assert block is not None
    assert block.items() >= GIVEN.items()
    assert block["software"].startswith("patchloom ")
    assert block["pixel_size_m"] == HALF_UM.metres


@pytest.mark.parametrize("name", ["a.ome.tif", "a.png"])
def test_formats_without_a_place_for_it_keep_the_georeference_in_the_provenance(tmp_path: Path, name: str) -> None:
    write_image(field(90, 80), tmp_path / name, geo=UTM)
    block = read_provenance(tmp_path / name) or {}
    assert (block["crs"], tuple(block["transform"])) == (UTM.crs, UTM.transform)


def test_a_name_that_xml_would_trip_over(tmp_path: Path) -> None:
    path = tmp_path / 'Schnitt "ä" & <b>.ome.tif'
    write_image(field(90, 80), path)
    with tifffile.TiffFile(path) as file:
        assert tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Name"] == path.name


def test_pictures_of_others_have_no_provenance_of_ours(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", picture(20, 20).transpose(1, 2, 0), description='{"software": "other 1"}')
    Image.fromarray(picture(20, 20).transpose(1, 2, 0)).save(tmp_path / "a.png")
    assert read_provenance(tmp_path / "a.tif") is None
    assert read_provenance(tmp_path / "a.png") is None
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(FormatError, match="neither"):
        read_provenance(tmp_path / "a.txt")
    with pytest.raises(MissingError):
        read_provenance(tmp_path / "none.tif")


@pytest.mark.parametrize("given", [{"software": "mine"}, {"loss": float("nan")}, {"path": Path("x")}])
def test_provenance_that_cannot_be_kept_is_refused(tmp_path: Path, given: dict[str, object]) -> None:
    with pytest.raises(InputError, match="provenance"):
        write_image(field(20, 20), tmp_path / "a.tif", provenance=given)


@pytest.mark.parametrize("name", [*ALL, "g.tif"])
def test_the_same_bytes_twice(tmp_path: Path, name: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for folder in ("one", "two"):
        geo = UTM if name.startswith("g") else None
        write_image(field(300, 1100), tmp_path / folder / name, provenance=GIVEN, geo=geo)
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("name", ALL)
def test_the_field_is_read_once_in_bands_from_the_top(tmp_path: Path, name: str) -> None:
    watched, told = Watched(field(1300, 400)), list[int]()
    write_image(watched, tmp_path / name, progress=told.append)
    assert [box.y for box in watched.boxes] == [0, *(box.stop_y for box in watched.boxes[:-1])]
    assert watched.boxes[-1].stop_y == 1300
    assert all(box.width == 400 and box.height <= 512 for box in watched.boxes)
    assert told == [box.height for box in watched.boxes]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    path = tmp_path / name
    path.write_bytes(b"before")
    with pytest.raises(error):
        write_image(Watched(field(1300, 100), fail_at=1200, error=error), path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("name", ALL)
def test_a_disk_that_runs_full_is_named_with_the_need(tmp_path: Path, name: str) -> None:
    import resource

    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (3, 2048, 700), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(CapacityError, match=r"ran full after \d+ of 2048 rows .* about \d+ MiB are needed"):
            write_image(ArrayField(noise), tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


class Endless:
    """A field larger than any disk, which must not be read."""

    frame = Frame(10_000_000, 10_000_000, 3, "uint8")

    def read(self, box: Box) -> UInt8:
        raise AssertionError(f"{box} was read")


@pytest.mark.parametrize("name", ALL)
def test_a_disk_that_is_too_small_is_found_before_any_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(CapacityError, match=r"needs about .* free"):
        write_image(Endless(), tmp_path / name)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("a.jpg", {}, r"\.tif, \.ome\.tif or \.png"),
        ("a.png", {"compression": "jpeg"}, "PNG cannot hold JPEG"),
        ("a.tif", {"compression": "zstd"}, "neither"),
        ("a.tif", {"quality": 0}, "between 1 and 100"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, name: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        write_image(field(20, 20), tmp_path / name, **change)


def test_fields_that_are_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 channels of uint8, not 3 of float32"):
        write_image(ArrayField(np.zeros((3, 4, 4), np.float32)), tmp_path / "a.tif")
    with pytest.raises(MissingError, match="folder"):
        write_image(field(4, 4), tmp_path / "none" / "a.tif")


def test_the_description_is_json_for_any_reader(tmp_path: Path) -> None:
    write_image(field(20, 20), tmp_path / "a.tif", provenance=GIVEN)
    with openslide.OpenSlide(tmp_path / "a.tif") as slide:
        assert json.loads(slide.properties["openslide.comment"])["seed"] == 7
