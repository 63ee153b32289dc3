"""What tells ZoomLDM (Yellapragada et al. 2025) about a window: its magnification, and a grid of embeddings summarised.

One U-Net paints windows at many magnifications. A window at the finest is told one embedding, at half that two by two
of them, and so on; more than eight by eight are averaged to that. A transformer (Vaswani et al. 2017, with the norms
first) reads the magnification and the grid, and its answers are the tokens. Nothing said is zeros in their place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.errors import InputError
from patchloom.networks.ldm_tokens import MOST, EmbedderShape, TokenCondition, TokenEmbedder

_MOST_DEPTH = 256  # beyond anything ever trained: a mistake, or a trap
_EPS = 1e-6  # of the transformer's norms; the last one, outside it, has torch's own


@dataclass(frozen=True, slots=True)
class ZoomShape(EmbedderShape):
    """Sizes of the network that makes the tokens, 1 + side² of them for each window."""

    magnifications: int = 8
    magnification: int = 0  # the one that windows are taken to have where nothing else is said; 0 is the finest
    depth: int = 12
    heads: int = 8
    hidden: int = 2048
    side: int = 8  # cells along a side of the largest grid

    def __post_init__(self) -> None:
        sizes = (self.patch, self.width, self.heads, self.hidden, self.side**2, self.magnifications)
        if not all(0 < size <= MOST for size in sizes) or self.side < 1:
            raise InputError(f"the sizes of a network that summarises grids are from 1 to {MOST}: {self}")
        if not 0 < self.depth <= _MOST_DEPTH:
            raise InputError(f"a network that summarises grids has 1 to {_MOST_DEPTH} blocks: {self}")
        if self.width % self.heads or self.region is not None or not 0 <= self.magnification < self.magnifications:
            raise InputError(f"the sizes of a network that summarises grids do not fit one another: {self}")


class ZoomEmbedder(TokenEmbedder):
    """Grids of embeddings and magnifications to tokens."""

    shape: ZoomShape

    def __init__(self, shape: ZoomShape) -> None:
        super().__init__(shape)
        self.magnifications = nn.Embedding(shape.magnifications, shape.width)
        self.padding = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + shape.side**2, shape.width))
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, eps=_EPS)
        self.leave = nn.Linear(shape.width, shape.width)
        self.leave_norm = nn.LayerNorm(shape.width)

    def forward(self, patch: Tensor, region: Tensor | None = None) -> Tensor:
        """Tokens (b, 1 + side², width) of one embedding (b, patch) a window, at the shape's magnification."""
        if region is not None:
            raise InputError("this model is told grids of patch embeddings alone: leave the region out")
        return self.tokens(patch[:, None, None, :], self.shape.magnification)

    def tokens(self, grids: Tensor, magnification: int) -> Tensor:
        """Tokens (b, 1 + side², width) of grids (b, rows, cols, patch), raw as their encoder gave them.

        Raises InputError for grids or a magnification that the network was not trained on.
        """
        self._check(grids, magnification)
        weight = self.patch.weight
        cells = self.patch(self._prepared(grids.to(weight.device, torch.float32)).to(weight.dtype).flatten(1, 2))
        power = self.magnifications.weight[magnification].expand(len(cells), 1, -1)
        rows = torch.cat([power, self._centred(cells)], dim=1) + self.positions
        for block in self.blocks:
            rows = block(rows)
        return self.leave_norm(self.leave(self.norm(rows)))  # type: ignore[no-any-return]

    def told(self, grids: Tensor, magnification: int) -> TokenCondition:
        """What windows are told by grids (b, rows, cols, patch), beside nothing said: zeros."""
        with torch.no_grad():
            tokens = self.tokens(grids, magnification)
        return TokenCondition(tokens, torch.zeros_like(tokens))

    def condition(self, patch: Tensor, region: Tensor | None = None) -> TokenCondition:
        """What windows are told by one embedding (b, patch) each; one of zeros says nothing."""
        with torch.no_grad():
            tokens = self(patch, region)
            tokens = torch.where(patch.any(dim=1)[:, None, None].to(tokens.device), tokens, 0.0)
        return TokenCondition(tokens, torch.zeros_like(tokens))

    def _check(self, grids: Tensor, magnification: int) -> None:
        if grids.ndim != 4 or grids.shape[3] != self.shape.patch:
            raise InputError(
                f"grids are {tuple(grids.shape[1:])} here, but this model was trained on rows and columns of "
                f"{self.shape.patch}-d embeddings; embed with the encoder that it was trained with"
            )
        if not 0 <= magnification < self.shape.magnifications:
            raise InputError(
                f"this model knows magnifications 0 to {self.shape.magnifications - 1}, not {magnification}"
            )
        rows, cols = (min(side, self.shape.side) for side in grids.shape[1:3])
        if rows * cols > 1 and rows * cols % 2:
            raise InputError(f"grids of {rows} x {cols} embeddings have no middle here: give one, or an even number")

    def _prepared(self, grids: Tensor) -> Tensor:
        """Averaged to `side` cells along each side at most, then each cell to mean 0 and deviation 1."""
        rows, cols = (min(side, self.shape.side) for side in grids.shape[1:3])
        if (rows, cols) != tuple(grids.shape[1:3]):
            grids = F.adaptive_avg_pool2d(grids.permute(0, 3, 1, 2), (rows, cols)).permute(0, 2, 3, 1)
        if not self.shape.normalise:
            return grids
        mean, deviation = grids.mean(dim=-1, keepdim=True), grids.std(dim=-1, keepdim=True)
        return (grids - mean) / (deviation + 1e-8)

    def _centred(self, cells: Tensor) -> Tensor:
        """Cells (b, n, width) in the middle of `side`² places, the learned padding around them."""
        places, count = self.shape.side**2, cells.shape[1]
        first = places // 2 - count // 2
        before, after = (self.padding.expand(len(cells), some, -1) for some in (first, places - first - count))
        return torch.cat([before, cells, after], dim=1)


class _Block(nn.Module):
    def __init__(self, shape: ZoomShape) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.width, eps=_EPS)
        self.attention = nn.MultiheadAttention(shape.width, shape.heads, batch_first=True)
        self.feed_norm = nn.LayerNorm(shape.width, eps=_EPS)
        self.feed_in = nn.Linear(shape.width, shape.hidden)
        self.feed_out = nn.Linear(shape.hidden, shape.width)

    def forward(self, rows: Tensor) -> Tensor:
        """(b, n, width) to the same."""
        own = self.norm(rows)
        rows = rows + self.attention(own, own, own, need_weights=False)[0]
        return rows + self.feed_out(F.gelu(self.feed_in(self.feed_norm(rows))))  # type: ignore[no-any-return]
