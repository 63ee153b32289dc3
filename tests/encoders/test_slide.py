"""From a file to a grid: resampling, regions, valid cells, and what the grid remembers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.encoders.fakes import tiny_encoder

from patchloom.encoders.slide import embed_slide, region_at
from patchloom.errors import GeometryError, InputError
from patchloom.geometry import Box, PixelSize
from patchloom.rasters.opening import open_raster

HALF_UM = PixelSize(0.5e-6)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Purple noise on the left of a white slide, without a pixel size."""
    pixels = np.full((300, 400, 3), 245, np.uint8)
    noise = np.random.Generator(np.random.PCG64(0)).integers(-20, 20, (300, 200, 3))
    pixels[:, :200] = np.array([150, 80, 160]) + noise
    Image.fromarray(pixels).save(tmp_path / "slide.png")
    return tmp_path / "slide.png"


def test_cells_of_tissue_are_embedded_as_the_encoder_sees_them(picture: Path) -> None:
    encoder = tiny_encoder()
    grid = embed_slide(
        picture, encoder, slide_pixel_size=HALF_UM, cell_px=64, stride_px=32, batch=4, precision="float32"
    )
    assert (grid.rows, grid.cols, grid.canvas, grid.origin) == (8, 11, (300, 400), (0.0, 0.0))
    assert grid.valid[:, :4].all()
    assert not grid.valid[:, 8:].any()
    pixels = torch.from_numpy(np.asarray(Image.open(picture)).copy()).permute(2, 0, 1)[None]
    box = grid.cell_box(3, 2)
    cell = pixels[:, :, box.y : box.stop_y, box.x : box.stop_x]
    np.testing.assert_array_equal(grid.embeddings[3, 2], encoder(cell.expand(4, -1, -1, -1))[0].numpy())
    assert grid.reference is not None
    assert (grid.reference.name, grid.reference.height, grid.reference.width) == ("slide.png", 300, 400)
    assert grid.reference.pixel_size == HALF_UM


def test_a_region_of_a_resampled_slide_keeps_its_place(picture: Path) -> None:
    grid = embed_slide(
        picture,
        tiny_encoder(),
        pixel_size=PixelSize(1e-6),
        slide_pixel_size=HALF_UM,
        cell_px=32,
        region=Box(21, 40, 201, 160),
        mode="all",
    )
    assert (grid.origin, grid.canvas, grid.pixel_size) == ((11.0, 20.0), (100, 80), PixelSize(1e-6))
    assert grid.valid.all()
    assert (grid.rows, grid.cols, grid.stride_px) == (3, 2, 32)


@given(
    st.tuples(st.integers(0, 100), st.integers(0, 100), st.integers(30, 200), st.integers(30, 200)),
    st.floats(0.3, 8),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_region_at_another_size_stays_inside_and_loses_less_than_a_pixel(
    picture: Path, corner: tuple[int, int, int, int], ratio: float
) -> None:
    region = Box(*corner)
    with open_raster(picture) as raster:
        box = region_at(raster, region, ratio)
    for start, stop, first, last in (
        (box.y, box.stop_y, region.y, region.stop_y),
        (box.x, box.stop_x, region.x, region.stop_x),
    ):
        assert -1e-3 <= start - first / ratio < 1
        assert -1e-3 <= last / ratio - stop < 1


def test_what_cannot_be_embedded_is_told(picture: Path) -> None:
    encoder = tiny_encoder()
    with pytest.raises(InputError, match="--slide-pixel-size"):
        embed_slide(picture, encoder, cell_px=64)
    with pytest.raises(InputError, match=r"no cell of `slide\.png` is valid"):
        embed_slide(picture, encoder, slide_pixel_size=HALF_UM, cell_px=64, region=Box(0, 280, 100, 100))
    with pytest.raises(GeometryError, match=r"does not lie inside `slide\.png`"):
        embed_slide(picture, encoder, slide_pixel_size=HALF_UM, cell_px=64, region=Box(250, 0, 100, 100))
    with pytest.raises(InputError, match="between 0 and 1"):
        embed_slide(picture, encoder, slide_pixel_size=HALF_UM, cell_px=64, min_valid=30)
    with pytest.raises(GeometryError, match="no cell of 512 px fits"):
        embed_slide(picture, encoder, slide_pixel_size=HALF_UM, cell_px=512)
    with open_raster(picture) as raster, pytest.raises(GeometryError, match="smaller than a pixel"):
        region_at(raster, Box(1, 1, 2, 2), 8.0)
