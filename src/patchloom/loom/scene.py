"""A scene: what the whole canvas should show, asked for one window at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.diffusion.condition import GridCondition
from patchloom.errors import MismatchError
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.ring import FLAT, Cells, Wrap, straight


@dataclass(frozen=True, slots=True, eq=False)
class GridScene:
    """A grid of embeddings over a canvas of latents.

    Invalid cells are given as zeros, whatever the grid holds there; beyond the outermost cells the edge is repeated,
    which holds the bilinear interpolant constant. Along an axis that wraps there is no outermost cell.
    """

    embeddings: NDArray[np.floating[Any]]  # (rows, cols, dim); may be mapped from disk
    valid: NDArray[np.bool_]  # (rows, cols)
    origin: tuple[float, float]  # y and x of the centre of cell (0, 0), in latents from the canvas' corner
    step: tuple[float, float]  # from one centre to the next, in latents
    wrap: Wrap = FLAT

    @classmethod
    def of(cls, grid: EmbeddingGrid, factor: int, pixel_size: PixelSize | None = None) -> GridScene:
        """The scene of a grid on its own canvas, `factor` pixels a latent.

        Raises MismatchError where the grid counts in other pixels than `pixel_size`.
        """
        if pixel_size is not None and not grid.pixel_size.agrees(pixel_size):
            raise MismatchError(
                f"the grid is laid out in pixels of {grid.pixel_size}, the canvas is made in pixels of {pixel_size}; "
                f"embed the reference again with `--pixel-size {pixel_size}`"
            )
        centre, step = grid.cell_px / 2 / factor, grid.stride_px / factor
        return cls(grid.embeddings, grid.valid, (centre, centre), (step, step))

    def joined(self, wrap: Wrap, shape: tuple[int, int]) -> GridScene:
        """The same scene on a canvas (height, width) that closes upon itself; what `Cells.closed` raises."""
        cells = Cells(self.embeddings, self.valid).closed(self.step, shape, wrap, straight)
        return replace(self, embeddings=cells.embeddings, valid=cells.valid, wrap=wrap)

    def condition(self, boxes: Sequence[Box]) -> GridCondition:
        """The cells that windows of one shape see: the same number for each, so that a batch stacks."""
        places = [self._cells(box) for box in boxes]
        valid = np.stack([self.valid[rows[:, None], cols] for rows, cols, _ in places])
        cells = np.stack([np.asarray(self.embeddings[rows[:, None], cols], np.float32) for rows, cols, _ in places])
        cells[~valid] = 0
        return GridCondition(
            torch.from_numpy(cells),
            torch.from_numpy(valid),
            torch.tensor([origin for _, _, origin in places], dtype=torch.float32),
            torch.tensor([self.step] * len(places), dtype=torch.float32),
            torch.zeros(len(places), dtype=torch.bool),
        )

    def covers(self, box: Box) -> bool:
        """Whether a valid cell has weight somewhere in a window."""
        rows = self._reach(0, box.y, box.height)
        cols = self._reach(1, box.x, box.width)
        return bool(self.valid[rows[:, None], cols].any())

    def _cells(self, box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[float, float]]:
        rows, y = self._along(0, box.y, box.height)
        cols, x = self._along(1, box.x, box.width)
        return rows, cols, (y, x)

    def _along(self, axis: int, start: int, length: int) -> tuple[NDArray[np.int64], float]:
        """Which cells an interval needs along an axis, and where the first one's centre lies in it."""
        step = self.step[axis]
        first = floor((start + 0.5 - self.origin[axis]) / step)
        count = ceil((length - 1) / step) + 2
        place = self.origin[axis] + first * step - start
        return self._numbers(axis, first, first + count), place

    def _reach(self, axis: int, start: int, length: int) -> NDArray[np.int64]:
        step = self.step[axis]
        low = floor((start + 0.5 - self.origin[axis]) / step)
        high = ceil((start + length - 0.5 - self.origin[axis]) / step)
        return self._numbers(axis, low, high + 1)

    def _numbers(self, axis: int, start: int, stop: int) -> NDArray[np.int64]:
        """The cells at places start:stop of the lattice: round the ring, or the outermost again and again."""
        places, count = np.arange(start, stop), self.valid.shape[axis]
        return places % count if self.wrap[axis] else np.clip(places, 0, count - 1)
