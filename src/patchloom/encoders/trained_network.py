"""The encoder that `patchloom train` trains: convolutions and norms of single pixels, then a mean over space."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.errors import InputError
from patchloom.networks.layers import PixelNorm

_STEM = 4  # pixels a side that the first convolution folds into one


@dataclass(frozen=True, slots=True)
class TrainedShape:
    """The network's sizes; each width but the first halves the plane. The default has 4.7 M parameters."""

    dim: int = 384  # length of an embedding
    widths: tuple[int, ...] = (48, 96, 192, 384)
    blocks: tuple[int, ...] = (1, 1, 2, 1)

    def __post_init__(self) -> None:
        if not self.widths or len(self.widths) != len(self.blocks):
            raise InputError(f"an encoder of {len(self.widths)} widths needs as many numbers of blocks, {self.blocks}")
        if min(self.dim, *self.widths) < 1 or min(self.blocks) < 0:
            raise InputError(f"an encoder's sizes must be positive: dim {self.dim}, {self.widths}, {self.blocks}")

    @property
    def factor(self) -> int:
        """Pixels a side of a picture that become one place of the last plane; smaller pictures are refused."""
        return _STEM << (len(self.widths) - 1)


class TrainedNetwork(nn.Module):
    """A small residual network (after He et al., 2016, with layer norm as in Liu et al., 2022, ConvNeXt).

    No layer has statistics of a batch, so an averaged copy of the weights is the network, and a picture's embedding
    does not depend on its neighbours.
    """

    def __init__(self, shape: TrainedShape) -> None:
        super().__init__()
        self.shape = shape
        layers: list[nn.Module] = [nn.Conv2d(3, shape.widths[0], _STEM, stride=_STEM)]
        for level, (width, count) in enumerate(zip(shape.widths, shape.blocks, strict=True)):
            if level:
                before = shape.widths[level - 1]
                layers += [PixelNorm(before), nn.Conv2d(before, width, 2, stride=2)]
            layers += [Residual(width) for _ in range(count)]
        self.body = nn.Sequential(*layers, PixelNorm(shape.widths[-1]), nn.Conv2d(shape.widths[-1], shape.dim, 1))

    def forward(self, picture: Tensor) -> Tensor:
        """Normalised pictures (b, 3, h, w), sides of at least `shape.factor`, to embeddings (b, dim)."""
        return F.silu(self.body(picture)).float().mean((2, 3))


class Residual(nn.Module):
    """Two convolutions beside the identity, which they begin as."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = PixelNorm(width), PixelNorm(width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to the same."""
        h: Tensor = self.first(F.silu(self.first_norm(x)))
        return x + self.second(F.silu(self.second_norm(h)))  # type: ignore[no-any-return]
