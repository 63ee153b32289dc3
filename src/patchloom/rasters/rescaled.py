"""A raster seen at another pixel size."""

from __future__ import annotations

from math import ceil, floor

import numpy as np

from patchloom.errors import GeometryError
from patchloom.geometry import Box, Frame, PixelSize
from patchloom.rasters.georeference import GeoReference
from patchloom.rasters.raster import Raster, require_pixel_size
from patchloom.rasters.resample import Axis
from patchloom.rasters.source import Bool, UInt8


class Rescaled:
    """A raster resampled by region to `pixel_size`; a `Slide` whose box (0, 0) shares the raster's corner.

    `ratio` is the length of a pixel here in pixels of the raster. Sizes that agree (PixelSize.agrees) pass through
    untouched and keep the raster's own size. What is left of a last, cut pixel is dropped.
    Raises InputError for a raster without pixel size, GeometryError where less than a pixel would be left.
    """

    def __init__(self, raster: Raster, pixel_size: PixelSize) -> None:
        own = require_pixel_size(raster)
        self.raster = raster
        self.ratio = 1.0 if own.agrees(pixel_size) else pixel_size.ratio(own)
        height, width = (floor(side / self.ratio + 1e-6) for side in raster.frame.box.shape)
        if min(height, width) < 1:
            raise GeometryError(
                f"`{raster.name}` is {raster.frame.width} x {raster.frame.height} px of {own}: less than one pixel of "
                f"{pixel_size}"
            )
        self.frame = Frame(height, width, 3, "uint8", own if self.ratio == 1.0 else pixel_size)

    @property
    def name(self) -> str:
        """The raster's name."""
        return self.raster.name

    @property
    def geo(self) -> GeoReference | None:
        """The raster's georeference with pixels of this size."""
        geo = self.raster.geo
        return geo.rescaled(self.ratio) if geo else None

    def read(self, box: Box) -> UInt8:
        """The (3, h, w) RGB pixels of a box, in pixels of this size."""
        self._inside(box)
        if self.ratio == 1.0:
            return self.raster.read(box)
        return self.raster.sampled(Axis(box.y, box.height, self.ratio), Axis(box.x, box.width, self.ratio))

    def valid(self, box: Box) -> Bool:
        """The (h, w) mask of a box: True where every pixel of the raster under the pixel is valid."""
        self._inside(box)
        if self.ratio == 1.0:
            return self.raster.valid(box)
        under = self.source_box(box)
        mask = _all_under(self.raster.valid(under), _edges(box.y, box.height, self.ratio, under.y, under.height), 0)
        return _all_under(mask, _edges(box.x, box.width, self.ratio, under.x, under.width), 1)

    def source_box(self, box: Box) -> Box:
        """The pixels of the raster that a box touches."""
        top, left = floor(box.y * self.ratio), floor(box.x * self.ratio)
        bottom, right = ceil(box.stop_y * self.ratio), ceil(box.stop_x * self.ratio)
        return Box(top, left, bottom - top, right - left).meet(self.raster.frame.box)

    def _inside(self, box: Box) -> None:
        if box.area == 0 or not self.frame.box.contains(box):
            raise GeometryError(
                f"region {box.x},{box.y},{box.width},{box.height} (x, y, width, height) does not lie inside "
                f"`{self.name}`, which is {self.frame.width} x {self.frame.height} px at {self.frame.pixel_size}"
            )


def _edges(first: int, count: int, ratio: float, start: int, size: int) -> list[tuple[int, int]]:
    """The half-open range of source pixels, counted from `start`, under each of `count` pixels."""
    places = range(first, first + count)
    lows = [min(floor(place * ratio) - start, size - 1) for place in places]
    return [
        (low, min(max(ceil((place + 1) * ratio) - start, low + 1), size))
        for place, low in zip(places, lows, strict=True)
    ]


def _all_under(mask: Bool, edges: list[tuple[int, int]], axis: int) -> Bool:
    """Whether every entry of each range along an axis is True."""
    wrong = np.cumsum(~mask, axis=axis, dtype=np.int32)
    wrong = np.concatenate([np.zeros_like(wrong.take([0], axis=axis)), wrong], axis=axis)
    lows, highs = zip(*edges, strict=True)
    return np.asarray(wrong.take(highs, axis=axis) == wrong.take(lows, axis=axis))
