"""How transformers are told about a window: by a token for each of the cells that it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from patchloom.errors import GeometryError, InputError
from patchloom.geometry import Box
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.ring import Wrap
from patchloom.loom.slerp import Interpolant, middles
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.transformer import TransformerShape


class Told(Protocol):
    """A network that says itself what it is told by the cells of a window."""

    shape: TransformerShape

    def condition(self, embeddings: Tensor, known: Tensor) -> TokenCondition:
        """Embeddings (b, tokens, dim), row by row, and which of them say something (b, tokens)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class CellTokenScene:
    """A grid of embeddings over a canvas of latents, as one token for each part of a window, row by row.

    A window that lies on cells is told those cells. Between them each part is told the slerp of the four cells around
    its middle. A part of which nothing is known says nothing in its own place.
    """

    cells: Interpolant
    network: Told

    def __post_init__(self) -> None:
        dim, held = self.network.shape.context, self.cells.embeddings.shape
        if len(held) != 3 or held[2] != dim or held[:2] != self.cells.valid.shape:
            raise InputError(
                f"the grid is {held} with {self.cells.valid.shape} cells, but this model is told {dim} values a cell; "
                "embed with the encoder that it was trained with"
            )

    @classmethod
    def of(cls, grid: EmbeddingGrid, factor: int, network: Told) -> CellTokenScene:
        """The scene of a grid on its own canvas, `factor` pixels a latent. Raises GeometryError for a small one."""
        side, (height, width) = network.shape.side, (length // factor for length in grid.canvas)
        if min(height, width) < side:
            raise GeometryError(
                f"the grid describes {grid.canvas[1]} x {grid.canvas[0]} px (width x height), but this model sees "
                f"windows of {side * factor} x {side * factor} px and no smaller; embed a larger region"
            )
        return cls(Interpolant.of(grid, factor), network)

    def joined(self, wrap: Wrap, shape: tuple[int, int]) -> CellTokenScene:
        """The same scene on a canvas (height, width) that closes upon itself; what `Interpolant.joined` raises."""
        return replace(self, cells=self.cells.joined(wrap, shape))

    def condition(self, boxes: Sequence[Box]) -> TokenCondition:
        """The tokens of each window, and those of nothing said. Raises InputError for windows of another side."""
        shape = self.network.shape
        odd = next((box.shape for box in boxes if box.shape != (shape.side, shape.side)), None)
        if odd is not None:
            raise InputError(
                f"this model knows its way in windows of {shape.side} x {shape.side} latents alone, not {odd[0]} x "
                f"{odd[1]}: the image must be as large as one"
            )
        vectors, known = self.cells.at(middles(boxes, shape.cells))
        size = len(boxes), shape.tokens
        return self.network.condition(torch.from_numpy(vectors).view(*size, -1), torch.from_numpy(known).view(size))

    def covers(self, box: Box) -> bool:
        """Whether a window is told anything."""
        parts = middles([box], self.network.shape.cells)
        return any(self.cells.near(part) for part in np.split(parts, len(parts)))
