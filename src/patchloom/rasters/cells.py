"""The lattice of cells that a slide is cut into, and how much of each is worth having."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import GeometryError
from patchloom.geometry import Box
from patchloom.rasters.raster import Raster
from patchloom.rasters.rescaled import Rescaled
from patchloom.rasters.survey import Survey, survey_data, survey_tissue

Mode = Literal["auto", "tissue", "data", "all"]

_MICROSCOPE_M = 20e-6  # pixels below this are a microscope's


@dataclass(frozen=True, slots=True)
class CellLattice:
    """Square cells of `cell_px`, `stride_px` apart; the corner of cell (0, 0) is at (y, x).

    Counted in pixels of the field that it was made for. Every cell lies inside the region.
    """

    cell_px: int
    stride_px: int
    rows: int
    cols: int
    y: int
    x: int

    def box(self, row: int, col: int) -> Box:
        """The pixels of a cell. Raises GeometryError outside the lattice."""
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise GeometryError(f"there is no cell ({row}, {col}) in a lattice of {self.rows} x {self.cols}")
        return Box(self.y + row * self.stride_px, self.x + col * self.stride_px, self.cell_px, self.cell_px)

    def __len__(self) -> int:
        return self.rows * self.cols

    def __iter__(self) -> Iterator[Box]:
        return (self.box(row, col) for row in range(self.rows) for col in range(self.cols))

    @property
    def extent(self) -> Box:
        """The smallest box that holds every cell."""
        height, width = ((count - 1) * self.stride_px + self.cell_px for count in (self.rows, self.cols))
        return Box(self.y, self.x, height, width)


def cell_lattice(slide: Raster | Rescaled, cell_px: int, stride_px: int, region: Box | None = None) -> CellLattice:
    """As many whole cells as fit into the region (the whole slide, where None), from its top left corner.

    The corner, not the middle, because TRIDENT and CLAM lay their patches so; what is left over at the right and
    the bottom is less than a stride. Raises GeometryError where no cell fits, or the region leaves the slide.
    """
    if cell_px < 1 or stride_px < 1:
        raise GeometryError(f"cells of {cell_px} px with stride {stride_px} px: both must be at least 1")
    whole = slide.frame.box
    region = region or whole
    if not whole.contains(region):
        raise GeometryError(
            f"region {_said(region)} does not lie inside `{slide.name}`, {whole.width} x {whole.height} px"
        )
    if min(region.shape) < cell_px:
        raise GeometryError(
            f"no cell of {cell_px} px fits into region {_said(region)} of `{slide.name}`"
            + (f" at {slide.frame.pixel_size}" if slide.frame.pixel_size else "")
        )
    rows, cols = ((side - cell_px) // stride_px + 1 for side in region.shape)
    return CellLattice(cell_px, stride_px, rows, cols, region.y, region.x)


def valid_cells(slide: Raster | Rescaled, lattice: CellLattice, mode: Mode = "auto") -> NDArray[np.float64]:
    """The share, 0 to 1, of each cell (rows, cols) that is tissue (`tissue`), holds data (`data`) or exists (`all`).

    `auto` is `data` for georeferenced rasters and for pixels too long for a microscope, else `tissue`.
    Computed from a coarse survey in bands: bounded memory at any size, seconds for 20,000 x 20,000 px.
    """
    shape = (lattice.rows, lattice.cols)
    if mode == "all":
        return np.ones(shape)
    raster, ratio = (slide.raster, slide.ratio) if isinstance(slide, Rescaled) else (slide, 1.0)
    region = slide.source_box(lattice.extent) if isinstance(slide, Rescaled) else lattice.extent
    survey = _survey(raster, region, mode)
    boxes = [tuple(side * ratio for side in (box.y, box.x, box.stop_y, box.stop_x)) for box in lattice]
    return survey.over(boxes).reshape(shape)  # type: ignore[arg-type]


def _survey(raster: Raster, region: Box, mode: Mode) -> Survey:
    if mode == "auto":
        size = raster.frame.pixel_size
        microscope = raster.geo is None and (size is None or size.metres < _MICROSCOPE_M)
        mode = "tissue" if microscope else "data"
    return survey_tissue(raster, region) if mode == "tissue" else survey_data(raster, region)


def _said(region: Box) -> str:
    return f"{region.x},{region.y},{region.width},{region.height} (x, y, width, height)"
