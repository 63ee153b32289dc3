"""Which colours the stains of a slide have, and a picture as another slide's stains would show it.

Macenko et al. (2009), "A method for normalizing histology slides for quantitative analysis". Measure a whole slide, or
many places of it, not patch by patch: a patch without nuclei has no haematoxylin to be found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError

UInt8: TypeAlias = NDArray[np.uint8]
Density: TypeAlias = tuple[float, float, float]

_WHITE = 255.0
_DARKEST = 1.0  # a level of 0 has no finite density
_CLEAR = 0.15  # beta of the paper: what is less dense is glass
_ROBUST = 1.0  # alpha of the paper: percent of the angles, and of the amounts, beyond the extremes
_FEW = 100  # pixels, of which one percent is one
_ALIKE = 0.05  # radians between directions of which one is no second stain


@dataclass(frozen=True, slots=True)
class Staining:
    """Optical densities (base 10; red, green, blue; of length 1) of two stains, and the most that there is of each."""

    haematoxylin: Density
    eosin: Density
    most: tuple[float, float]  # 99th percentile of the amount of each

    def matrix(self) -> NDArray[np.float64]:
        """(2, 3): both densities, a row each."""
        return np.array([self.haematoxylin, self.eosin])


def staining_of(pixels: UInt8) -> Staining:
    """The stains of pixels (..., 3), uint8 RGB.

    Both lie in the plane that holds most of the optical densities of what is not glass, and are the robust extremes of
    the directions in it; that which takes more red away is haematoxylin. Glass does not count, however much there is;
    pen, folds and black borders do, so leave them out. Raises InputError where hardly anything is stained, or all of it
    in one colour.
    """
    found = _densities(pixels)
    found = found[np.linalg.norm(found, axis=1) >= _CLEAR]
    if len(found) < _FEW:
        raise InputError(f"{len(found)} pixels are stained, too few to tell the stains; measure a part with tissue")
    plane = np.linalg.eigh(found.T @ found)[1][:, :0:-1]  # (3, 2): those of the two largest values
    plane[:, 0] *= np.sign(plane[:, 0].sum())
    along, across = (found @ plane).T
    low, high = np.percentile(np.arctan2(across, along), [_ROBUST, 100 - _ROBUST])
    if high - low < _ALIKE:
        raise InputError("everything is stained in one colour, so two stains cannot be told; measure more of the slide")
    ends = np.array([[np.cos(angle), np.sin(angle)] for angle in (low, high)]) @ plane.T
    matrix = ends[np.argsort(-ends[:, 0])]
    most = np.percentile(found @ np.linalg.pinv(matrix), 100 - _ROBUST, axis=0)
    haematoxylin, eosin, amounts = (tuple(map(float, row)) for row in (*matrix, most))
    return Staining(haematoxylin, eosin, amounts)  # type: ignore[arg-type]


def stained_as(pixels: UInt8, own: Staining, other: Staining) -> UInt8:
    """Pixels (..., 3) that were stained as `own`, as `other` would show the same tissue; uint8, of the same shape.

    The amount of each stain is scaled so that the most of it becomes the other's. What neither stain explains is left
    out, as in the paper, and white stays white.
    """
    scale = np.divide(other.most, own.most)
    amounts = _densities(pixels) @ np.linalg.pinv(own.matrix()) * scale
    levels = _WHITE * 10 ** -(amounts @ other.matrix())
    again: UInt8 = np.rint(levels).clip(0, _WHITE).astype(np.uint8).reshape(pixels.shape)
    return again


def _densities(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """(n, 3) optical densities."""
    density: NDArray[np.float64] = -np.log10(np.maximum(pixels.reshape(-1, 3), _DARKEST) / _WHITE)
    return density
