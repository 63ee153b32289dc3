"""Every kind of file: the right pixels by region, the right errors."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.rasters.examples import EXAMPLES, HALF_UM, HEIGHT, WIDTH, UInt8, picture, write_geotiff

from patchloom.errors import FormatError, GeometryError, InputError, MissingError
from patchloom.geometry import Box, PixelSize
from patchloom.rasters import Raster, describe, open_raster, require_pixel_size
from patchloom.rasters.source import levels_of, plausible


@pytest.fixture(scope="module", params=EXAMPLES, ids=[name.replace(" ", "-") for name in EXAMPLES])
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, UInt8]:
    suffix, form, make = EXAMPLES[request.param]
    path = tmp_path_factory.mktemp("example") / f"a.{suffix}"
    return path, form, make(path)


@pytest.fixture(scope="module")
def opened(example: tuple[Path, str, UInt8]) -> Iterator[tuple[Raster, UInt8]]:
    with open_raster(example[0]) as raster:
        yield raster, example[2]


def test_the_whole_is_what_the_writer_meant(opened: tuple[Raster, UInt8]) -> None:
    raster, pixels = opened
    assert raster.frame.box == Box(0, 0, HEIGHT, WIDTH)
    assert np.array_equal(raster.read(raster.frame.box), pixels)
    assert raster.valid(raster.frame.box).mean() > 0.999  # pixels of a GeoTIFF that happen to be black


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1)), st.integers(1, 200), st.integers(1, 200))
def test_a_region_is_the_crop_of_the_whole(
    opened: tuple[Raster, UInt8], corner: tuple[int, int], height: int, width: int
) -> None:
    raster, pixels = opened
    box = Box(*corner, height, width).meet(raster.frame.box)
    assert np.array_equal(raster.read(box), pixels[:, *box.inside(raster.frame.box)])


def test_describe_says_the_same_without_decoding(example: tuple[Path, str, UInt8]) -> None:
    path, form, _ = example
    said = describe(path)
    assert said["format"] == form
    assert said["size_px"] == [HEIGHT, WIDTH]
    with open_raster(path) as raster:
        assert said["pixel_size_m"] == (raster.frame.pixel_size.metres if raster.frame.pixel_size else None)
        assert [level["downsample"] for level in said["levels"]] == [level.downsample for level in raster.levels]


def test_half_a_file_is_refused_or_found_on_reading(example: tuple[Path, str, UInt8], tmp_path: Path) -> None:
    path = example[0]
    data = path.read_bytes()
    half = tmp_path / path.name
    half.write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match=r"truncated|damaged"), open_raster(half) as raster:
        raster.read(raster.frame.box)


@pytest.mark.parametrize("box", [Box(-1, 0, 5, 5), Box(0, 0, HEIGHT + 1, 5), Box(0, WIDTH, 5, 5), Box(3, 3, 0, 4)])
def test_regions_outside_are_refused(opened: tuple[Raster, UInt8], box: Box) -> None:
    raster, _ = opened
    for read in (raster.read, raster.valid):
        with pytest.raises(GeometryError, match=f"does not lie inside `{raster.name}`, which is {WIDTH} x {HEIGHT} px"):
            read(box)


def test_what_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no file"):
        open_raster(tmp_path / "none.svs")
    with pytest.raises(FormatError, match="folder"):
        open_raster(tmp_path)
    (tmp_path / "empty.tif").touch()
    with pytest.raises(FormatError, match="empty"):
        open_raster(tmp_path / "empty.tif")
    (tmp_path / "text.tif").write_text("a letter, not a picture")
    with pytest.raises(FormatError, match="no picture that Patchloom reads"):
        open_raster(tmp_path / "text.tif")
    for header in (b"II*\0", b"II*\0\xff\xff\xff\x7f", b"MM\0+\0\x08\0\0"):
        (tmp_path / "head.tif").write_bytes(header)
        with pytest.raises(FormatError, match="truncated"):
            open_raster(tmp_path / "head.tif")


def test_16_bit_pixels_are_refused_with_the_way_out(tmp_path: Path) -> None:
    deep = picture(40, 30).astype(np.uint16) * 256
    tifffile.imwrite(tmp_path / "deep.tif", deep.transpose(1, 2, 0), photometric="rgb")
    tifffile.imwrite(tmp_path / "tiled.tif", deep.transpose(1, 2, 0), photometric="rgb", tile=(16, 16))
    write_geotiff(tmp_path / "geo.tif", deep)
    Image.fromarray(deep[0]).save(tmp_path / "deep.png")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(FormatError, match="8 bits"):
            open_raster(path)


def bomb(path: Path, height: int, width: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    bomb(tmp_path / "bomb.png", 60_000, 60_000)
    limit = Image.MAX_IMAGE_PIXELS
    for answer in (open_raster, describe):
        with pytest.raises(FormatError, match=r"60000 x 60000 px; .* up to 1,000,000,000 px"):
            answer(tmp_path / "bomb.png")
    assert limit == Image.MAX_IMAGE_PIXELS


def test_large_pictures_leave_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchloom.rasters.picture._IN_MEMORY_PX", 1000)
    pixels = picture(1100, 90)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "a.png")
    with open_raster(tmp_path / "a.png") as raster:
        box = Box(500, 3, 600, 80)
        assert np.array_equal(raster.read(box), pixels[:, *box.inside(raster.frame.box)])
        assert isinstance(raster._source._pixels, np.memmap)  # type: ignore[attr-defined]


def test_transparent_pixels_are_white_and_not_valid(tmp_path: Path) -> None:
    alpha = np.zeros((30, 20), np.uint8)
    alpha[5:, :] = 255
    alpha[10, 10] = 128
    rgba = np.concatenate([picture(30, 20), alpha[None]]).transpose(1, 2, 0)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    for name in ("a.png", "a.tif"):
        with open_raster(tmp_path / name) as raster:
            read, whole = raster.read(raster.frame.box).transpose(1, 2, 0), raster.frame.box
            assert (read[:5] == 255).all()
            assert np.array_equal(read[11:], rgba[11:, :, :3])
            assert np.abs(read[10, 10] - (rgba[10, 10, :3] * 128.0 + 255 * 127) / 255).max() <= 0.5
            assert np.array_equal(raster.valid(whole), alpha > 0)


def test_odd_sizes_have_whole_downsamples() -> None:
    def downsamples(*sizes: tuple[int, int]) -> list[float]:
        return [level.downsample for level in levels_of(sizes)]

    assert downsamples((2967, 2220), (1484, 1110), (742, 555), (371, 278)) == [1, 2, 4, 8]
    assert downsamples((1, 5001), (1, 2501), (1, 1251)) == [1, 2, 4]
    assert downsamples((5000, 3001), (1250, 750)) == [1, 4]  # rounded down
    assert levels_of([(1000, 1000), (300, 300)])[1].downsample == pytest.approx(10 / 3)


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((20_000, 20_000), "CENTIMETER", 0.5e-6),
        ((101_600, 101_600), "INCH", 0.25e-6),
        ((72, 72), "INCH", None),
        ((300, 300), "INCH", None),
        ((118.11, 118.11), "CENTIMETER", None),
        ((1, 1), "INCH", None),
        ((20_000, 20_000), "NONE", None),
    ],
)
@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_resolution_tags_that_speak_of_paper_are_no_pixel_size(
    tmp_path: Path, resolution: tuple[float, float], unit: str, expected: float | None, tile: tuple[int, int] | None
) -> None:
    path, pixels = tmp_path / "a.tif", picture(100, 100).transpose(1, 2, 0)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=tile, resolution=resolution, resolutionunit=unit)
    with open_raster(path) as raster:
        found = raster.frame.pixel_size
    assert found is None if expected is None else found is not None and found.agrees(PixelSize(expected), 1e-6)


def test_plausible_lengths() -> None:
    assert all(plausible(metres) for metres in (1e-7, 1e-5, 0.018, 0.6))
    assert not any(plausible(metres) for metres in (2.1e-5, 3.5e-4, 0.005, 0.01, 0.0254, 0.0))


def test_dots_an_inch_of_plain_pictures_are_ignored_and_ours_are_kept(tmp_path: Path) -> None:
    Image.fromarray(picture(9, 9).transpose(1, 2, 0)).save(tmp_path / "a.jpg", dpi=(50_800, 50_800))
    with open_raster(tmp_path / "a.jpg") as raster:
        assert raster.frame.pixel_size is None
        with pytest.raises(InputError, match=r"a\.jpg.*--slide-pixel-size"):
            require_pixel_size(raster)
    with open_raster(tmp_path / "a.jpg", HALF_UM) as raster:
        assert require_pixel_size(raster) == HALF_UM
    path = tmp_path / "own.png"
    EXAMPLES["own png"][2](path)
    with open_raster(path) as raster:
        assert raster.frame.pixel_size == HALF_UM


def test_describe_needs_no_torch(tmp_path: Path) -> None:
    EXAMPLES["own pyramid"][2](tmp_path / "a.tif")
    code = (
        "import sys, json; from patchloom.rasters import describe; "
        f"print(json.dumps(describe({str(tmp_path / 'a.tif')!r}))); "
        "sys.exit(bool({'torch', 'rasterio'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"pixel_size_m": 5e-07' in done.stdout
