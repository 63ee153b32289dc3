"""Layers without statistics over space: a latent's answer depends on its neighbourhood alone."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PixelNorm(nn.Module):
    """Each pixel's channels to mean 0 and deviation 1 (layer norm over channels, no affine part)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to the same; channels-last memory stays as it is."""
        return F.layer_norm(x.permute(0, 2, 3, 1), (self.width,)).permute(0, 3, 1, 2)


class NoiseEmbedding(nn.Module):
    """A noise label as cosines and sines of geometrically spaced frequencies, then two linear layers."""

    frequencies: Tensor

    def __init__(self, width: int, highest: float = 100.0) -> None:
        super().__init__()
        frequencies = torch.exp(torch.linspace(0.0, math.log(highest), width // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(width // 2 * 2, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, label: Tensor) -> Tensor:
        """(b,) to (b, width)."""
        angles = label.float()[:, None] * self.frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)
        return self.layers(waves.to(next(self.layers.parameters()).dtype))  # type: ignore[no-any-return]


class ModulatedBlock(nn.Module):
    """Two convolutions beside a shortcut; the condition scales and shifts every pixel (after Perez et al., 2018)."""

    def __init__(self, width: int, out: int, condition: int) -> None:
        super().__init__()
        self.norm = PixelNorm(width)
        self.first = nn.Conv2d(width, out, 3, padding=1)
        self.modulation = nn.Conv2d(condition, 2 * out, 1)
        self.second_norm = PixelNorm(out)
        self.second = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(width, out, 1) if width != out else nn.Identity()
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (b, width, h, w) and the condition's field (b, condition, h, w) to (b, out, h, w)."""
        scale, shift = self.modulation(condition).chunk(2, dim=1)
        h = self.first(F.silu(self.norm(x)))
        h = torch.addcmul(shift, self.second_norm(h), scale + 1)
        return self.shortcut(x) + self.second(F.silu(h))  # type: ignore[no-any-return]
