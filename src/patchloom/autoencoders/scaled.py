"""What the autoencoders of others share: bytes outside, floats about [-1, 1] inside, and latents that are scaled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from patchloom.autoencoders.pixels import as_pixels, checked_pixels


class Scaled(Protocol):
    """Of a shape: a latent that leaves `encode` is `(raw - shift) * scale`."""

    @property
    def channels(self) -> int:
        """Of a latent."""
        ...

    @property
    def scale(self) -> float:
        """A positive number."""
        ...

    @property
    def shift(self) -> float:
        """Of raw latents."""
        ...


class ScaledAutoencoder(nn.Module, ABC):
    """The protocol `Autoencoder` over `raw_latents` and `pixels`, which each kind has its own."""

    shape: Scaled

    @property
    @abstractmethod
    def factor(self) -> int:
        """Pixels along a latent's side."""

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return self.shape.channels

    @abstractmethod
    def raw_latents(self, pixels: Tensor) -> Tensor:
        """Float (b, 3, H, W) in [-1, 1] to latents before scaling."""

    @abstractmethod
    def pixels(self, latents: Tensor) -> Tensor:
        """Latents as they leave `encode` to float (b, 3, H, W), about [-1, 1]."""

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, h * factor, w * factor) to float32 (b, channels, h, w). Raises InputError for other pixels."""
        raw = self.raw_latents(checked_pixels(pixels, self.factor).to(self.dtype) / 127.5 - 1)
        return (raw.float() - self.shape.shift) * self.shape.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (b, channels, h, w) to uint8 (b, 3, h * factor, w * factor), rounded."""
        return as_pixels(self.pixels(latents))

    def unscaled(self, latents: Tensor) -> Tensor:
        """Raw latents again, float32."""
        return latents.float() / self.shape.scale + self.shape.shift

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype
