"""A field is a value defined over the plane and read by region: a slide, noise, latents, a finished canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from patchloom.errors import GeometryError
from patchloom.geometry import Box, Frame, PixelSize


class Field(Protocol):
    """Anything that answers for a box of its frame. Pyramid writers and the viewer take any field."""

    @property
    def frame(self) -> Frame:
        """Extent, channels, dtype and pixel size."""
        ...

    def read(self, box: Box) -> NDArray[Any]:
        """The (channels, box.height, box.width) array of a box inside the frame."""
        ...


@dataclass(frozen=True, slots=True)
class ArrayField:
    """A field over an array (channels, height, width) that is in memory or mapped from disk."""

    array: NDArray[Any]
    pixel_size: PixelSize | None = None

    @property
    def frame(self) -> Frame:
        """The array's own extent and dtype."""
        channels, height, width = self.array.shape
        return Frame(height, width, channels, self.array.dtype.name, self.pixel_size)

    def read(self, box: Box) -> NDArray[Any]:
        """A view of the box; GeometryError where it leaves the array."""
        return self.array[:, *box.inside(self.frame.box)]


@dataclass(frozen=True, slots=True)
class Cropped:
    """A box of another field, as a field of its own whose corner is (0, 0). GeometryError where it lies outside."""

    source: Field
    box: Box

    def __post_init__(self) -> None:
        if not self.source.frame.box.contains(self.box):
            raise GeometryError(f"region {self.box} does not lie inside {self.source.frame.box}")

    @property
    def frame(self) -> Frame:
        """The source's frame with the box's extent."""
        whole = self.source.frame
        return Frame(self.box.height, self.box.width, whole.channels, whole.dtype, whole.pixel_size)

    def read(self, box: Box) -> NDArray[Any]:
        """The part of the source under `box`."""
        box.inside(self.frame.box)
        return self.source.read(box.moved(self.box.y, self.box.x))
