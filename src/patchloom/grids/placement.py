"""From a list of corners in any order to rows and columns of a square lattice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import FormatError

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_EXACT = 1e-6
_DECIMALS = 3  # what single precision leaves of a micrometre across a slide
_ROUNDING = 0.51  # of a coordinate that was rounded to a whole number
_FIT = 0.01  # of a stride: what is left where tools round strides inside and between blocks of patches
_MIN_STEP = 1 / 16  # of a patch: a common divisor below it is chance, not a stride


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Cell (row, col) has its corner at origin + stride * (row, col), in the units of the coordinates."""

    cells: Int  # (n, 2) row and column of each corner; the smallest row and the smallest column are 0
    origin: tuple[float, float]  # y, x
    stride: float
    off: Float  # (n,) how far each corner lies from its cell's, along the worse axis

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that hold every corner."""
        rows, cols = self.cells.max(axis=0) + 1
        return int(rows), int(cols)


def place(corners: Float, *, patch: float, stride: float | None, tolerance: float) -> Placement:
    """Place corners (n, 2), y before x, on a lattice; `patch` is a patch's side in the same units.

    Without a stride it is taken from the distances of neighbours in a row or column, or from the patch where there are
    none. A stride that is a little off (tools round it to whole pixels) is refined by least squares. A corner may lie
    `tolerance` strides, or half a unit of rounding, off its cell; FormatError tells which lie farther.
    """
    guess = stride or _usual_step(corners, patch) or patch
    direct = _direct(corners, guess)
    if direct.off.max() <= _EXACT:
        return direct
    fitted = min(direct, _refined(corners, guess), key=lambda found: float(found.off.max()))
    # A fit that leaves more than rounding was pulled by strays: then the lattice is the one that most corners are on.
    placement = fitted if fitted.off.max() <= max(_ROUNDING, _FIT * fitted.stride) else direct
    allowed = max(_ROUNDING, tolerance * placement.stride)
    if placement.off.max() > allowed:
        raise FormatError(_off_the_lattice(corners, placement, allowed))
    return placement


def _usual_step(corners: Float, patch: float) -> float | None:
    """The distance of neighbours: what divides all distances where something does, else the most frequent."""
    steps = np.concatenate([_steps_along(corners, axis) for axis in (0, 1)])
    if not len(steps):
        return None
    if (steps == np.rint(steps)).all():
        divisor = float(np.gcd.reduce(steps.astype(np.int64)))
        if divisor >= patch * _MIN_STEP:
            return divisor
    least = float(steps.min())
    times = np.rint(steps / least)
    if least >= patch * _MIN_STEP and (np.abs(steps - times * least) <= np.minimum(times + 1, least / 4)).all():
        return least  # all are multiples of it, each of them rounded
    values, counts = np.unique(np.round(steps, _DECIMALS), return_counts=True)
    return float(values[counts.argmax()])


def _steps_along(corners: Float, axis: int) -> Float:
    """Distances along an axis between neighbours that share the other coordinate."""
    order = np.lexsort((corners[:, axis], corners[:, 1 - axis]))
    steps = np.diff(corners[order], axis=0)
    along: Float = steps[(steps[:, 1 - axis] == 0) & (steps[:, axis] > 10.0**-_DECIMALS), axis]
    return along


def _direct(corners: Float, stride: float) -> Placement:
    """Each corner at its nearest cell of the lattice that most corners agree on."""
    origin = np.array([_phase(corners[:, axis], stride) for axis in (0, 1)])
    return _placement(corners, np.rint((corners - origin) / stride).astype(np.int64), origin, stride)


def _phase(places: Float, stride: float) -> float:
    values, counts = np.unique(np.round(np.mod(places, stride), _DECIMALS), return_counts=True)
    return float(values[counts.argmax()])


def _refined(corners: Float, guess: float) -> Placement:
    """Cells counted from neighbour to neighbour, so that no error adds up; then stride and origin by least squares."""
    cells = np.stack([_counted(corners[:, axis], guess) for axis in (0, 1)], axis=1)
    away = cells - cells.mean(axis=0)
    spread = float((away**2).sum())
    stride = float((away * corners).sum()) / spread if spread else guess
    if stride <= 0:
        stride = guess
    return _placement(corners, cells, corners.mean(axis=0) - stride * cells.mean(axis=0), stride)


def _counted(places: Float, guess: float) -> Int:
    values, which = np.unique(places, return_inverse=True)
    steps = np.rint(np.diff(values) / guess).astype(np.int64)
    return np.concatenate([[0], np.cumsum(steps)])[which]


def _placement(corners: Float, cells: Int, origin: Float, stride: float) -> Placement:
    off = np.abs(corners - origin - stride * cells).max(axis=1)
    first = cells.min(axis=0)
    y, x = origin + stride * first
    return Placement(cells - first, (float(y), float(x)), stride, off)


def _off_the_lattice(corners: Float, placement: Placement, allowed: float) -> str:
    wrong = np.flatnonzero(placement.off > allowed)
    named = ", ".join(f"({corners[i, 1]:g}, {corners[i, 0]:g})" for i in wrong[:3])
    y, x = placement.origin
    return (
        f"{len(wrong)} of {len(corners)} coordinates lie off the lattice with stride {placement.stride:g} through "
        f"(x, y) = ({x:g}, {y:g}), by up to {placement.off.max():g}: {named}{', ...' if len(wrong) > 3 else ''}. "
        "CLAM starts a lattice anew at each piece of tissue: --grid-tolerance 0.5 (in Python: tolerance=0.5) moves "
        "every patch to its nearest cell"
    )
