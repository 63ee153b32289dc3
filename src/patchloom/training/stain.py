"""Colours as another laboratory, scanner or camera would have had them: one 3 x 3 matrix and one shift a picture.

For H&E the matrix acts on optical densities, where stains add up; elsewhere on the colours themselves.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Colours = Literal["stain", "rgb"]

# Optical densities of haematoxylin, eosin and a third direction at right angles to both, a row each: Ruifrok and
# Johnston (2001), "Quantification of histochemical staining by color deconvolution", table 1, normalised here.
_HAEMATOXYLIN, _EOSIN = (0.650, 0.704, 0.286), (0.072, 0.990, 0.105)
_WHITE = 255.0
_DARKEST = 1.0  # a level of 0 has no finite density
_SHIFT = 0.2  # of the strength, in optical density
_LUMA = (0.299, 0.587, 0.114)


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
