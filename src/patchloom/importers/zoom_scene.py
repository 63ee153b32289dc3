"""How ZoomLDM is told about a canvas at any of its magnifications: each window by the cells that lie in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.geometry import Box
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.zoom import ZoomEmbedder


@dataclass(frozen=True, slots=True, eq=False)
class ZoomScene:
    """Embeddings of patches at the finest magnification, side by side, over a canvas of latents at a coarser one.

    At magnification k a window is 2^k cells wide and is told the ones that lie in it; a window between cells is told
    those nearest to it. Nearer the edge of the grid than that, its outermost cells are repeated.
    """

    embeddings: NDArray[np.floating[Any]]  # (rows, cols, dim)
    embedder: ZoomEmbedder
    magnification: int
    window: int = 64  # latents along a side of the windows that the model was trained on

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 3 or self.window % self.cells:
            raise InputError(
                f"a grid {self.embeddings.shape} does not lie on windows of {self.window} latents at magnification "
                f"{self.magnification}, which are {self.cells} cells wide"
            )

    @property
    def cells(self) -> int:
        """Of the finest magnification, along a side of a window."""
        return int(2**self.magnification)

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width in latents of what the grid describes."""
        rows, cols = self.embeddings.shape[:2]
        return rows * self.window // self.cells, cols * self.window // self.cells

    def condition(self, boxes: Sequence[Box]) -> TokenCondition:
        """The tokens of each window, and zeros for nothing said. Raises InputError for windows of another side."""
        if any(box.shape != (self.window, self.window) for box in boxes):
            raise InputError(f"this model is told windows of {self.window} x {self.window} latents, no others")
        rows, cols = (self._along(axis, boxes) for axis in (0, 1))
        grids = np.stack([self.embeddings[r[:, None], c] for r, c in zip(rows, cols, strict=True)]).astype(np.float32)
        return self.embedder.told(torch.from_numpy(grids), self.magnification)

    def _along(self, axis: int, boxes: Sequence[Box]) -> list[NDArray[np.int64]]:
        step, last = self.window / self.cells, self.embeddings.shape[axis] - 1
        firsts = (int(np.floor((box.y, box.x)[axis] / step + 0.5)) for box in boxes)
        return [np.clip(np.arange(first, first + self.cells), 0, last) for first in firsts]
