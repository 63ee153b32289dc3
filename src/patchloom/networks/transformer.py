"""Transformers over the patches of a window: what DiT, PixArt and PixCell share.

Peebles & Xie (2023), "Scalable diffusion models with transformers"; Chen et al. (2023), "PixArt-alpha". A window is cut
into squares of latents, each a row; blocks of attention and feed-forward layers are scaled, shifted and gated by rows
that say the noise level (adaLN). Rows know their place by sines and cosines over the *window*, so a network is made for
windows of the side that it was trained on: `TransformerShape.side`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.errors import InputError
from patchloom.networks.ldm_layers import Attention, timestep_waves

WAVES = 256  # numbers that a timestep is turned into first, in every model of this family
_OUT_EPS = 1e-6
_MOST, _MOST_DEPTH = 1 << 16, 1024  # beyond anything ever trained: a mistake, or a trap


@dataclass(frozen=True, slots=True)
class TransformerShape:
    """Sizes of a DiT (told one of some classes) or of a PixArt (told tokens). Raises InputError where they do not fit.

    `side` is of the windows that it was trained on, and `spread` what their places are divided by: row i of n lies at
    `i * (side / patch) / (n * spread)`.
    """

    told: Literal["class", "tokens"]
    context: int  # how many classes there are, or the length of a token
    channels: int = 4
    heads: int = 16
    head_width: int = 72
    depth: int = 28
    patch: int = 2  # latents along a patch
    side: int = 32  # latents along the windows that it was trained on
    spread: float = 1.0
    variance: bool = True  # it also predicts a variance, which is not used
    tokens: int = 1  # of a window: a square number of cells, or one
    null: bool = False  # a learned value for each token that says nothing; else zeros do
    eps: float = 1e-6  # of the norms

    def __post_init__(self) -> None:
        numbers = (self.context, self.channels, self.heads, self.head_width, self.depth, self.patch, self.side)
        if not all(0 < number <= _MOST for number in (*numbers, self.width, self.tokens)) or self.depth > _MOST_DEPTH:
            raise InputError(f"sizes are from 1 to {_MOST}, and at most {_MOST_DEPTH} blocks: {self}")
        if self.side % self.patch or self.width % 4:
            raise InputError(f"a window holds whole patches, and a width places along both axes: {self}")
        if isqrt(self.tokens) ** 2 != self.tokens or (self.told == "class" and (self.tokens > 1 or self.null)):
            raise InputError(f"a window is told one class, or a square of tokens, not {self.tokens} tokens: {self}")
        if not 0 < self.spread < float("inf") or not 0 < self.eps < 1:
            raise InputError(f"spread and eps are positive numbers: {self}")

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return self.heads * self.head_width

    @property
    def cells(self) -> int:
        """Cells of the grid of embeddings along a window's side."""
        return isqrt(self.tokens)

    @property
    def multiple(self) -> int:
        """Windows must have sides that are multiples of this."""
        return self.patch


class Patches(nn.Module):
    """A window as rows that know their place, and rows as a window again."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.shape = shape
        answers = shape.channels * (2 if shape.variance else 1)
        self.enter = nn.Conv2d(shape.channels, shape.width, shape.patch, stride=shape.patch)
        self.leave = nn.Linear(shape.width, shape.patch**2 * answers)

    def rows(self, x: Tensor) -> Tensor:
        """x (b, channels, h, w) to (b, patches, width). Raises InputError for a part of a patch."""
        shape, (height, width) = self.shape, x.shape[2:]
        if height % shape.patch or width % shape.patch:
            raise InputError(f"a window of {height} x {width} latents holds no whole patches of {shape.patch}")
        flat = self.enter(x).flatten(2).transpose(1, 2)
        grid = height // shape.patch, width // shape.patch
        known = places(grid, shape.width, shape.side // shape.patch, shape.spread)
        return (flat + known.to(x.device)).to(x.dtype)  # type: ignore[no-any-return]

    def window(self, rows: Tensor, height: int, width: int) -> Tensor:
        """Rows to (b, channels, height, width); what is said of a variance is left out."""
        patch = self.shape.patch
        squares = self.leave(rows).unflatten(2, (patch, patch, -1)).unflatten(1, (height // patch, width // patch))
        whole = squares.permute(0, 5, 1, 3, 2, 4).reshape(len(rows), -1, height, width)
        return whole[:, : self.shape.channels]  # type: ignore[no-any-return]


class Block(nn.Module):
    """Self-attention, where there are tokens attention to them, and a feed-forward layer, each beside an identity.

    The noise level shifts, scales and gates the first and the last; the tokens are read by the rows as they are.
    """

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        width = shape.width
        told = shape.told == "tokens"
        self.first_eps, self.feed_eps = (shape.eps if told else _OUT_EPS), shape.eps
        self.self_attention = Attention(width, width, shape.heads, bias=True)
        self.cross_attention = Attention(width, width, shape.heads, bias=True) if told else None
        self.feed_in = nn.Linear(width, 4 * width)
        self.feed_out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, noise: Tensor, tokens: Tensor | None) -> Tensor:
        """x (b, n, width), noise (b, 6, width) and tokens (b, m, width) to (b, n, width)."""
        shift, scale, gate, feed_shift, feed_scale, feed_gate = noise.chunk(6, dim=1)
        own = modulated(x, shift, scale, self.first_eps)
        x = x + gate * self.self_attention(own, own)
        if self.cross_attention is not None and tokens is not None:
            one = tokens.shape[1] == 1
            x = x + (self.cross_attention.constant(tokens) if one else self.cross_attention(x, tokens))
        own = modulated(x, feed_shift, feed_scale, self.feed_eps)
        return x + feed_gate * self.feed_out(F.gelu(self.feed_in(own), approximate="tanh"))  # type: ignore[no-any-return]


class NoiseRow(nn.Module):
    """A timestep as one row: waves, then two linear layers."""

    def __init__(self, width: int, *, to_the_end: bool) -> None:
        super().__init__()
        self.to_the_end = to_the_end
        self.first = nn.Linear(WAVES, width)
        self.second = nn.Linear(width, width)

    def forward(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """(b,) to (b, width)."""
        waves = timestep_waves(label, WAVES, to_the_end=self.to_the_end).to(dtype)
        return self.second(F.silu(self.first(waves)))  # type: ignore[no-any-return]


def modulated(x: Tensor, shift: Tensor, scale: Tensor, eps: float = _OUT_EPS) -> Tensor:
    """Each row to mean 0 and deviation 1, then scaled by 1 + scale and shifted."""
    return F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale) + shift


@lru_cache(maxsize=16)
def places(grid: tuple[int, int], width: int, base: int, spread: float) -> Tensor:
    """Where the rows of a (rows, cols) grid lie, (rows * cols, width): sines, then cosines of x, then those of y.

    Coordinates run from 0 to base / spread whatever the grid, as in diffusers: another window than the trained one is
    seen stretched.
    """
    y, x = (torch.arange(count, dtype=torch.float64) * base / (count * spread) for count in grid)
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    across, down = (
        torch.cat([angles.sin(), angles.cos()], dim=1) for angles in (torch.outer(axis, frequencies) for axis in (x, y))
    )
    rows, cols = grid
    both = torch.cat([across.repeat(rows, 1), down.repeat_interleave(cols, dim=0)], dim=1)
    return both.float()
