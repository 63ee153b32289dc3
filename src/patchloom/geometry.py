"""Where things lie: boxes, frames, lattices of windows, and the size of a pixel.

y before x and height before width, everywhere. All arithmetic is exact on integers or raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import TypeAlias

from patchloom.errors import GeometryError, InputError


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A rectangle of whole pixels (or latents, or cells): the top left corner and the extent."""

    y: int
    x: int
    height: int
    width: int

    @property
    def stop_y(self) -> int:
        """The first row below the box."""
        return self.y + self.height

    @property
    def stop_x(self) -> int:
        """The first column right of the box."""
        return self.x + self.width

    @property
    def area(self) -> int:
        """Pixels in the box; 0 for an empty one."""
        return max(self.height, 0) * max(self.width, 0)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def meet(self, other: Box) -> Box:
        """The intersection; its area is 0 where the two do not touch."""
        y, x = max(self.y, other.y), max(self.x, other.x)
        height = max(min(self.stop_y, other.stop_y) - y, 0)
        width = max(min(self.stop_x, other.stop_x) - x, 0)
        return Box(y, x, height, width)

    def contains(self, other: Box) -> bool:
        """Whether every pixel of `other` lies in this box."""
        return self.y <= other.y and self.x <= other.x and other.stop_y <= self.stop_y and other.stop_x <= self.stop_x

    def grown(self, margin: int) -> Box:
        """The box with `margin` more pixels on each side."""
        return Box(self.y - margin, self.x - margin, self.height + 2 * margin, self.width + 2 * margin)

    def moved(self, y: int, x: int) -> Box:
        """The box shifted by (y, x)."""
        return Box(self.y + y, self.x + x, self.height, self.width)

    def inside(self, other: Box) -> tuple[slice, slice]:
        """Slices that cut this box out of an array that holds `other`.

        Raises GeometryError where a part of this box lies outside `other`.
        """
        if not other.contains(self):
            raise GeometryError(f"{self} does not lie inside {other}; clip it with meet() first")
        top, left = self.y - other.y, self.x - other.x
        return slice(top, top + self.height), slice(left, left + self.width)

    def times(self, factor: int) -> Box:
        """The same place counted in pixels `factor` times smaller (latents to pixels)."""
        return Box(self.y * factor, self.x * factor, self.height * factor, self.width * factor)

    def over(self, factor: int) -> Box:
        """The same place counted in pixels `factor` times larger. Raises GeometryError where that is not exact."""
        if any(value % factor for value in (self.y, self.x, self.height, self.width)):
            raise GeometryError(
                f"{self} cannot be counted in units of {factor} pixels without rounding; "
                f"use a region whose corner and extent are multiples of {factor}"
            )
        return Box(self.y // factor, self.x // factor, self.height // factor, self.width // factor)

    @classmethod
    def parse(cls, text: str) -> Box:
        """Read `X,Y,WIDTH,HEIGHT` in level-0 pixels, as OpenSlide and QuPath speak. Raises InputError for all else."""
        parts = text.split(",")
        if len(parts) != 4 or not all(re.fullmatch(r"\s*-?\d+\s*", part) for part in parts):
            raise InputError(f"region `{text}` is not X,Y,WIDTH,HEIGHT in whole pixels, as in 1024,512,2048,2048")
        x, y, width, height = (int(part) for part in parts)
        if width <= 0 or height <= 0:
            raise InputError(f"region `{text}` has no area: width and height must be positive")
        return cls(y, x, height, width)


_PIXEL_SIZE = re.compile(r"\s*([0-9.]+(?:[eE][-+]?\d+)?)\s*(nm|um|µm|μm|mm|cm|m|x)\s*")
_METRES = {"nm": 1e-9, "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}
_OBJECTIVE_UM = 10.0  # an objective of 20x means about 0.5 um a pixel, 40x 0.25: 10 um over the power


@dataclass(frozen=True, slots=True, order=True)
class PixelSize:
    """The length of a pixel's side in metres. Raises InputError for what is no positive length."""

    metres: float

    def __post_init__(self) -> None:
        if not (isfinite(self.metres) and self.metres > 0):
            raise InputError(f"a pixel size must be a positive length, not {self.metres} m")

    @classmethod
    def parse(cls, text: str) -> PixelSize:
        """Read `0.5um`, `20x` (objective power: 10 um divided by it) or `0.6m`. Raises InputError for anything else."""
        match = _PIXEL_SIZE.fullmatch(text)
        try:
            if match is None:
                raise ValueError
            number = float(match[1])
            return cls(_OBJECTIVE_UM * 1e-6 / number if match[2] == "x" else number * _METRES[match[2]])
        except (ValueError, ZeroDivisionError):
            raise InputError(
                f"pixel size `{text}` was not understood; write a length with its unit, such as 0.5um or 0.6m, "
                "or an objective power such as 20x"
            ) from None

    def __str__(self) -> str:
        if self.metres < 1e-3:
            return f"{self.metres * 1e6:.6g}um"
        return f"{self.metres:.6g}m"

    def ratio(self, other: PixelSize) -> float:
        """How many of `other` fit in one of these: 2.0 where this pixel is twice as long."""
        return self.metres / other.metres

    def agrees(self, other: PixelSize, tolerance: float = 0.02) -> bool:
        """Whether the two are the same length within a relative tolerance."""
        return abs(self.metres / other.metres - 1) <= tolerance


@dataclass(frozen=True, slots=True)
class Frame:
    """What a field is: its extent, how many channels of which dtype (numpy's name), and its pixel size."""

    height: int
    width: int
    channels: int
    dtype: str
    pixel_size: PixelSize | None = None

    @property
    def box(self) -> Box:
        """The whole extent."""
        return Box(0, 0, self.height, self.width)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A window along one axis: what it reads, and the core of its answer that is kept, which must lie inside it."""

    start: int
    stop: int
    core_start: int
    core_stop: int

    def __post_init__(self) -> None:
        if not (self.start <= self.core_start < self.core_stop <= self.stop):
            raise GeometryError(f"core {self.core_start}:{self.core_stop} leaves window {self.start}:{self.stop}")


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A window of a lattice: its place in the order, the box it reads, and the box that it answers for."""

    index: int
    box: Box
    core: Box


Period: TypeAlias = tuple[int | None, int | None]
"""After how many rows and columns the plane begins anew: None where an axis has two ends."""

OPEN: Period = (None, None)


@dataclass(frozen=True, slots=True)
class Lattice:
    """The windows of one stage: every span of `rows` with every span of `cols`, numbered row by row.

    Where the cores of an axis overlap (`average`), answers are blended with the product of the two
    axes' profiles; where they partition the axis (`halo`, `shift`), profiles are all ones.
    `profile[k]` is the weight of a window's k-th row or column; None stands for ones.
    Along an axis with a period windows lie on a ring: they may begin before 0 and go beyond the period.
    """

    rows: tuple[Span, ...]
    cols: tuple[Span, ...]
    profile: tuple[float, ...] | None = None
    period: Period = OPEN

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    def __iter__(self) -> Iterator[Window]:
        return (self.window(index) for index in range(len(self)))

    @property
    def box(self) -> Box:
        """The canvas that the cores cover."""
        (top, stop_y), (left, stop_x) = _extent(self.rows, self.period[0]), _extent(self.cols, self.period[1])
        return Box(top, left, stop_y - top, stop_x - left)

    @property
    def overlaps(self) -> bool:
        """Whether some pixel lies in more than one core."""
        return _overlap(self.rows, self.period[0]) or _overlap(self.cols, self.period[1])

    def window(self, index: int) -> Window:
        """The window numbered `index`, row by row."""
        row, col = self.rows[index // len(self.cols)], self.cols[index % len(self.cols)]
        box = Box(row.start, col.start, row.stop - row.start, col.stop - col.start)
        core = Box(row.core_start, col.core_start, row.core_stop - row.core_start, col.core_stop - col.core_start)
        return Window(index, box, core)

    def meeting(self, box: Box) -> list[int]:
        """The numbers of the windows whose core touches `box`, ascending."""
        rows = [i for i, span in enumerate(self.rows) if _touches(span, box.y, box.stop_y, self.period[0])]
        cols = [j for j, span in enumerate(self.cols) if _touches(span, box.x, box.stop_x, self.period[1])]
        return [i * len(self.cols) + j for i in rows for j in cols]


def _extent(spans: Sequence[Span], period: int | None) -> tuple[int, int]:
    if period is not None:
        return 0, period
    return spans[0].core_start, max(span.core_stop for span in spans)


def _overlap(spans: Sequence[Span], period: int | None) -> bool:
    if period is not None and spans[0].core_start + period < spans[-1].core_stop:
        return True
    return any(later.core_start < earlier.core_stop for earlier, later in pairwise(spans))


def _touches(span: Span, start: int, stop: int, period: int | None) -> bool:
    turn = 0 if period is None else (stop - 1 - span.core_start) // period * period
    return span.core_start + turn < stop and start < span.core_stop + turn
