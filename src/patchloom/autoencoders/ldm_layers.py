"""The parts of latent diffusion's first stages, from Esser et al. (2021), table 7, and Rombach et al. (2022), app. G.

Normalisation over groups of channels and the whole plane, and attention over the plane in the middle: a decoded pixel
depends on all of its tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32
_EPS = 1e-6


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=_EPS)
        self.first = nn.Conv2d(width, out, 3, padding=1)
        self.second_norm = nn.GroupNorm(GROUPS, out, eps=_EPS)
        self.second = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to (b, out, h, w)."""
        h = self.first(F.silu(self.norm(x)))
        return self.shortcut(x) + self.second(F.silu(self.second_norm(h)))  # type: ignore[no-any-return]


class PlaneAttention(nn.Module):
    """Attention of one head over all pixels of a plane, beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=_EPS)
        self.query, self.key = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.value, self.out = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to the same."""
        h = self.norm(x)
        query, key, value = (layer(h).flatten(2).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        return x + self.out(mixed.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


class Shrink(nn.Module):
    """Half the size; the odd row and column of padding lie below and to the right."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to (b, width, h / 2, w / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # type: ignore[no-any-return]


class Grow(nn.Module):
    """Twice the size, by repeating pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to (b, width, 2 h, 2 w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))  # type: ignore[no-any-return]


class Level(nn.Module):
    """Residual blocks of one resolution, each with attention where the level has it, then the change of size."""

    def __init__(self, widths: Sequence[int], attends: bool, resize: Shrink | Grow | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Residual(a, b) for a, b in pairwise(widths))
        self.attention = nn.ModuleList(PlaneAttention(width) for width in widths[1:] if attends)
        self.resize = resize

    def forward(self, x: Tensor) -> Tensor:
        """(b, widths[0], h, w) to (b, widths[-1], ...)."""
        for number, block in enumerate(self.blocks):
            x = block(x)
            if len(self.attention):
                x = self.attention[number](x)
        return x if self.resize is None else self.resize(x)


class Middle(nn.Module):
    """Attention between two residual blocks, at the coarsest resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before = Residual(width, width)
        self.attention = PlaneAttention(width)
        self.after = Residual(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to the same."""
        return self.after(self.attention(self.before(x)))  # type: ignore[no-any-return]
