"""A source of chance for a decoder: the latents themselves, seen so finely that what is seen is noise.

Where a latent says that there is grain and not which, a decoder of latents alone can draw it only as one pattern, again
and again. Noise from a generator would have to know its place on the canvas for tiles to agree; this one is a function
of each latent: the same wherever, and in whatever tile, that latent is decoded, and another for the latent beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CYCLES = 4.0  # of a wave over a change of 1 in one channel: latents side by side differ by 0.2 and more, even on glass
_SEED = 20261122


class GrainedConv(nn.Conv2d):
    """The convolution that reads latents, and so many waves of them beside. It begins as if there were no waves."""

    frequencies: Tensor
    phases: Tensor

    def __init__(self, channels: int, out: int, waves: int) -> None:
        super().__init__(channels, out, 3, padding=1)
        self.grain = nn.Conv2d(waves, out, 3, padding=1, bias=False)
        nn.init.zeros_(self.grain.weight)
        chance = torch.Generator().manual_seed(_SEED)
        self.register_buffer("frequencies", CYCLES * torch.randn(channels, waves, generator=chance))
        self.register_buffer("phases", torch.rand(waves, generator=chance))

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (b, channels, h, w) to (b, out, h, w)."""
        noise = triangles(latents, self.frequencies, self.phases)
        grain: Tensor = self.grain(noise.to(latents.dtype))
        return super().forward(latents) + grain


def triangles(latents: Tensor, frequencies: Tensor, phases: Tensor) -> Tensor:
    """Triangle waves (b, n, h, w), mean 0 and deviation 1, of latents (b, c, h, w); (c, n) cycles a unit, (n,) cycles.

    Sums, products and `floor` alone, one after the other: every place gets the same bits in whatever tile it lies.
    """
    turns = phases[:, None, None].expand(len(latents), -1, *latents.shape[-2:])
    for channel, cycles in enumerate(frequencies):
        turns = turns + latents[:, channel, None].to(frequencies.dtype) * cycles[:, None, None]
    return ((turns - turns.floor() - 0.5).abs() - 0.25) * (4 * 3**0.5)
