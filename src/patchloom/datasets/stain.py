"""Colours as another laboratory, scanner or camera would have had them: one 3 x 3 matrix and one shift a picture.

For H&E the matrix acts on optical densities, where stains add up; elsewhere on the colours themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from patchloom.errors import InputError

Colours = Literal["stain", "rgb"]

# Optical densities of haematoxylin, eosin and a third direction at right angles to both, a row each: Ruifrok and
# Johnston (2001), "Quantification of histochemical staining by color deconvolution", table 1, normalised here.
_HAEMATOXYLIN, _EOSIN = (0.650, 0.704, 0.286), (0.072, 0.990, 0.105)
_WHITE = 255.0
_DARKEST = 1.0  # a level of 0 has no finite density
_SHIFT = 0.2  # of the strength, in optical density
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class Recolouring:
    """In which space colours are drawn, and how far they go."""

    colours: Colours = "stain"
    strength: float = 0.2

    def __post_init__(self) -> None:
        if not (self.strength > 0 and isfinite(self.strength)):
            raise InputError(f"the strength of a recolouring is a positive number, not {self.strength}")


def recoloured(pixels: Tensor, how: Recolouring, name: str) -> Tensor:
    """A uint8 picture (height, width, 3) in colours of one draw, the same for the same name."""
    seed = int.from_bytes(sha256(name.encode()).digest()[:8], "big", signed=True)
    generator = torch.Generator().manual_seed(seed)
    again = jittered(pixels.permute(2, 0, 1)[None], how.colours, how.strength, generator)
    return again[0].permute(1, 2, 0).round().to(torch.uint8).contiguous()


def jittered(pixels: Tensor, colours: Colours, strength: float, generator: torch.Generator) -> Tensor:
    """Pictures (b, 3, h, w), levels 0 to 255, each in colours of its own draw; float, same range.

    `stain`: the amount of each stain times a factor whose logarithm has deviation `strength`, plus a shift of a fifth
    of that in optical density (after Tellez et al., 2018, "Whole-slide mitosis detection in H&E breast histology");
    what neither haematoxylin nor eosin explains stays as it is, since another laboratory would not turn nuclei green.
    `rgb`: brightness, contrast about the picture's mean and each channel's gain by such factors, saturation by their
    squares. A strength of 0 changes nothing.
    """
    levels = pixels.float()
    draws = torch.randn(len(levels), 4, 3, generator=generator, device=levels.device)
    if colours == "rgb":
        return _recoloured(levels, draws * strength).clamp(0, _WHITE)
    draws = draws * torch.tensor([1.0, 1.0, 0.0], device=levels.device)
    stains = _stains()
    to_stains, stains = torch.linalg.inv(stains).to(levels.device), stains.to(levels.device)
    matrix = to_stains @ torch.diag_embed((strength * draws[:, 0]).exp()) @ stains
    shift = _SHIFT * strength * draws[:, 1] @ stains
    density = -(levels.clamp(min=_DARKEST) / _WHITE).log()
    again = torch.einsum("bchw,bcd->bdhw", density, matrix) + shift[:, :, None, None]
    coloured: Tensor = _WHITE * (-again).exp()
    return coloured.clamp(0.0, _WHITE)


def _stains() -> Tensor:
    """(3, 3): the unit densities of haematoxylin, eosin and the rest. On the host: a GPU's inverse waits."""
    first, second = torch.tensor(_HAEMATOXYLIN), torch.tensor(_EOSIN)
    rows: Tensor = torch.stack([first, second, torch.linalg.cross(first, second)])
    return F.normalize(rows, dim=1)


def _recoloured(levels: Tensor, draws: Tensor) -> Tensor:
    gain = (draws[:, 0] + draws[:, 1, :1]).exp()[:, :, None, None]
    contrast, saturation = draws[:, 2, 0].exp(), (2 * draws[:, 2, 1]).exp()
    centre = levels.mean((1, 2, 3), keepdim=True)
    levels = centre + (levels - centre) * contrast[:, None, None, None]
    grey = torch.einsum("bchw,c->bhw", levels, torch.tensor(_LUMA, device=levels.device))[:, None]
    return (grey + (levels - grey) * saturation[:, None, None, None]) * gain
