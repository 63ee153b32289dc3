"""One plot: its pixels, and for each view its latents and the cells of the embedding grid under and around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.datasets.stain import Recolouring, recoloured
from patchloom.datasets.views import VIEWS, lay, lay_place
from patchloom.encoders.embed import encode
from patchloom.encoders.encoder import Encoder
from patchloom.geometry import Box
from patchloom.rasters.cells import CellLattice
from patchloom.rasters.raster import Slide

_AROUND = 4  # strides; one would do for the grid as it is, the others let training take every second or fourth cell
_CPU = torch.device("cpu")
_TILE = 64  # latents are made in tiles of this side, so that memory does not grow with the plot


@dataclass(frozen=True, slots=True)
class FirstStage:
    """An autoencoder as `prepare` needs it."""

    autoencoder: Autoencoder
    digest: str  # of its weights
    reach: int  # latents around one whose pixels it depends on
    device: torch.device = _CPU  # where its weights are

    @property
    def factor(self) -> int:
        """Pixels a latent."""
        return self.autoencoder.factor

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """The latents (channels, h, w) of uint8 pixels (3, height, width), both on the host."""
        return self.autoencoder.encode(pixels[None].contiguous().to(self.device))[0].cpu()


@dataclass(frozen=True, slots=True)
class Models:
    """What computes beside the pixels; a dataset for an autoencoder needs neither."""

    encoder: Encoder | None = None
    first_stage: FirstStage | None = None


@dataclass(frozen=True, slots=True)
class PlotCells:
    """The cells around one plot: rows and columns of the slide's lattice, and which cells are valid."""

    lattice: CellLattice
    rows: slice
    cols: slice
    valid: Tensor  # (rows, cols) bool, of these rows and columns

    @classmethod
    def around(cls, lattice: CellLattice, valid: Tensor, box: Box) -> PlotCells:
        """The cells whose centres lie in a box or at most four strides outside it; the nearest one where none does."""
        rows = _near(lattice, lattice.y, lattice.rows, box.y, box.stop_y)
        cols = _near(lattice, lattice.x, lattice.cols, box.x, box.stop_x)
        return cls(lattice, rows, cols, valid[rows, cols])

    @property
    def corners(self) -> tuple[Box, Box]:
        """The first and the last cell."""
        first = self.lattice.box(self.rows.start, self.cols.start)
        return first, self.lattice.box(self.rows.stop - 1, self.cols.stop - 1)

    def boxes(self) -> list[Box]:
        """The valid cells, row by row."""
        places = self.valid.nonzero().tolist()
        return [self.lattice.box(self.rows.start + row, self.cols.start + col) for row, col in places]


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Pixels (height, width, 3) and the box of the slide that they are."""

    box: Box
    values: Tensor

    def at(self, box: Box) -> Tensor:
        return self.values[box.inside(self.box)]


@dataclass(frozen=True, slots=True)
class PlotViews:
    """How a plot is laid down, and in what colours its mirrored views are."""

    name: str  # of the plot: colours are drawn by it
    views: tuple[int, ...]
    recolouring: Recolouring | None = None

    def pixels(self, plain: Tensor, view: int) -> Tensor:
        """The plot's uint8 pixels (height, width, 3), unturned, in the colours of a view."""
        if self.recolouring is None or view < VIEWS // 2:
            return plain
        return recoloured(plain, self.recolouring, f"{self.name}.{view}")


def cut(slide: Slide, box: Box, cells: PlotCells, views: PlotViews, models: Models) -> dict[str, Tensor]:
    """The tensors of a plot, as `dataset.py` names them."""
    stage = models.first_stage
    around = box.grown(stage.reach * stage.factor if stage else 0).meet(slide.frame.box)
    seen = _hull(around, *cells.corners)
    plain = _Pixels(seen, torch.from_numpy(np.ascontiguousarray(slide.read(seen).transpose(1, 2, 0))))
    tensors = {"pixels": plain.at(box).clone()}
    for view in views.views:
        pixels = _Pixels(seen, views.pixels(plain.values, view))
        if stage:
            tensors[f"latents.{view}"] = _latents(pixels, box, view, stage)
        if models.encoder:
            tensors |= _grid(pixels, box, cells, view, models.encoder)
    return tensors


