"""CTransPath's network: a Swin transformer (Liu et al. 2021) behind a stem of convolutions (Wang et al. 2022).

Attention is within windows of the plane, which move by half a window at every other block; between levels, four
neighbours become one. What stands for the picture is the mean of the last plane.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.errors import InputError

_APART = -100.0  # added to what must not be attended to, as the weights were trained


@dataclass(frozen=True, slots=True)
class SwinShape:
    """Sizes of a Swin transformer; those of Swin-T where nothing is said."""

    width: int = 96  # of the finest level; each next is twice as wide
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    patch_px: int = 4

    def __post_init__(self) -> None:
        fit = len(self.depths) == len(self.heads) and self.width % 8 == 0 and self.patch_px == 4
        if not fit or any(self.width * 2**level % heads for level, heads in enumerate(self.heads)):
            raise InputError(f"the sizes of this Swin transformer do not fit one another: {self}")


class Swin(nn.Module):
    """`network(picture)`: (b, 3, h, w) to (b, width * 8): one vector a picture."""

    def __init__(self, shape: SwinShape) -> None:
        super().__init__()
        self.shape = shape
        self.stem: nn.Module = _stem(shape.width)
        self.stem_norm = nn.LayerNorm(shape.width)
        widths = [shape.width * 2**level for level in range(len(shape.depths))]
        self.levels = nn.ModuleList(
            Level(width, depth, heads, shape.window, merges=width != widths[-1])
            for width, depth, heads in zip(widths, shape.depths, shape.heads, strict=True)
        )
        self.norm = nn.LayerNorm(widths[-1])

    def forward(self, picture: Tensor) -> Tensor:
        """Raises InputError for a picture whose planes are not in windows."""
        plane = self.stem_norm(self.stem(picture).permute(0, 2, 3, 1))
        for level in self.levels:
            plane = level(plane)
        return self.norm(plane).mean((1, 2))  # type: ignore[no-any-return]


class Level(nn.Module):
    """Blocks at one size of the plane, then, but for the last level, half that size."""

    def __init__(self, width: int, depth: int, heads: int, window: int, *, merges: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, window, moved=number % 2 == 1) for number in range(depth))
        self.merge = Merge(width) if merges else None

    def forward(self, plane: Tensor) -> Tensor:
        """(b, h, w, width) to (b, h / 2, w / 2, 2 width), or to the same on the last level."""
        for block in self.blocks:
            plane = block(plane)
        return plane if self.merge is None else self.merge(plane)


class Merge(nn.Module):
    """Four neighbours to one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, plane: Tensor) -> Tensor:
        """(b, h, w, width) to (b, h / 2, w / 2, 2 width): a column of two, then the column beside it."""
        four = [plane[:, y::2, x::2] for x in (0, 1) for y in (0, 1)]
        return self.reduction(self.norm(torch.cat(four, dim=-1)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention within windows, then a feed-forward part, both beside an identity."""

    def __init__(self, width: int, heads: int, window: int, *, moved: bool) -> None:
        super().__init__()
        self.heads, self.window, self.moved = heads, window, moved
        self.norm = nn.LayerNorm(width)
        self.joint = nn.Linear(width, 3 * width)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))  # of each distance within a window
        self.out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, 4 * width)
        self.feed_out = nn.Linear(4 * width, width)

    def forward(self, plane: Tensor) -> Tensor:
        """(b, h, w, width) to the same. Raises InputError where the plane is not in windows."""
        height, width, side = *plane.shape[1:3], self.window
        if height % side or width % side:
            raise InputError(f"a plane of {height} x {width} is not in windows of {side}: give pictures of 224 px")
        shift = side // 2 if self.moved and min(height, width) > side else 0
        own = self.norm(plane).roll((-shift, -shift), (1, 2))
        windows = _cut(own, side).flatten(3, 4).flatten(1, 2)
        mixed = self._attention(windows, self._masks(height, width, shift, plane))
        mixed = mixed.reshape(len(plane), height // side, width // side, side, side, -1).transpose(2, 3)
        plane = plane + mixed.reshape(plane.shape).roll((shift, shift), (1, 2))
        return plane + self.feed_out(F.gelu(self.feed_in(self.feed_norm(plane))))  # type: ignore[no-any-return]

    def _attention(self, windows: Tensor, mask: Tensor) -> Tensor:
        """Windows (b, n, side², width) to the same; mask (n or 1, heads, side², side²) is added."""
        parts = self.joint(windows).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=mask)
        return self.out(mixed.transpose(2, 3).flatten(3))  # type: ignore[no-any-return]

    def _masks(self, height: int, width: int, shift: int, like: Tensor) -> Tensor:
        side = self.window
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        down, across = (part.flatten()[:, None] - part.flatten() + side - 1 for part in (y, x))
        near = self.bias[down * (2 * side - 1) + across].permute(2, 0, 1)[None]
        if not shift:
            return near.to(like.dtype)
        rows, cols = (_parts(length, side, shift) for length in (height, width))
        place = _cut((rows[:, None] * 3 + cols)[None, :, :, None], side).reshape(-1, side**2)
        apart = (place[:, :, None] != place[:, None, :])[:, None].to(near.device)
        return (near + apart * _APART).to(like.dtype)


def _cut(plane: Tensor, side: int) -> Tensor:
    """A plane (b, h, w, width) in windows (b, h / side, w / side, side, side, width)."""
    b, height, width, values = plane.shape
    return plane.reshape(b, height // side, side, width // side, side, values).transpose(2, 3)


def _parts(length: int, side: int, shift: int) -> Tensor:
    """Which part of the plane each row of a moved plane came from: what wrapped around is no neighbour."""
    places = torch.arange(length)
    return (places >= length - side).long() + (places >= length - shift).long()


def _stem(width: int) -> nn.Sequential:
    """Two convolutions that halve, and one of single pixels."""
    first, second = width // 8, width // 4
    return nn.Sequential(
        nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.Conv2d(second, width, 1),
    )


_NAMES = (
    (r"patch_embed\.proj\.", "stem."),
    (r"patch_embed\.norm\.", "stem_norm."),
    (r"layers\.", "levels."),
    (r"\.downsample\.", ".merge."),
    (r"\.norm1\.", ".norm."),
    (r"\.norm2\.", ".feed_norm."),
    (r"\.attn\.qkv\.", ".joint."),
    (r"\.attn\.proj\.", ".out."),
    (r"\.attn\.relative_position_bias_table", ".bias"),
    (r"\.mlp\.fc1\.", ".feed_in."),
    (r"\.mlp\.fc2\.", ".feed_out."),
)
_NOT_OURS = re.compile(r"head\..*|.*\.(relative_position_index|attn_mask|num_batches_tracked)")


def swin_to_ours(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under our names; heads, and what follows from the sizes, left out; an unknown name stays as it is."""
    ours = {}
    for name, value in tensors.items():
        if _NOT_OURS.fullmatch(name) is None:
            renamed = name
            for pattern, own in _NAMES:
                renamed = re.sub(pattern, own, renamed)
            ours[renamed] = value
    means = [name for name in ours if name.endswith("running_mean")]
    return ours | {name.replace("running_mean", "num_batches_tracked"): torch.tensor(0) for name in means}
