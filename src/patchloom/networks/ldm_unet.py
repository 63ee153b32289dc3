"""Latent diffusion's U-Net with tokens by cross-attention, of any width, depth and places of attention.

The network of the paper's own models (Graikos et al. 2024) and of many others; Rombach et al. (2022), appendix E.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.errors import InputError
from patchloom.networks.ldm_layers import GROUPS, Grow, Residual, Shrink, Transformer, timestep_waves
from patchloom.networks.ldm_tokens import TokenCondition

_MOST, _MOST_BLOCKS, _MOST_LEVELS = 1 << 16, 1024, 12  # beyond anything ever trained: a mistake, or a trap


@dataclass(frozen=True, slots=True)
class LatentUNetShape:
    """Sizes of the U-Net; `multipliers` and `blocks` from the latents' own resolution down, each level half the last.

    Raises InputError where they do not fit one another.
    """

    channels: int = 3
    width: int = 192  # channels of the finest level are width * multipliers[0]
    multipliers: tuple[int, ...] = (1, 2, 3, 5)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    attention: tuple[int, ...] = (2, 4, 8)  # factors of downsampling at which there are transformers
    heads: int | None = 1  # of each transformer; None where the width of a head is given
    head_width: int | None = None
    depth: int = 1  # blocks in a transformer
    context: int = 512  # width of a token

    def __post_init__(self) -> None:
        numbers = (self.channels, self.width, self.depth, self.context, *self.multipliers, *self.blocks)
        if not self.multipliers or len(self.blocks) != len(self.multipliers):
            raise InputError(f"a U-Net needs a number of blocks for each of its levels: {self}")
        if not all(0 < number <= _MOST for number in (*numbers, *self.widths)):
            raise InputError(f"the sizes of a U-Net are from 1 to {_MOST}: {self}")
        if len(self.multipliers) > _MOST_LEVELS or sum(self.blocks) * self.depth > _MOST_BLOCKS:
            raise InputError(f"a U-Net has at most {_MOST_LEVELS} levels and {_MOST_BLOCKS} blocks: {self}")
        if (self.heads is None) == (self.head_width is None) or (self.heads or self.head_width or 0) < 1:
            raise InputError(
                "say either how many heads a transformer has or how wide a head is, 1 or more, not both: "
                f"{self.heads}, {self.head_width}"
            )
        for level, width in enumerate(self.widths):
            if width % GROUPS:
                raise InputError(f"level {level} has {width} channels, which are not in {GROUPS} equal groups")
            if 2**level in self.attention and width % (self.heads or self.head_width or 1):
                raise InputError(f"level {level} has {width} channels, which cannot be shared among its heads")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    @property
    def multiple(self) -> int:
        """Windows must have sides that are multiples of this."""
        return int(2 ** (len(self.multipliers) - 1))


class LatentUNet(nn.Module):
    """`network(x, timestep, condition)`: x (b, channels, h, w), timestep (b,), sides multiples of `shape.multiple`."""

    def __init__(self, shape: LatentUNetShape) -> None:
        super().__init__()
        self.shape = shape
        self.time_in = nn.Linear(shape.width, 4 * shape.width)
        self.time_out = nn.Linear(4 * shape.width, 4 * shape.width)
        self.enter = nn.Conv2d(shape.channels, shape.width, 3, padding=1)
        self.down, skips = _way_down(shape)
        deepest = len(shape.widths) - 1
        self.middle = Step(shape, skips[-1], shape.widths[-1], deepest, attends=True)
        self.after = Residual(shape.widths[-1], shape.widths[-1], 4 * shape.width)
        self.up = _way_up(shape, skips)
        self.leave_norm = nn.GroupNorm(GROUPS, shape.widths[0])
        self.leave = nn.Conv2d(shape.widths[0], shape.channels, 3, padding=1)

    def forward(self, x: Tensor, label: Tensor, condition: TokenCondition) -> Tensor:
        """The predicted noise (b, channels, h, w), in x's dtype."""
        noise, tokens = self.noise(label, x.dtype), condition.tokens.to(x.dtype)
        skips = [self.enter(x)]
        for step in self.down:
            skips.append(step(skips[-1], noise, tokens))
        h = self.after(self.middle(skips[-1], noise, tokens), noise)
        for step in self.up:
            h = step(torch.cat([h, skips.pop()], dim=1), noise, tokens)
        return self.leave(F.silu(self.leave_norm(h)))  # type: ignore[no-any-return]

    def noise(self, label: Tensor, dtype: torch.dtype) -> Tensor:
        """The embedding of the timestep that every residual block is told, (b, 4 * width)."""
        return self.time_out(F.silu(self.time_in(timestep_waves(label, self.shape.width).to(dtype))))  # type: ignore[no-any-return]


class Step(nn.Module):
    """A residual block, where the level has them a transformer, and on the way up the change of size after it."""

    def __init__(
        self, shape: LatentUNetShape, into: int, out: int, level: int, *, attends: bool = False, grows: bool = False
    ) -> None:
        super().__init__()
        self.residual = Residual(into, out, 4 * shape.width)
        self.attention = _transformer(shape, out) if attends or 2**level in shape.attention else None
        self.grow = Grow(out) if grows else None

    def forward(self, x: Tensor, noise: Tensor, tokens: Tensor) -> Tensor:
        """x (b, into, h, w) to (b, out, h, w), or twice the size."""
        x = self.residual(x, noise)
        if self.attention is not None:
            x = self.attention(x, tokens)
        return x if self.grow is None else self.grow(x)


class Halving(nn.Module):
    """The step on the way down between two levels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shrink = Shrink(width)

    def forward(self, x: Tensor, noise: Tensor, tokens: Tensor) -> Tensor:
        """x (b, width, h, w) to (b, width, h / 2, w / 2); nothing is told."""
        return self.shrink(x)  # type: ignore[no-any-return]


def _transformer(shape: LatentUNetShape, width: int) -> Transformer:
    heads = shape.heads or width // (shape.head_width or width)
    return Transformer(width, shape.context, heads, shape.depth)


def _way_down(shape: LatentUNetShape) -> tuple[nn.ModuleList, list[int]]:
    """The steps down, and the channels of each answer that the way up reads again, the first convolution's included."""
    steps: list[nn.Module] = []
    skips = [shape.width]
    for level, (width, blocks) in enumerate(zip(shape.widths, shape.blocks, strict=True)):
        for _ in range(blocks):
            steps.append(Step(shape, skips[-1], width, level))
            skips.append(width)
        if level + 1 < len(shape.widths):
            steps.append(Halving(width))
            skips.append(width)
    return nn.ModuleList(steps), skips


def _way_up(shape: LatentUNetShape, skips: list[int]) -> nn.ModuleList:
    steps: list[nn.Module] = []
    left, width = list(skips), shape.widths[-1]
    for level in reversed(range(len(shape.widths))):
        for number in range(shape.blocks[level] + 1):
            into, width = width + left.pop(), shape.widths[level]
            steps.append(Step(shape, into, width, level, grows=level > 0 and number == shape.blocks[level]))
    return nn.ModuleList(steps)
