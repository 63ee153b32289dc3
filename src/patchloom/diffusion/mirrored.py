"""How a picture goes on beyond its edges: mirrored, the outermost value first."""

from __future__ import annotations

import torch
from torch import Tensor


def mirrored(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """x with so many values more before and after it along an axis, mirrored again and again where it is short.

    A network of convolutions sees at such an edge what is most like an ordinary place: of its colours beside the edge
    less turns than with zeros, or with the outermost value repeated.
    """
    if not before and not after:
        return x
    length = x.shape[axis]
    place = torch.arange(-before, length + after, device=x.device) % (2 * length)
    return x.index_select(axis, torch.minimum(place, 2 * length - 1 - place))
