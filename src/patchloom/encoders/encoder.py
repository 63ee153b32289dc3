"""The protocol of a self-supervised (or any) image encoder, and the facts that travel with its grids."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from patchloom.grids.spec import EncoderSpec

__all__ = ["Encoder", "EncoderSpec"]


class Encoder(Protocol):
    """A square picture in, one vector out."""

    @property
    def spec(self) -> EncoderSpec:
        """Who it is; grids carry it, pipelines check it."""
        ...

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, h, w), square, of any size, to float32 (b, dim). Resizing and normalising happen inside."""
        ...
