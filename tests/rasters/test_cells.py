"""Lattices of cells, and which of them are worth having."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.pyramids.pictures import HALF_UM
from tests.rasters.examples import UInt8, write_geotiff

from patchloom.errors import GeometryError
from patchloom.geometry import Box, PixelSize
from patchloom.rasters import Raster, Rescaled, cell_lattice, open_raster, valid_cells
from patchloom.rasters.cells import CellLattice
from patchloom.rasters.source import Bool, Facts, levels_of
from patchloom.rasters.survey import Survey


class Blank:
    """A source of one colour and any size."""

    def __init__(self, height: int, width: int, grey: int = 245) -> None:
        self.facts, self.grey = Facts("blank", levels_of([(height, width)]), HALF_UM), grey

    def read(self, level: int, box: Box) -> UInt8:
        return np.full((3, *box.shape), self.grey, np.uint8)

    def valid(self, level: int, box: Box) -> Bool:
        return np.ones(box.shape, np.bool_)

    def close(self) -> None:
        pass


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 90), st.integers(1, 120), st.data())
def test_a_lattice_fills_its_region(height: int, width: int, cell: int, stride: int, data: st.DataObject) -> None:
    raster = Raster("blank", Blank(height, width))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    region = Box(top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))
    if min(region.shape) < cell:
        with pytest.raises(GeometryError, match=f"no cell of {cell} px fits"):
            cell_lattice(raster, cell, stride, region)
        return
    lattice = cell_lattice(raster, cell, stride, region)
    boxes = list(lattice)
    assert len(boxes) == len(lattice) == lattice.rows * lattice.cols
    assert boxes[0] == Box(top, left, cell, cell) == lattice.box(0, 0)
    assert boxes[-1] == lattice.box(lattice.rows - 1, lattice.cols - 1)
    assert region.contains(lattice.extent)
    assert lattice.extent.stop_y + stride > region.stop_y  # no further row or column would fit
    assert lattice.extent.stop_x + stride > region.stop_x
    with pytest.raises(GeometryError, match="no cell"):
        lattice.box(lattice.rows, 0)


def test_regions_and_sizes_that_cannot_be() -> None:
    raster = Raster("blank", Blank(50, 50))
    with pytest.raises(GeometryError, match=r"region 0,10,50,50 .* does not lie inside `blank`"):
        cell_lattice(raster, 8, 8, Box(10, 0, 50, 50))
    with pytest.raises(GeometryError, match="at least 1"):
        cell_lattice(raster, 8, 0)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9), st.data())
def test_the_share_under_a_box_is_the_area_weighted_mean(rows: int, cols: int, step: int, data: st.DataObject) -> None:
    share = np.random.Generator(np.random.PCG64(rows * cols)).random((rows, cols)).astype(np.float32)
    y0, x0 = data.draw(st.integers(0, rows * step - 1)), data.draw(st.integers(0, cols * step - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, rows * step)), data.draw(st.integers(x0 + 1, cols * step))
    fine = share.repeat(step, 0).repeat(step, 1)
    found = Survey(100, 200, step, share).over([(100.0 + y0, 200.0 + x0, 100.0 + y1, 200.0 + x1)])
    assert found[0] == pytest.approx(fine[y0:y1, x0:x1].mean(), abs=1e-5)


def test_glass_and_black_borders_are_not_tissue() -> None:
    for grey in (245, 200, 0):
        raster = Raster("blank", Blank(900, 700, grey))
        lattice = cell_lattice(raster, 128, 128)
        assert valid_cells(raster, lattice).max() == 0
        assert valid_cells(raster, lattice, "data").min() == 1
        assert valid_cells(raster, lattice, "all").min() == 1


def test_stain_without_texture_is_tissue() -> None:
    raster = Raster("blank", Blank(900, 700, 150))
    assert valid_cells(raster, cell_lattice(raster, 128, 128)).min() == 1


def section(shared: Path, start: str) -> Path:
    return next((shared / "data" / "he").glob(f"{start}*.jpg"))


@pytest.mark.parametrize(
    ("start", "size", "low", "high"),
    [
        ("atlas_sections/hacettepe_com_case_12", 0.5, 0.90, 1.00),  # fat: nearly all of it is the inside of cells
        ("atlas_sections/hacettepe_com_case_1_x9632", 0.5, 0.97, 1.00),  # loose, pale collagen
        ("atlas_sections/liver_transplant", 0.5, 0.62, 0.76),  # a needle core on glass
        ("atlas_sections/breast_lobular", 0.5, 0.95, 1.00),
        ("sections/cmu1_small", 0.499, 0.36, 0.48),  # a strip of skin on glass
        ("sections/her2st_C6", 0.688, 0.74, 0.83),  # glass with a pink tint and pale spots
    ],
)
def test_tissue_of_real_sections(shared: Path, start: str, size: float, low: float, high: float) -> None:
    with open_raster(section(shared, start), PixelSize(size * 1e-6)) as raster:
        share = valid_cells(raster, cell_lattice(raster, 128, 128))
    assert low <= share.mean() <= high


def test_corners_of_glass_and_the_middle_of_a_core(shared: Path) -> None:
    with open_raster(section(shared, "atlas_sections/liver_transplant"), HALF_UM) as raster:
        share = valid_cells(raster, cell_lattice(raster, 256, 256))
    assert share[0, -1] == share[-1, 0] == 0  # both are glass in the picture
    assert share[3:5, 3:5].min() == 1


def test_a_region_is_judged_as_the_whole_is(shared: Path) -> None:
    with open_raster(section(shared, "atlas_sections/hacettepe_com_case_12"), HALF_UM) as raster:
        whole = valid_cells(raster, cell_lattice(raster, 128, 128), "tissue")
        part = valid_cells(raster, cell_lattice(raster, 128, 128, Box(512, 768, 640, 512)), "tissue")
    assert np.allclose(part, whole[4:9, 6:10])


def test_another_pixel_size_judges_the_same_places(shared: Path) -> None:
    with open_raster(section(shared, "atlas_sections/liver_transplant"), HALF_UM) as raster:
        own = valid_cells(raster, cell_lattice(raster, 256, 256))
        rescaled = Rescaled(raster, PixelSize(1e-6))
        assert np.allclose(valid_cells(rescaled, cell_lattice(rescaled, 128, 128)), own)


@settings(max_examples=10)
@given(st.integers(0, 180), st.integers(16, 70))
def test_data_is_counted_where_there_is_a_place_on_earth(
    tmp_path_factory: pytest.TempPathFactory, edge: int, cell: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "half.tif"
    pixels = np.full((3, 200, 190), 90, np.uint8)
    pixels[:, :, :edge] = 0
    write_geotiff(path, pixels)
    with open_raster(path) as raster:
        lattice = cell_lattice(raster, cell, cell)
        share = valid_cells(raster, lattice)
    exact = [(pixels[0, box.y : box.stop_y, box.x : box.stop_x] > 0).mean() for box in lattice]
    assert np.abs(share.ravel() - exact).max() <= 16 / 4 / cell  # half a cell of the survey, at worst half wrong


def test_aerial_pictures_without_a_place_are_data(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (245, 245, 245)).save(tmp_path / "a.png")
    with open_raster(tmp_path / "a.png", PixelSize(0.6)) as raster:
        assert valid_cells(raster, cell_lattice(raster, 32, 32)).min() == 1


def test_a_lattice_is_a_value() -> None:
    lattice = CellLattice(4, 2, 3, 5, 1, 7)
    assert lattice == CellLattice(4, 2, 3, 5, 1, 7)
    assert lattice.extent == Box(1, 7, 8, 12)
