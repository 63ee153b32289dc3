"""From a picture as read to what a network sees: checked, resized, normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from patchloom.errors import InputError

Filter = Literal["bilinear", "bicubic", "bicubic-unclipped", "bilinear-tf1"]
RESIZES: dict[Filter, str] = {
    "bilinear": "antialiased bilinear",
    "bicubic": "antialiased bicubic",
    "bicubic-unclipped": "antialiased bicubic, unclipped,",
    "bilinear-tf1": "the bilinear of TensorFlow 1, not antialiased,",
}
"""What each filter is, in words for reports."""


@dataclass(frozen=True, slots=True)
class Transform:
    """What an encoder does to pixels before its network: `resize_px`, then the centre `crop_px`, then mean and std.

    mean and std are those of pixels scaled to [0, 1]. The resize is antialiased, as Pillow's is, except `bilinear-tf1`,
    which some networks were first measured with.
    """

    resize_px: int
    crop_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    filter: Filter = "bicubic"

    def __post_init__(self) -> None:
        if not 0 < self.crop_px <= self.resize_px:
            raise InputError(f"a crop of {self.crop_px} px cannot be cut from a picture resized to {self.resize_px} px")
        if min(self.std) <= 0:
            raise InputError(f"a standard deviation must be positive, not {self.std}")

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, h, h) to float32 (b, 3, crop_px, crop_px). Raises InputError on anything else."""
        check_pixels(pixels)
        return self.of_floats(pixels.float())

    def of_floats(self, picture: Tensor) -> Tensor:
        """The same of float pixels (b, 3, h, h) from 0 to 255, rounded or not: gradients go through."""
        picture = self._resized(picture)
        first = (self.resize_px - self.crop_px) // 2
        picture = picture[:, :, first : first + self.crop_px, first : first + self.crop_px]
        mean, std = (torch.tensor(v, device=picture.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (picture / 255 - mean) / std

    def _resized(self, picture: Tensor) -> Tensor:
        size = (self.resize_px, self.resize_px)
        if picture.shape[-2:] == size:
            return picture
        if self.filter == "bilinear-tf1":
            return _as_tensorflow_1(picture, self.resize_px)
        mode = "bilinear" if self.filter == "bilinear" else "bicubic"
        found = functional.interpolate(picture, size, mode=mode, antialias=True)
        # Bicubic overshoots at edges; a picture has no values outside 0..255.
        return found if self.filter == "bicubic-unclipped" else found.clamp(0, 255)


def _as_tensorflow_1(picture: Tensor, side: int) -> Tensor:
    """Bilinear as TensorFlow 1 had it: corners, not centres, of pixels coincide, and nothing is smoothed first."""
    for dim in (-1, -2):
        last = picture.shape[dim] - 1
        place = torch.arange(side, device=picture.device) * torch.tensor((last + 1) / side, device=picture.device)
        low = place.long()
        share = (place - low) if dim == -1 else (place - low)[:, None]
        one = picture.index_select(dim, low)
        picture = one + (picture.index_select(dim, (low + 1).clamp_max(last)) - one) * share
    return picture


def check_pixels(pixels: Tensor) -> None:
    """Raise InputError unless pixels are uint8 (b, 3, h, w), square and not empty."""
    found = f"{pixels.dtype} of shape {tuple(pixels.shape)}"
    if pixels.dtype is not torch.uint8:
        raise InputError(f"an encoder takes uint8 pixels (b, 3, h, w) with values 0 to 255, found {found}")
    if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.shape[2] != pixels.shape[3] or 0 in pixels.shape:
        raise InputError(f"an encoder takes square RGB pictures (b, 3, h, h), found {found}")
