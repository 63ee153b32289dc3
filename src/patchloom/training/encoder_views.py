"""Two looks at one place: turned, mirrored, moved, scaled and recoloured, as a microscope or an aircraft might."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from patchloom.datasets.stain import Colours, jittered
from patchloom.errors import InputError


@dataclass(frozen=True, slots=True)
class Looks:
    """How much one look at a place may differ from another. Raises InputError for numbers below 0."""

    scale: tuple[float, float] = (0.7, 1.4)  # pixels of the slide to a pixel of the crop, from and to
    shift: float = 0.2  # of a crop's side: how far its centre may lie from the place, down and across
    colours: Colours = "stain"
    strength: float = 0.2  # of the colours' jitter
    noise: float = 4.0  # largest deviation of added noise, levels of 255

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise InputError(f"`scale` goes from a positive number to one no smaller, not from {self.scale}")
        if min(self.shift, self.strength, self.noise) < 0:
            raise InputError("`shift`, `strength` and `noise` cannot be negative")

    def reach_px(self, crop_px: int) -> int:
        """Side of the square that every look at its middle lies in, at any angle."""
        return math.ceil(crop_px * (self.scale[1] * math.sqrt(2) + 2 * self.shift))


def look(around: Tensor, crop_px: int, looks: Looks, generator: torch.Generator) -> Tensor:
    """A look (b, 3, crop_px, crop_px), levels 0 to 255, at the middle of each square uint8 (b, 3, side, side).

    Any angle, mirrored or not: neither tissue nor ground has an up. What lies outside the square repeats its edge.
    """
    count, side = len(around), around.shape[-1]
    draws = torch.rand(6, count, generator=generator, device=around.device)
    low, high = (math.log(end) for end in looks.scale)
    scale = (low + (high - low) * draws[0]).exp() * crop_px / side
    angle, flip = 2 * math.pi * draws[1], 1 - 2 * (draws[2] < 0.5).float()
    turn = torch.stack([angle.cos() * flip, -angle.sin(), angle.sin() * flip, angle.cos()], dim=1).view(count, 2, 2)
    moved = (2 * draws[3:5] - 1).T * (2 * looks.shift * crop_px / side)
    affine = torch.cat([turn * scale[:, None, None], moved[:, :, None]], dim=2)
    grid = F.affine_grid(affine, [count, 3, crop_px, crop_px], align_corners=False)
    seen = F.grid_sample(around.float(), grid, padding_mode="border", align_corners=False)
    coloured = jittered(seen, looks.colours, looks.strength, generator)
    noise = torch.randn(coloured.shape, generator=generator, device=coloured.device)
    return coloured + (looks.noise * draws[5])[:, None, None, None] * noise
