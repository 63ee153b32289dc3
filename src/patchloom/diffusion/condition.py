"""What an image is conditioned on: the protocol, and the grid of embeddings as a window sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor


class Condition(Protocol):
    """A batch of conditions, one entry an image."""

    def __len__(self) -> int: ...

    def null(self) -> Self:
        """The same batch with nothing said: the dropped condition that classifier-free guidance needs."""
        ...

    def join(self, other: Self) -> Self:
        """The entries of this batch followed by those of another."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The batch on a device, its floating values in a dtype."""
        ...


@dataclass(frozen=True, slots=True)
class GridCondition:
    """The cells of an embedding grid around each window of a batch, and where they lie in it.

    Positions are continuous coordinates in latents from the window's top left corner: latent i spans [i, i + 1).
    A window sees the bilinear interpolant of the cells, held constant beyond the outermost centres; it is one
    function of the canvas, so two windows that share a latent are told the same about it.
    """

    cells: Tensor  # (b, rows, cols, dim) embeddings
    valid: Tensor  # (b, rows, cols) bool; False is background, or a cell that no source covers
    origin: Tensor  # (b, 2) y and x of the centre of cell (0, 0)
    step: Tensor  # (b, 2) from one centre to the next, y and x
    dropped: Tensor  # (b,) bool; True says nothing about the whole window

    def __len__(self) -> int:
        return self.cells.shape[0]

    def null(self) -> GridCondition:
        """The same windows with the condition dropped."""
        return GridCondition(self.cells, self.valid, self.origin, self.step, torch.ones_like(self.dropped))

    def join(self, other: GridCondition) -> GridCondition:
        """This batch followed by another with as many cells a window."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__slots__)
        return GridCondition(*(torch.cat(pair) for pair in pairs))

    def take(self, index: Tensor) -> GridCondition:
        """The entries numbered `index` (n,)."""
        return GridCondition(*(getattr(self, name)[index] for name in self.__slots__))

    def to(self, device: torch.device, dtype: torch.dtype) -> GridCondition:
        """The batch on a device; the cells in a dtype, the positions left as they are."""
        rest = (part.to(device) for part in (self.valid, self.origin, self.step, self.dropped))
        return GridCondition(self.cells.to(device, dtype), *rest)

    def weights(self, height: int, width: int, stride: int = 1) -> tuple[Tensor, Tensor]:
        """Bilinear weights of each row and column of cells at a (height, width) plane of `stride` latents a step.

        Returns (b, height, rows) and (b, width, cols); each weight vector sums to 1. The interpolant is
        `einsum("bhr,bwc,brcd->bhwd", rows, cols, cells)`.
        """
        rows, cols = self.cells.shape[1:3]
        y = _hat(self.origin[:, 0], self.step[:, 0], rows, height, stride)
        x = _hat(self.origin[:, 1], self.step[:, 1], cols, width, stride)
        return y, x


def _hat(origin: Tensor, step: Tensor, cells: int, length: int, stride: int) -> Tensor:
    centres = (torch.arange(length, device=origin.device, dtype=torch.float32) + 0.5) * stride
    place = ((centres[None, :] - origin[:, None]) / step[:, None]).clamp(0, cells - 1)
    number = torch.arange(cells, device=origin.device, dtype=torch.float32)
    return (1 - (place[:, :, None] - number).abs()).clamp(min=0)
