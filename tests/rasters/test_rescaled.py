"""Resampling by region: the crop law, and Pillow as the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.pyramids.pictures import HALF_UM, field, picture
from tests.rasters.examples import UInt8, write_geotiff

from patchloom.errors import GeometryError, InputError
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box, PixelSize
from patchloom.pyramids import write_image
from patchloom.rasters import Raster, Rescaled, open_raster
from patchloom.rasters.resample import reduced

HEIGHT, WIDTH = 403, 371


@pytest.fixture(scope="module", params=["flat", "pyramid", "vendor-like"])
def raster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Raster]:
    folder = tmp_path_factory.mktemp("rescaled")
    path = folder / ("a.png" if request.param == "flat" else "a.tif")
    if request.param == "vendor-like":  # OpenSlide's own downsample of odd sizes is no whole number
        write_image(field(HEIGHT * 2 + 1, WIDTH * 2 + 1), path)
    else:
        write_image(field(HEIGHT, WIDTH), path)
    with open_raster(path) as opened:
        yield opened


@settings(max_examples=25)
@given(
    st.floats(0.3, 9.0),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
def test_reading_a_region_is_the_crop_of_reading_the_whole(
    raster: Raster, ratio: float, corner: tuple[float, float], size: tuple[int, int]
) -> None:
    rescaled = Rescaled(raster, PixelSize(HALF_UM.metres * ratio))
    whole = rescaled.frame.box
    top, left = int(corner[0] * (whole.height - 1)), int(corner[1] * (whole.width - 1))
    box = Box(top, left, *size).meet(whole)
    near = box.grown(7).meet(whole)
    assert np.array_equal(rescaled.read(box), rescaled.read(near)[:, *box.inside(near)])
    if whole.area < 200_000:
        assert np.array_equal(rescaled.read(box), rescaled.read(whole)[:, *box.inside(whole)])
        assert np.array_equal(rescaled.valid(box), rescaled.valid(whole)[box.inside(whole)])


@pytest.mark.parametrize("ratio", [0.5, 1.3, 2.0, 3.7])
def test_resampling_agrees_with_pillow(tmp_path: Path, ratio: float) -> None:
    write_image(field(HEIGHT, WIDTH), tmp_path / "a.png")
    with open_raster(tmp_path / "a.png") as raster:
        rescaled = Rescaled(raster, PixelSize(HALF_UM.metres * ratio))
        height, width = rescaled.frame.box.shape
        assert (height, width) == (int(HEIGHT / ratio + 1e-9), int(WIDTH / ratio + 1e-9))
        image = Image.fromarray(picture(HEIGHT, WIDTH).transpose(1, 2, 0))
        cover = (0, 0, width * ratio, height * ratio)
        expected = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=cover)).transpose(2, 0, 1)
        found = rescaled.read(rescaled.frame.box)
    assert np.abs(found.astype(int) - expected).max() <= 1 + (ratio > 3)
    assert abs(found.mean() - expected.mean()) < 0.1


def test_far_smaller_pictures_agree_with_the_mean(tmp_path: Path) -> None:
    write_image(field(HEIGHT, WIDTH), tmp_path / "a.png")
    with open_raster(tmp_path / "a.png") as raster:
        small = raster.resized(Box(40, 30, 320, 320), 10, 10)
    exact = picture(HEIGHT, WIDTH)[:, 40:360, 30:350].reshape(3, 10, 32, 10, 32).mean(axis=(2, 4))
    assert np.abs(small - exact).mean() < 4  # the cubic is a little sharper than the mean


def test_a_pyramid_and_a_flat_picture_show_the_same(tmp_path: Path) -> None:
    pixels = picture(520, 600)
    write_image(ArrayField(pixels, HALF_UM), tmp_path / "a.tif", compression="deflate")
    write_image(ArrayField(pixels, HALF_UM), tmp_path / "a.png")
    with open_raster(tmp_path / "a.tif") as deep, open_raster(tmp_path / "a.png") as flat:
        assert len(deep.levels) > 1
        for ratio in (2.0, 4.0, 5.0):
            size = PixelSize(HALF_UM.metres * ratio)
            one, two = (Rescaled(raster, size) for raster in (deep, flat))
            apart = one.read(one.frame.box).astype(int) - two.read(two.frame.box)
            assert np.abs(apart).mean() < 2.5
            assert abs(apart.mean()) < 0.2


@given(st.integers(0, 255), st.floats(0.4, 7.0))
@settings(max_examples=15)
def test_an_even_colour_stays_what_it_is(tmp_path_factory: pytest.TempPathFactory, grey: int, ratio: float) -> None:
    path = tmp_path_factory.getbasetemp() / "even.png"
    Image.new("RGB", (50, 60), (grey, 255 - grey, 7)).save(path)
    with open_raster(path, HALF_UM) as raster:
        rescaled = Rescaled(raster, PixelSize(HALF_UM.metres * ratio))
        pixels = rescaled.read(rescaled.frame.box)
    assert np.array_equal(np.unique(pixels.reshape(3, -1), axis=1).ravel(), [grey, 255 - grey, 7])


def test_sizes_that_agree_pass_through(raster: Raster) -> None:
    rescaled = Rescaled(raster, PixelSize(0.5044e-6))
    assert rescaled.ratio == 1
    assert rescaled.frame == raster.frame
    box = Box(31, 17, 100, 90)
    assert np.array_equal(rescaled.read(box), raster.read(box))


def test_a_place_on_earth_follows(tmp_path: Path) -> None:
    pixels = picture(100, 120)
    pixels[:, :, :33] = 0
    write_geotiff(tmp_path / "a.tif", pixels)
    with open_raster(tmp_path / "a.tif") as raster:
        rescaled = Rescaled(raster, PixelSize(1.0))
        assert rescaled.geo is not None
        assert rescaled.geo.transform == (1.0, 0.0, 500_000.0, 0.0, -1.0, 5_000_000.0)
        valid = rescaled.valid(rescaled.frame.box)
    assert valid.shape == (50, 60)
    assert not valid[:, :17].any()  # pixel 16 lies half on the last column without data
    assert valid[:, 17:].mean() > 0.99


def test_what_cannot_be_rescaled(tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "a.png")
    with open_raster(tmp_path / "a.png") as raster, pytest.raises(InputError, match="--slide-pixel-size"):
        Rescaled(raster, HALF_UM)
    with open_raster(tmp_path / "a.png", HALF_UM) as raster:
        with pytest.raises(GeometryError, match="less than one pixel"):
            Rescaled(raster, PixelSize(10e-6))
        with pytest.raises(GeometryError, match=r"is 2 x 2 px at 1um"):
            Rescaled(raster, PixelSize(1e-6)).read(Box(0, 0, 3, 2))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20))
def test_reduced_is_the_mean_of_blocks(height: int, width: int, factor: int) -> None:
    pixels: UInt8 = np.random.Generator(np.random.PCG64(factor)).integers(0, 256, (3, height, width), np.uint8)
    padded = np.pad(pixels, ((0, 0), (0, -height % factor), (0, -width % factor)), mode="edge")
    exact = padded.reshape(3, padded.shape[1] // factor, factor, -1, factor).mean(axis=(2, 4))
    assert np.abs(reduced(pixels, factor) - exact).max() <= 0.5