def _near(lattice: CellLattice, corner: int, count: int, start: int, stop: int) -> slice:
    centres = corner + lattice.cell_px / 2 + lattice.stride_px * np.arange(count)
    reach = _AROUND * lattice.stride_px
    found = np.flatnonzero((centres >= start - reach) & (centres <= stop + reach))
    if not found.size:
        found = np.abs(centres - (start + stop) / 2).argmin(keepdims=True)
    return slice(int(found[0]), int(found[-1]) + 1)


def _hull(*boxes: Box) -> Box:
    y, x = min(box.y for box in boxes), min(box.x for box in boxes)
    return Box(y, x, max(box.stop_y for box in boxes) - y, max(box.stop_x for box in boxes) - x)


def _latents(pixels: _Pixels, box: Box, view: int, stage: FirstStage) -> Tensor:
    """The plot's latents (h, w, channels) float16 in a view, encoded with a margin so that its edges are no edges."""
    laid = lay(pixels.values, view).permute(2, 0, 1)
    whole = Box(0, 0, *laid.shape[1:])
    ends = ((box.y, box.x), (box.stop_y, box.stop_x))
    places = [lay_place(y - pixels.box.y, x - pixels.box.x, *pixels.box.shape, view) for y, x in ends]
    top, left = (int(min(place)) for place in zip(*places, strict=True))
    height, width = (side // stage.factor for side in (box.shape[::-1] if view % 2 else box.shape))
    rows = []
    for y in range(0, height, _TILE):
        tiles = (Box(y, x, min(_TILE, height - y), min(_TILE, width - x)) for x in range(0, width, _TILE))
        rows.append(torch.cat([_tile(laid, whole, (top, left), tile, stage) for tile in tiles], dim=2))
    return torch.cat(rows, dim=1).permute(1, 2, 0).to(torch.float16).contiguous()


def _tile(laid: Tensor, whole: Box, corner: tuple[int, int], tile: Box, stage: FirstStage) -> Tensor:
    """The latents (channels, h, w) of a tile, counted in latents from the plot's `corner` in `laid`."""
    factor = stage.factor
    pixels = tile.times(factor).moved(*corner)
    room = (pixels.y, whole.stop_y - pixels.stop_y, pixels.x, whole.stop_x - pixels.stop_x)
    above, below, before, after = (min(stage.reach, side // factor) for side in room)
    seen = Box(tile.y - above, tile.x - before, tile.height + above + below, tile.width + before + after)
    taken = seen.times(factor).moved(*corner).inside(whole)
    return stage.encode(laid[:, *taken])[:, *tile.inside(seen)]


def _grid(pixels: _Pixels, box: Box, cells: PlotCells, view: int, encoder: Encoder) -> dict[str, Tensor]:
    """Cells, validity and origin of the grid around a plot in a view, each cell encoded as it lies."""
    embeddings = torch.zeros(*cells.valid.shape, encoder.spec.dim)
    if cells.valid.any():
        crops = [lay(pixels.at(cell), view).permute(2, 0, 1) for cell in cells.boxes()]
        embeddings[cells.valid] = torch.from_numpy(encode(encoder, torch.stack(crops).numpy()))
    half = cells.lattice.cell_px / 2
    places = [(cell.y + half - box.y, cell.x + half - box.x) for cell in cells.corners]
    laid = [lay_place(*place, *box.shape, view) for place in places]
    return {
        f"cells.{view}": lay(embeddings, view).to(torch.float16).contiguous(),
        f"valid.{view}": lay(cells.valid, view).contiguous(),
        f"origin.{view}": torch.tensor([min(axis) for axis in zip(*laid, strict=True)], dtype=torch.float32),
    }
