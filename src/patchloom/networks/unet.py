"""A U-Net that is told, at every latent, what the embedding grid says there.

It has no norm and no attention over space, so its answer at a latent depends on a neighbourhood of bounded size and
not on the window around it, up to the window's edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.mirrored import mirrored
from patchloom.errors import InputError
from patchloom.networks.layers import ModulatedBlock, NoiseEmbedding, PixelNorm


@dataclass(frozen=True, slots=True)
class UNetShape:
    """Sizes of a U-Net; `widths` and `blocks` from the latents' own resolution down, each level half the last."""

    channels: int = 8  # of a latent
    embedding: int = 1280  # length of a cell's embedding
    widths: tuple[int, ...] = (96, 192, 384)
    blocks: tuple[int, ...] = (1, 2, 4)  # on the way down, and again on the way up from all but the last level
    condition: int = 128  # channels of the condition's field

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.blocks) or not self.widths:
            raise InputError("a U-Net needs as many `blocks` as `widths`")

    @property
    def multiple(self) -> int:
        """Windows whose sides are no multiples of this are filled up to them, which costs what larger windows do."""
        return int(2 ** (len(self.widths) - 1))


class UNet(nn.Module):
    """`network(x, label, condition)`: x (b, channels, h, w) of any sides, label (b,).

    Where a side is no multiple of `shape.multiple` the last rows or columns are mirrored for the network, and what it
    says about those is cut off: measured, the answer beside them is then that beside an ordinary edge.
    """

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.shape = shape
        widths = shape.widths
        self.cells = CellField(shape.embedding, shape.condition)
        self.noise = NoiseEmbedding(shape.condition)
        self.enter = nn.Conv2d(shape.channels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        for width, blocks in zip(widths, shape.blocks, strict=True):
            self.down.append(_level(width, width, blocks, shape.condition))
        for width, blocks in zip(widths[:-1], shape.blocks, strict=False):
            self.up.append(_level(2 * width, width, blocks, shape.condition))
        for fine, coarse in pairwise(widths):
            self.shrink.append(nn.Conv2d(fine, coarse, 2, stride=2))
            self.grow.append(nn.Conv2d(coarse, 4 * fine, 1))
        self.leave = nn.Sequential(PixelNorm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], shape.channels, 3, padding=1))
        nn.init.zeros_(self.leave[2].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, label: Tensor, condition: GridCondition) -> Tensor:
        """F (b, channels, h, w), in x's dtype."""
        height, width = x.shape[-2:]
        x = filled(x, self.shape.multiple)
        fields = self._fields(x, label, condition)
        x = self.enter(x.contiguous(memory_format=torch.channels_last))
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            if level:
                x = self.shrink[level - 1](x)
            x = blocks(x, fields[level])
            skips.append(x)
        for level in reversed(range(len(self.up))):
            x = F.pixel_shuffle(self.grow[level](x), 2).contiguous(memory_format=torch.channels_last)
            x = self.up[level](torch.cat([x, skips[level]], dim=1), fields[level])
        return self.leave(x)[..., :height, :width]  # type: ignore[no-any-return]

    def _fields(self, x: Tensor, label: Tensor, condition: GridCondition) -> list[Tensor]:
        """The activated condition at each level: what the grid says there, and the noise level."""
        noise = self.noise(label)[:, :, None, None]
        cells = self.cells.project(condition)
        fields = []
        for level in range(len(self.shape.widths)):
            stride = 2**level
            spread = self.cells.spread(cells, condition, x.shape[-2] // stride, x.shape[-1] // stride, stride)
            fields.append(F.silu(spread + noise))
        return fields


class CellField(nn.Module):
    """Embeddings of cells to a field over the window: each projected, then interpolated at every latent."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(embedding))  # constants of the training data
        self.register_buffer("deviation", torch.ones(embedding))
        self.layers = nn.Sequential(nn.Linear(embedding, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.background = nn.Parameter(torch.zeros(width))
        self.null = nn.Parameter(torch.zeros(width))

    def project(self, condition: GridCondition) -> Tensor:
        """(b, rows, cols, width): background and dropped cells have vectors of their own."""
        standard = (condition.cells.float() - self.mean) / self.deviation
        said = self.layers(standard.to(self.null.dtype))
        said = torch.where(condition.valid[..., None], said, self.background.to(said.dtype))
        return torch.where(condition.dropped[:, None, None, None], self.null.to(said.dtype), said)

    def spread(self, cells: Tensor, condition: GridCondition, height: int, width: int, stride: int) -> Tensor:
        """(b, width, height, width) in channels-last memory."""
        rows, cols = condition.weights(height, width, stride)
        across = torch.einsum("bwc,brcd->brwd", cols.to(cells.dtype), cells)
        return torch.einsum("bhr,brwd->bhwd", rows.to(cells.dtype), across).permute(0, 3, 1, 2)


def filled(x: Tensor, multiple: int) -> Tensor:
    """x (..., h, w), its last rows and columns mirrored until both sides are multiples; x itself where they are."""
    for axis in (-2, -1):
        x = mirrored(x, axis, 0, -x.shape[axis] % multiple)
    return x


class _Level(nn.Module):
    def __init__(self, blocks: list[ModulatedBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, field: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, field)
        return x


def _level(width: int, out: int, count: int, condition: int) -> _Level:
    return _Level([ModulatedBlock(width if i == 0 else out, out, condition) for i in range(count)])
