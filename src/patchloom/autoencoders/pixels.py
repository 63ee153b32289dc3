"""What goes into and comes out of every autoencoder of others: bytes, checked, and floats about [-1, 1] as bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from patchloom.errors import InputError


def checked_pixels(pixels: Tensor, factor: int) -> Tensor:
    """The pixels themselves. Raises InputError unless they are uint8 and their sides multiples of a factor."""
    if pixels.dtype != torch.uint8 or pixels.shape[-1] % factor or pixels.shape[-2] % factor:
        raise InputError(
            f"encode needs uint8 pixels with sides that are multiples of {factor}, "
            f"not {pixels.dtype} of {tuple(pixels.shape)}"
        )
    return pixels


def as_pixels(values: Tensor) -> Tensor:
    """Floats about [-1, 1] to uint8, rounded."""
    return ((values.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
