"""Canvases that close upon themselves, across, down or both: what is joined to what, and the cells of such a scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.geometry import Box, Period

Wrap: TypeAlias = tuple[bool, bool]
"""Whether the lower edge is joined to the upper one, and the right edge to the left one."""

FLAT: Wrap = (False, False)
Mix: TypeAlias = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[Any]]
"""Vectors (..., dim) at shares t (...) of the way from one to another."""


def periods(shape: tuple[int, int], wrap: Wrap) -> Period:
    """After how many rows and columns a canvas (height, width) begins anew."""
    return shape[0] if wrap[0] else None, shape[1] if wrap[1] else None


def copies(region: Box, box: Box, period: Period) -> Iterator[Box]:
    """The parts of a box that lie under a region, or under one of its copies a period away."""
    downs = _turns(region.y, region.height, box.y, box.stop_y, period[0])
    acrosses = list(_turns(region.x, region.width, box.x, box.stop_x, period[1]))
    for y in downs:
        for x in acrosses:
            part = region.moved(y, x).meet(box)
            if part.area:
                yield part


def _turns(start: int, length: int, low: int, high: int, period: int | None) -> range | tuple[int]:
    """How far an interval may be moved to meet low:high."""
    if period is None:
        return (0,)
    return range((low - start - length) // period * period, (high - start) // period * period + 1, period)


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Embeddings (rows, cols, dim) and which of them say something (rows, cols)."""

    embeddings: NDArray[np.floating[Any]]
    valid: NDArray[np.bool_]

    def closed(self, step: tuple[float, float], shape: tuple[int, int], wrap: Wrap, mix: Mix) -> Cells:
        """Cells all round a ring, `step` latents apart over the joined borders too.

        Where cells overlap, the last one of a row lies farther than a step from the first one of the next turn: cells
        in between are mixed of the two, which leaves their interpolant as it was. Raises InputError where a canvas
        (height, width) of latents is no whole number of steps.
        """
        cells = self
        for axis in (0, 1):
            if wrap[axis]:
                cells = cells._joined(axis, _count(shape[axis], step[axis], "height" if axis == 0 else "width"), mix)
        return cells

    def _joined(self, axis: int, count: int, mix: Mix) -> Cells:
        gap = count - self.valid.shape[axis]
        if gap == 0:
            return self
        last, first = (np.take(self.embeddings, [end], axis).astype(np.float32) for end in (-1, 0))
        known, also = (np.take(self.valid, [end], axis) for end in (-1, 0))
        before = np.where(known[..., None] | ~also[..., None], last, first)
        after = np.where(also[..., None] | ~known[..., None], first, last)
        share = np.arange(1, gap + 1) / (gap + 1)
        shares = np.broadcast_to(share[:, None] if axis == 0 else share, self._between(axis, gap))
        wide = [np.broadcast_to(one, (*shares.shape, one.shape[-1])) for one in (before, after)]
        mixed = mix(wide[0], wide[1], shares).astype(self.embeddings.dtype)
        valid = np.where(shares < 0.5, known, np.where(shares > 0.5, also, known | also))
        return Cells(np.concatenate([self.embeddings, mixed], axis), np.concatenate([self.valid, valid], axis))

    def _between(self, axis: int, gap: int) -> tuple[int, int]:
        rows, cols = self.valid.shape
        return (gap, cols) if axis == 0 else (rows, gap)


def straight(a: NDArray[Any], b: NDArray[Any], t: NDArray[Any]) -> NDArray[Any]:
    """Linear interpolation."""
    return np.asarray(a + (b - a) * t[..., None])


def _count(length: int, step: float, name: str) -> int:
    count = round(length / step)
    if abs(count * step - length) > 1e-6:
        raise InputError(
            f"a canvas that wraps is a whole number of steps between cells, but its {name} of {length} latents is "
            f"{length / step:.2f} steps of {step:g}; take another --region or --stride, or leave --wrap out"
        )
    return count
