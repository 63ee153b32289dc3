"""An open reference: a field of RGB pixels that also knows its levels, its place and where it holds data."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import GeometryError, InputError
from patchloom.geometry import Box, Frame, PixelSize
from patchloom.rasters.georeference import GeoReference
from patchloom.rasters.resample import Axis, block_means, reduced, resample, weights
from patchloom.rasters.source import Bool, Facts, Level, Source, UInt8

_READ_PX = 1 << 24  # source pixels that are held at once while resampling


class Slide(Protocol):
    """What the tools ask of a reference: a field of uint8 RGB that has a name and a place. At one pixel size."""

    @property
    def frame(self) -> Frame:
        """Extent, 3 channels of uint8, and the pixel size where it is known."""
        ...

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        ...

    @property
    def geo(self) -> GeoReference | None:
        """Where it lies on Earth."""
        ...

    def read(self, box: Box) -> UInt8:
        """The (3, h, w) RGB pixels of a box inside the frame."""
        ...

    def valid(self, box: Box) -> Bool:
        """The (h, w) mask of a box: False where the file holds no data."""
        ...


@dataclass(frozen=True, slots=True)
class _Plane:
    """A level averaged over blocks of `reduce` pixels; its pixels are `scale` level-0 pixels long."""

    level: int
    reduce: int
    scale: float
    height: int
    width: int


class Raster:
    """An open file: a `Slide` at level 0, and a context manager that closes it.

    `resized` reads a box at a lower resolution from the best level of the pyramid. `doubts` are sentences on what the
    file leaves open.
    """

    def __init__(self, name: str, source: Source, pixel_size: PixelSize | None = None) -> None:
        self.name = name
        self._source = source
        level = source.facts.levels[0]
        self.frame = Frame(level.height, level.width, 3, "uint8", pixel_size or source.facts.pixel_size)
        self.doubts = () if pixel_size else source.facts.doubts(name)

    @property
    def facts(self) -> Facts:
        """What the file says about itself, whatever pixel size it was opened with."""
        return self._source.facts

    @property
    def levels(self) -> tuple[Level, ...]:
        """The resolutions that the file holds, finest first."""
        return self._source.facts.levels

    @property
    def geo(self) -> GeoReference | None:
        """Where the raster lies on Earth; None for a slide."""
        return self._source.facts.geo

    def read(self, box: Box) -> UInt8:
        """The (3, h, w) RGB pixels of a box of level 0.

        Raises GeometryError for a box that leaves the raster, FormatError where the file is damaged.
        """
        self._inside(box)
        return self._source.read(0, box)

    def valid(self, box: Box) -> Bool:
        """The (h, w) mask of a box of level 0: False where the file holds no data. Raises as `read` does."""
        self._inside(box)
        return self._source.valid(0, box) if self.facts.holes else np.ones(box.shape, np.bool_)

    def valid_share(self, cells: Box, side: int) -> NDArray[np.float32]:
        """The share of valid pixels in blocks of side x side level-0 pixels; block (0, 0) is at the raster's corner.

        Read from the coarsest level that has at least two pixels along a block. The last blocks may be cut.
        """
        if not self.facts.holes:
            return np.ones(cells.shape, np.float32)
        fits = [index for index, level in enumerate(self.levels) if side % (2 * level.downsample) == 0]
        index = fits[-1] if fits else 0
        part = side // int(self.levels[index].downsample)
        box = cells.times(part).meet(self.levels[index].box)
        return block_means(self._source.valid(index, box), part)

    def resized(self, box: Box, height: int, width: int) -> UInt8:
        """A box of level 0 as (3, height, width), antialiased, from the coarsest level that is fine enough."""
        self._inside(box)
        return self.sampled(
            Axis(0, height, box.height / height, float(box.y)), Axis(0, width, box.width / width, float(box.x))
        )

    def sampled(self, rows: Axis, cols: Axis) -> UInt8:
        """The (3, rows, cols) pixels at output places that are given in pixels of level 0.

        An output pixel depends on its own place alone, so reading a part equals the crop of reading the whole.
        """
        plane = self._plane(min(rows.step, cols.step))
        left, right = cols.reach(plane.scale, plane.width)
        deep = max(int(_READ_PX / ((right - left) * plane.reduce**2 * max(rows.step / plane.scale, 1))), 1)
        across = weights(cols, plane.scale, plane.width, (left, right))
        bands = []
        for part in rows.parts(deep):
            top, bottom = part.reach(plane.scale, plane.height)
            pixels = self._reduced(plane, Box(top, left, bottom - top, right - left))
            bands.append(resample(pixels, weights(part, plane.scale, plane.height, (top, bottom)), across))
        return np.concatenate(bands, axis=1)

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _plane(self, step: float) -> _Plane:
        """The coarsest level not coarser than `step`; far finer ones are averaged by a whole factor first."""
        fine = [index for index, level in enumerate(self.levels) if level.downsample <= step * (1 + 1e-9)]
        index = fine[-1] if fine else 0
        level = self.levels[index]
        reduce = max(int(step / level.downsample / 2), 1)
        height, width = -(-level.height // reduce), -(-level.width // reduce)
        return _Plane(index, reduce, level.downsample * reduce, height, width)

    def _reduced(self, plane: _Plane, box: Box) -> UInt8:
        source = box.times(plane.reduce).meet(self.levels[plane.level].box)
        return reduced(self._source.read(plane.level, source), plane.reduce)

    def _inside(self, box: Box) -> None:
        if box.area == 0 or not self.frame.box.contains(box):
            raise GeometryError(
                f"region {box.x},{box.y},{box.width},{box.height} (x, y, width, height) does not lie inside "
                f"`{self.name}`, which is {self.frame.width} x {self.frame.height} px"
            )


def require_pixel_size(slide: Slide) -> PixelSize:
    """The pixel size of a slide. Raises InputError, asking for `--slide-pixel-size`, where it is not known."""
    if slide.frame.pixel_size is None:
        raise InputError(
            f"`{slide.name}` does not say how long its pixels are; say it with `--slide-pixel-size` (in a table: in "
            "the column pixel_size), such as 0.5um or 20x for a slide, 0.6m for an aerial image"
        )
    return slide.frame.pixel_size
