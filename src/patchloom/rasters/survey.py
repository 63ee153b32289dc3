"""Where a raster is worth looking at, on a coarse grid: tissue on a bright-field slide, data on a map.

Tissue is what is stained or textured at about 2 um a pixel. Stain alone misses fat and loose collagen, which are as
pale as glass; texture alone misses pools of mucus and keratin; colour against one background misses glass with a
pink tint. Then specks are dropped and gaps as wide as a fat cell are closed, so that the inside of fat cells counts.
The thresholds are absolute: the answer for a place does not depend on which region is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchloom.geometry import Box, PixelSize
from patchloom.rasters.raster import Raster
from patchloom.rasters.resample import Axis
from patchloom.rasters.source import Bool

_FINE_M = 2e-6  # pixel size at which texture is looked at
_ASSUMED = PixelSize(0.5e-6)  # of a slide that does not say: only how far gaps are closed hangs on it
_CELL = 4  # fine pixels along the side of a survey cell
_STAINED = 186  # darkest channel below this: optical density above 0.12 against glass of 245
_BLACK = 20  # brightest channel below this, without texture: filled by a scanner or converter, not stained
_TEXTURE = 4.0  # deviation of grey levels inside a cell; glass has 0 to 1.5, mostly from JPEG, and debris on it 2 to 6
_SPECK_M = 28e-6  # a cell stays if a fifth of the cells within this distance are tissue too
_SPECK_SHARE = 0.2
_GAP_M = 32e-6  # gaps of up to twice this are closed
_ISLAND_M = 24e-6  # islands of up to twice this are dropped
_BAND_ROWS = 32  # of survey cells at once
_DATA_CELL_PX = 16


@dataclass(frozen=True, slots=True)
class Survey:
    """The share of each cell that is valid; cell (0, 0) has its corner at (y, x) and `step` pixels a side."""

    y: int
    x: int
    step: int
    share: NDArray[np.float32]

    def over(self, boxes: Sequence[tuple[float, float, float, float]]) -> NDArray[np.float64]:
        """The mean share under boxes (top, left, bottom, right), in pixels of level 0."""
        table = np.pad(self.share.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        top, left, bottom, right = np.asarray(boxes, np.float64).T
        y0, y1 = (top - self.y) / self.step, (bottom - self.y) / self.step
        x0, x1 = (left - self.x) / self.step, (right - self.x) / self.step
        total = _at(table, y1, x1) - _at(table, y0, x1) - _at(table, y1, x0) + _at(table, y0, x0)
        return np.asarray(np.clip(total / ((y1 - y0) * (x1 - x0)), 0, 1))


def survey_tissue(raster: Raster, region: Box) -> Survey:
    """The tissue in a region of a bright-field slide, in cells of about 8 um. Bounded memory."""
    size = raster.frame.pixel_size or _ASSUMED
    fine = max(round(_FINE_M / size.metres), 1)
    step = fine * _CELL
    cell_m = step * size.metres
    margin = round((_SPECK_M + 2 * _GAP_M + 2 * _ISLAND_M) / cell_m) + 2
    cells = _cells(raster.frame.box, region, step, margin)
    tops = range(cells.y, cells.stop_y, _BAND_ROWS)
    bands = [Box(top, cells.x, min(_BAND_ROWS, cells.stop_y - top), cells.width) for top in tops]
    mask = _cleaned(np.concatenate([_stained_or_textured(raster, fine, band) for band in bands]), cell_m)
    return Survey(cells.y * step, cells.x * step, step, mask.astype(np.float32))


def survey_data(raster: Raster, region: Box) -> Survey:
    """The share of pixels that hold data, in cells of 16 px. Bounded memory."""
    step = _DATA_CELL_PX
    cells = _cells(raster.frame.box, region, step, 0)
    tops = range(cells.y, cells.stop_y, _BAND_ROWS)
    bands = [Box(top, cells.x, min(_BAND_ROWS, cells.stop_y - top), cells.width) for top in tops]
    share = np.concatenate([raster.valid_share(band, step) for band in bands])
    return Survey(cells.y * step, cells.x * step, step, share)


def _cells(whole: Box, region: Box, step: int, margin: int) -> Box:
    """The survey cells that a region touches and `margin` more on each side, as far as the raster goes."""
    top, left = region.y // step, region.x // step
    touched = Box(top, left, -(-region.stop_y // step) - top, -(-region.stop_x // step) - left)
    return touched.grown(margin).meet(Box(0, 0, -(-whole.height // step), -(-whole.width // step)))


def _stained_or_textured(raster: Raster, fine: int, cells: Box) -> Bool:
    """The raw mask of survey cells; cells cut by the raster's edge see its last pixels repeated."""
    rows = Axis(cells.y * _CELL, cells.height * _CELL, float(fine))
    cols = Axis(cells.x * _CELL, cells.width * _CELL, float(fine))
    pixels = raster.sampled(rows, cols)
    squares = pixels.reshape(3, cells.height, _CELL, cells.width, _CELL).astype(np.float32)
    colour, texture = squares.mean(axis=(2, 4)), squares.mean(axis=0).std(axis=(1, 3))
    black = (colour.max(axis=0) < _BLACK) & (texture < _TEXTURE)
    return np.asarray(((colour.min(axis=0) < _STAINED) | (texture > _TEXTURE)) & ~black)


def _cleaned(mask: Bool, cell_m: float) -> Bool:
    speck, gap, island = (max(round(length / cell_m), 1) for length in (_SPECK_M, _GAP_M, _ISLAND_M))
    mask = mask & (_neighbours(mask, speck) >= _SPECK_SHARE)
    closed = ~_grown(~_grown(mask, gap), gap)
    return _grown(~_grown(~closed, island), island)


def _neighbours(mask: Bool, radius: int) -> NDArray[np.float64]:
    """The share of True within a square of 2 radius + 1 cells; the edge repeats the last cells."""
    side = 2 * radius + 1
    table = np.pad(np.pad(mask, radius, mode="edge").astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return (
        np.asarray(table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]) / side**2
    )


def _grown(mask: Bool, radius: int) -> Bool:
    return _neighbours(mask, radius) > 0.5 / (2 * radius + 1) ** 2


def _at(table: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """A summed-area table at places between its entries: linear, which is exact for cells of one value."""
    y, x = np.clip(y, 0, table.shape[0] - 1), np.clip(x, 0, table.shape[1] - 1)
    row, col = np.minimum(y.astype(int), table.shape[0] - 2), np.minimum(x.astype(int), table.shape[1] - 2)
    down, across = y - row, x - col
    above = table[row, col] * (1 - across) + table[row, col + 1] * across
    below = table[row + 1, col] * (1 - across) + table[row + 1, col + 1] * across
    return np.asarray(above * (1 - down) + below * down)
