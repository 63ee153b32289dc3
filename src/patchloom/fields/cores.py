"""Which windows of a lattice answer for a box, and what the core of each counts for there.

Along an axis with a period the plane is a ring: a box may lie anywhere on it, and a core that goes over the joined
border answers on both sides.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import GeometryError
from patchloom.geometry import Box, Lattice, Span, Window


class Cores:
    """The cores of a lattice. Raises GeometryError where they are out of order or leave gaps."""

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        self._rows = _Axis.of(lattice.rows, lattice.period[0])
        self._cols = _Axis.of(lattice.cols, lattice.period[1])

    def touching(self, box: Box) -> list[Window]:
        """The windows whose core touches a box, in index order, each moved round to where it does."""
        width = len(self.lattice.cols)
        rows, cols = self._rows.placed(box.y, box.stop_y), self._cols.placed(box.x, box.stop_x)
        found = ((row * width + col, y, x) for (row, y), (col, x) in product(rows, cols))
        return [_moved(self.lattice.window(index), y, x) for index, y, x in found]

    def met(self, boxes: Iterable[Box]) -> NDArray[np.bool_]:
        """Which windows' cores meet some of the boxes, (rows, cols) of the lattice."""
        found = np.zeros((len(self.lattice.rows), len(self.lattice.cols)), bool)
        for box in boxes:
            rows, cols = self._rows.between(box.y, box.stop_y), self._cols.between(box.x, box.stop_x)
            for (some, _), (others, _) in product(rows, cols):
                found[some, others] = True
        return found


def meeting(lattice: Lattice, boxes: Iterable[Box]) -> NDArray[np.bool_]:
    """Which windows' cores meet some of the boxes, (rows, cols) of the lattice."""
    return Cores(lattice).met(boxes)


def shares(lattice: Lattice, scale: int) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """What each core counts for, by row and by column of `scale` times its extent; sums to 1 over all cores.

    Raises GeometryError where the profile does not fit the windows.
    """
    rows = _axis_shares(lattice.rows, lattice.profile, scale, lattice.period[0])
    return rows, _axis_shares(lattice.cols, lattice.profile, scale, lattice.period[1])


@dataclass(frozen=True, slots=True)
class _Axis:
    """Starts and stops of the cores along one axis, both ascending."""

    starts: Sequence[int]
    stops: Sequence[int]
    period: int | None

    @classmethod
    def of(cls, spans: Sequence[Span], period: int | None) -> _Axis:
        starts, stops = [span.core_start for span in spans], [span.core_stop for span in spans]
        if any(a > b for bounds in (starts, stops) for a, b in pairwise(bounds)):
            raise GeometryError("the spans of a lattice must be in ascending order")
        following = starts[1:] if period is None else [*starts[1:], starts[0] + period]
        if any(start > stop for start, stop in zip(following, stops, strict=False)):
            raise GeometryError("the cores of a lattice must leave no gap between them")
        return cls(starts, stops, period)

    def between(self, start: int, stop: int) -> Iterator[tuple[slice, int]]:
        """The cores that touch start:stop, and how far they are moved to do so; several times on a ring."""
        period = self.period or 0
        turns = range((start - self.stops[-1]) // period, (stop - self.starts[0]) // period + 1) if period else (0,)
        for turn in turns:
            low, high = start - turn * period, stop - turn * period
            yield slice(bisect_right(self.stops, low), bisect_left(self.starts, high)), turn * period

    def placed(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The number of each of them and how far it is moved, ascending."""
        return sorted((n, by) for some, by in self.between(start, stop) for n in range(some.start, some.stop))


def _moved(window: Window, y: int, x: int) -> Window:
    return Window(window.index, window.box.moved(y, x), window.core.moved(y, x)) if y or x else window


def _axis_shares(
    spans: Sequence[Span], profile: Sequence[float] | None, scale: int, period: int | None
) -> list[NDArray[np.float32]]:
    length = max(span.core_stop for span in spans) if period is None else period
    places = [np.arange(span.core_start, span.core_stop) % length for span in spans]
    cores = [_core_profile(span, profile) for span in spans]
    total = np.zeros(length)
    for place, core in zip(places, cores, strict=True):
        np.add.at(total, place, core)
    found = (core / total[place] for place, core in zip(places, cores, strict=True))
    return [np.repeat(share, scale).astype(np.float32) for share in found]


def _core_profile(span: Span, profile: Sequence[float] | None) -> NDArray[np.float64]:
    if profile is None:
        return np.ones(span.core_stop - span.core_start)
    if span.stop - span.start > len(profile) or min(profile) <= 0:
        raise GeometryError(
            f"a profile of {len(profile)} weights is too short for a window of {span.stop - span.start}, "
            "or some weight is not positive"
        )
    return np.array(profile[span.core_start - span.start : span.core_stop - span.start])
