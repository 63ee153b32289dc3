"""The cells of a grid inside a window, as an encoder sees them in decoded latents, and where likeness grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.guidance import gradient
from patchloom.diffusion.mirrored import mirrored
from patchloom.geometry import Box

_TILE = 64  # latents on a side that cells which are decoded together cover, or one cell where that is larger
_FLAT = 1e-12  # a shorter gradient has no direction


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """How an encoder sees latents. Both functions let gradients through; pixels are floats from 0 to 255."""

    decode: Callable[[Tensor], Tensor]  # (1, c, h, w) to (1, 3, h * factor, w * factor)
    embed: Callable[[Tensor], Tensor]  # (n, 3, cell_px, cell_px) to (n, dim)
    factor: int  # pixels a latent
    cell_px: int
    halo: int  # latents around cells that are decoded with them

    def latents(self, y: int, x: int) -> Box:
        """Those that a cell with its corner at a pixel covers, be it in part."""
        top, left = y // self.factor, x // self.factor
        bottom, right = (-(-(start + self.cell_px) // self.factor) for start in (y, x))
        return Box(top, left, bottom - top, right - left)


@dataclass(frozen=True, slots=True, eq=False)
class Aim:
    """What a cell should be, (dim,), and the corner of its pixels in its window."""

    embedding: Tensor
    y: int
    x: int


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """The cells that lie inside a window along one axis."""

    cells: Sequence[tuple[int, int]]  # the number of each, and where it begins in pixels
    apart: int  # from one to the next that does not overlap it

    @classmethod
    def of(cls, cells: GridCondition, place: int, axis: int, length: int, sight: Sight) -> Axis:
        """Those of one window of a batch, of `length` latents."""
        origin, step = (float(value[place, axis]) * sight.factor for value in (cells.origin, cells.step))
        starts = (round(origin + number * step - sight.cell_px / 2) for number in range(cells.valid.shape[1 + axis]))
        last = length * sight.factor - sight.cell_px
        inside = [(number, start) for number, start in enumerate(starts) if 0 <= start <= last]
        return cls(inside, max(min(ceil(sight.cell_px / step), len(inside)), 1))

    def blocks(self, turn: int, sight: Sight) -> Iterator[Sequence[tuple[int, int]]]:
        """The cells of a turn, as many at a time as are decoded together."""
        taken = self.cells[turn % self.apart :: self.apart]
        pitch = taken[1][1] - taken[0][1] if len(taken) > 1 else sight.cell_px
        size = max(_TILE * sight.factor // max(pitch, 1), 1)
        return (taken[start : start + size] for start in range(0, len(taken), size))


def aims(cells: GridCondition, place: int, shape: tuple[int, int], turn: int, sight: Sight) -> Iterator[list[Aim]]:
    """Cells of one window of a batch, (height, width) latents: of which no two overlap, other ones at the next turn.

    They come in blocks that are decoded together; every cell that lies wholly inside has its turn.
    """
    down, across = (Axis.of(cells, place, axis, shape[axis], sight) for axis in (0, 1))
    valid = cells.valid[place].tolist()
    for rows in down.blocks(turn, sight):
        for cols in across.blocks(turn + turn // down.apart, sight):
            block = [
                Aim(cells.cells[place, row, col].float(), y, x) for row, y in rows for col, x in cols if valid[row][col]
            ]
            if block:
                yield block


def climb(D: Tensor, block: Sequence[Aim], sight: Sight) -> Iterator[tuple[Box, Tensor]]:
    """Where each cell's cosine grows in a window (1, c, h, w): the latents that it covers, and its gradient there.

    Every gradient is divided by its own root mean square; a cell without one is left out.
    """
    parts = [sight.latents(aim.y, aim.x) for aim in block]
    tile = _around(parts, sight.halo)
    slope = gradient(lambda latents: _likeness(latents, tile, block, sight), _cut(D, tile))
    for part in parts:
        own = slope[:, :, *part.inside(tile)]
        length = float(own.float().square().mean().sqrt())
        if length > _FLAT:
            yield part, own / length


def _likeness(latents: Tensor, tile: Box, block: Sequence[Aim], sight: Sight) -> Tensor:
    """The cosine of each cell of a tile of latents and what it should be, (n,)."""
    pixels = sight.decode(latents).clamp(0, 255)
    top, left, side = tile.y * sight.factor, tile.x * sight.factor, sight.cell_px
    crops = [pixels[:, :, aim.y - top : aim.y - top + side, aim.x - left : aim.x - left + side] for aim in block]
    wanted = torch.stack([aim.embedding for aim in block])
    return torch.cosine_similarity(sight.embed(torch.cat(crops)).float(), wanted, dim=1)


def _around(parts: Sequence[Box], halo: int) -> Box:
    top, left = min(part.y for part in parts), min(part.x for part in parts)
    bottom, right = max(part.stop_y for part in parts), max(part.stop_x for part in parts)
    return Box(top, left, bottom - top, right - left).grown(halo)


def _cut(D: Tensor, tile: Box) -> Tensor:
    """A tile of a window; beyond its edges latents go on mirrored, as where a canvas is decoded."""
    whole = Box(0, 0, D.shape[2], D.shape[3])
    part = tile.meet(whole)
    rows = mirrored(D[:, :, *part.inside(whole)], 2, part.y - tile.y, tile.stop_y - part.stop_y)
    return mirrored(rows, 3, part.x - tile.x, tile.stop_x - part.stop_x)
