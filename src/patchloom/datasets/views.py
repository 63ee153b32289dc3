"""The eight ways to lay a square picture down (the dihedral group of order 8)."""

from __future__ import annotations

import torch
from torch import Tensor

VIEWS = 8


def lay(plane: Tensor, view: int) -> Tensor:
    """Lay a plane (height, width, ...) down as view 0 to 7: `view % 4` quarter turns, then mirrored from 4 on."""
    turned = torch.rot90(plane, view % 4, (0, 1))
    return turned.flip(1) if view >= VIEWS // 2 else turned


def lay_place(y: float, x: float, height: float, width: float, view: int) -> tuple[float, float]:
    """Where a point of a (height, width) plane comes to lie in that view; continuous coordinates."""
    for _ in range(view % 4):  # a quarter turn takes the right edge to the top
        y, x, height, width = width - x, y, width, height
    return (y, width - x) if view >= VIEWS // 2 else (y, x)
