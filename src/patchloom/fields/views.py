"""Fields that look at other fields: some channels of one, its values times a number, itself again and again; a sum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import GeometryError
from patchloom.fields.field import Field
from patchloom.geometry import OPEN, Box, Frame, Period


@dataclass(frozen=True, slots=True)
class Channels:
    """The first `count` channels of another field: the image, of a state that holds more. GeometryError for fewer."""

    source: Field
    count: int

    def __post_init__(self) -> None:
        if not 0 < self.count <= self.source.frame.channels:
            raise GeometryError(f"{self.count} channels were asked of a field that has {self.source.frame.channels}")

    @property
    def frame(self) -> Frame:
        """The source's frame with `count` channels."""
        return replace(self.source.frame, channels=self.count)

    def read(self, box: Box) -> NDArray[Any]:
        """The first channels of the source's answer."""
        return self.source.read(box)[: self.count]


@dataclass(frozen=True, slots=True)
class Scaled:
    """Another field times a number, as float32: noise at the level that a sampler starts from."""

    source: Field
    factor: float

    @property
    def frame(self) -> Frame:
        """The source's frame, float32."""
        return replace(self.source.frame, dtype="float32")

    def read(self, box: Box) -> NDArray[np.float32]:
        """The source's answer times the factor, rounded once."""
        return self.source.read(box).astype(np.float32, copy=False) * np.float32(self.factor)


@dataclass(frozen=True, slots=True)
class Added:
    """The sum of two fields of one extent, as float32: an image under noise. GeometryError where extents differ."""

    first: Field
    second: Field

    def __post_init__(self) -> None:
        one, two = replace(self.first.frame, dtype="float32"), replace(self.second.frame, dtype="float32")
        if one != two:
            raise GeometryError(f"only fields of one extent can be added, not {one} and {two}")

    @property
    def frame(self) -> Frame:
        """The frame of both, float32."""
        return replace(self.first.frame, dtype="float32")

    def read(self, box: Box) -> NDArray[np.float32]:
        """Both answers, added."""
        return np.asarray(self.first.read(box) + self.second.read(box), np.float32)


@dataclass(frozen=True, slots=True)
class Mirrored:
    """Another field that goes on beyond its edges with what lies inside of them, mirrored, the outermost value first.

    Of a box that reaches farther over an edge than it reaches inside, what is mirrored begins anew: ask for no more.
    """

    source: Field

    @property
    def frame(self) -> Frame:
        """The source's frame; boxes that leave it are answered where they touch it."""
        return self.source.frame

    def read(self, box: Box) -> NDArray[Any]:
        """The part of the box inside the frame, mirrored outwards. Raises GeometryError where there is none."""
        part = box.meet(self.frame.box)
        if not part.area:
            raise GeometryError(f"{box} does not touch {self.frame.box}: there is no edge to mirror at")
        inner = self.source.read(part)
        down, across = (part.y - box.y, box.stop_y - part.stop_y), (part.x - box.x, box.stop_x - part.stop_x)
        return np.pad(inner, ((0, 0), down, across), mode="symmetric") if part != box else inner


@dataclass(frozen=True, slots=True)
class Around:
    """Another field that begins anew where it ends, along the axes that have a period: a ring, or a torus."""

    source: Field
    period: Period

    @property
    def frame(self) -> Frame:
        """The source's frame; along a closed axis boxes outside of it are answered too."""
        return self.source.frame

    def read(self, box: Box) -> NDArray[Any]:
        """The box, of as many pieces of the source as it goes over joined borders."""
        rows, cols = _pieces(box.y, box.height, self.period[0]), list(_pieces(box.x, box.width, self.period[1]))
        strips = [[self.source.read(Box(y, x, height, width)) for x, width in cols] for y, height in rows]
        if len(strips) == len(cols) == 1:
            return strips[0][0]
        return np.concatenate([np.concatenate(strip, axis=2) for strip in strips], axis=1)


def around(source: Field, period: Period) -> Field:
    """The field itself where no axis is closed, else `Around` it."""
    return source if period == OPEN else Around(source, period)


def _pieces(start: int, length: int, period: int | None) -> Iterator[tuple[int, int]]:
    """Start and length of the pieces of an interval, each inside one turn."""
    if period is None:
        yield start, length
        return
    stop = start + length
    while start < stop:
        place = start % period
        taken = min(period - place, stop - start)
        yield place, taken
        start += taken
