"""The protocol between pixels and latents."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Autoencoder(Protocol):
    """Pixels to latents and back. Latents leave `encode` with mean 0 and deviation 1 over the training data."""

    @property
    def factor(self) -> int:
        """Pixels along a latent's side."""
        ...

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        ...

    @property
    def receptive_field(self) -> int | None:
        """Latents around one that its decoded pixels depend on; None where statistics over space make it unbounded."""
        ...

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, h * factor, w * factor) to float (b, channels, h, w)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Float (b, channels, h, w) to uint8 (b, 3, h * factor, w * factor)."""
        ...
