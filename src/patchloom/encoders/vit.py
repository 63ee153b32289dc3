"""A vision transformer (Dosovitskiy et al. 2021) of any size: what HIPT, DINO, Phikon, UNI, Virchow and Hibou are.

With registers (Darcet et al. 2024), gated feed-forward layers (Shazeer 2020) and scaled branches (Touvron et al. 2021)
where a model has them. It stands for timm's, DINO's and DINOv2's own classes, whose weights `vit_names` renames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.errors import InputError

_EPS = 1e-6  # of every norm, in all of them


@dataclass(frozen=True, slots=True)
class ViTShape:
    """Sizes of a vision transformer. Raises InputError where they do not fit one another."""

    width: int
    depth: int
    heads: int
    hidden: int  # values between the two layers of a feed-forward part, after gating where it is gated
    patch_px: int = 16
    grid: int = 14  # patches along a side of the pictures that it was trained on
    gated: bool = False
    scaled: bool = False  # each branch by a learned factor a channel
    registers: int = 0
    placed: int = 1  # of the class token and the registers, how many have a position of their own
    offset: float = 0.0  # DINO adds 0.1 to the side that positions are resized to, which shifts them a little
    antialias: bool = False  # of that resize

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.hidden, self.patch_px, self.grid) < 1 or self.registers < 0:
            raise InputError(f"the sizes of a vision transformer are positive: {self}")
        if self.width % self.heads or not 0 <= self.placed <= 1 + self.registers:
            raise InputError(f"the sizes of this vision transformer do not fit one another: {self}")


class ViT(nn.Module):
    """`network(picture)`: (b, 3, h, w), sides multiples of `patch_px`, to the tokens after the last norm."""

    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.shape = shape
        self.patches = nn.Conv2d(3, shape.width, shape.patch_px, stride=shape.patch_px)
        self.class_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.registers = nn.Parameter(torch.zeros(1, shape.registers, shape.width)) if shape.registers else None
        self.positions = nn.Parameter(torch.zeros(1, shape.placed + shape.grid**2, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, eps=_EPS)

    def forward(self, picture: Tensor) -> Tensor:
        """(b, 1 + registers + patches, width): the class token, the registers, the patches row by row.

        Raises InputError for a picture that is no whole number of patches.
        """
        if any(side % self.shape.patch_px for side in picture.shape[2:]):
            raise InputError(f"a picture of {tuple(picture.shape[2:])} is not in patches of {self.shape.patch_px} px")
        planes = self.patches(picture)
        leading, positions = self._leading(), self._positions(*planes.shape[2:])
        placed = self.shape.placed
        leading = torch.cat([leading[:, :placed] + self.positions[:, :placed], leading[:, placed:]], dim=1)
        tokens = planes.flatten(2).transpose(1, 2) + positions
        tokens = torch.cat([leading.expand(len(picture), -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)  # type: ignore[no-any-return]

    def _leading(self) -> Tensor:
        return self.class_token if self.registers is None else torch.cat([self.class_token, self.registers], dim=1)

    def _positions(self, rows: int, cols: int) -> Tensor:
        """Of the patches (1, rows * cols, width): as trained, or resized to another number of them."""
        grid, own = self.shape.grid, self.positions[:, self.shape.placed :]
        if rows == cols == grid:
            return own
        plane = own.reshape(1, grid, grid, -1).permute(0, 3, 1, 2).float()
        if self.shape.offset:
            factor = tuple((side + self.shape.offset) / grid for side in (rows, cols))
            plane = F.interpolate(plane, scale_factor=factor, mode="bicubic", antialias=self.shape.antialias)
        else:
            plane = F.interpolate(plane, (rows, cols), mode="bicubic", antialias=self.shape.antialias)
        return plane.flatten(2).transpose(1, 2).to(own.dtype)


class Block(nn.Module):
    """Attention among all tokens, then a feed-forward part for each, both beside an identity."""

    def __init__(self, shape: ViTShape) -> None:
        super().__init__()
        self.heads, self.gated = shape.heads, shape.gated
        self.norm = nn.LayerNorm(shape.width, eps=_EPS)
        self.joint = nn.Linear(shape.width, 3 * shape.width)  # queries, keys, values
        self.out = nn.Linear(shape.width, shape.width)
        self.scale = nn.Parameter(torch.ones(shape.width)) if shape.scaled else None
        self.feed_norm = nn.LayerNorm(shape.width, eps=_EPS)
        self.feed_in = nn.Linear(shape.width, (2 if shape.gated else 1) * shape.hidden)
        self.feed_out = nn.Linear(shape.hidden, shape.width)
        self.feed_scale = nn.Parameter(torch.ones(shape.width)) if shape.scaled else None

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, n, width) to the same."""
        tokens = tokens + _scaled(self._attention(self.norm(tokens)), self.scale)
        return tokens + _scaled(self._feed(self.feed_norm(tokens)), self.feed_scale)

    def _attention(self, tokens: Tensor) -> Tensor:
        parts = self.joint(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _feed(self, tokens: Tensor) -> Tensor:
        inner = self.feed_in(tokens)
        if self.gated:
            gate, value = inner.chunk(2, dim=-1)
            return self.feed_out(F.silu(gate) * value)  # type: ignore[no-any-return]
        return self.feed_out(F.gelu(inner))  # type: ignore[no-any-return]


def _scaled(branch: Tensor, scale: Tensor | None) -> Tensor:
    return branch if scale is None else branch * scale
