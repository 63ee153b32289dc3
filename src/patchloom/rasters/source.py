"""What a file format has to answer so that a `Raster` can be read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import FormatError
from patchloom.geometry import Box, PixelSize
from patchloom.rasters.georeference import GeoReference

UInt8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

WHITE = 255  # what lies under transparent pixels, as in OpenSlide's viewers


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of a raster; `downsample` is the length of its pixel in level-0 pixels."""

    height: int
    width: int
    downsample: float

    @property
    def box(self) -> Box:
        """The whole extent, in this level's pixels."""
        return Box(0, 0, self.height, self.width)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says about itself. `levels` run from fine to coarse; the first is level 0.

    `holes` is False where the format has no way to leave a pixel out, so that nobody need look for them. `objective` is
    the power from which the pixel size was taken where the file states no length: a class, good to some percent.
    """

    format: str
    levels: tuple[Level, ...]
    pixel_size: PixelSize | None = None
    geo: GeoReference | None = None
    provenance: Mapping[str, Any] | None = None
    holes: bool = True
    objective: float | None = None

    def doubts(self, name: str) -> tuple[str, ...]:
        """What a user of the file `name` should know of its pixel size."""
        if self.objective is None:
            return ()
        return (
            f"`{name}` states an objective of {self.objective:g}x and not how long its pixels are; "
            f"{self.pixel_size} follows from it. Where you know better, say it with --slide-pixel-size",
        )


class Source(Protocol):
    """An open file. Boxes are in pixels of the level, and lie inside it."""

    @property
    def facts(self) -> Facts:
        """Format, levels, pixel size, georeference."""
        ...

    def read(self, level: int, box: Box) -> UInt8:
        """The (3, h, w) RGB pixels of a box."""
        ...

    def valid(self, level: int, box: Box) -> Bool:
        """The (h, w) mask of a box: False where the file holds no data."""
        ...

    def close(self) -> None:
        """Let go of the file; reading afterwards is an error."""
        ...


def levels_of(sizes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Levels from (height, width) of each, finest first."""
    return tuple(Level(height, width, _downsample(sizes[0], (height, width))) for height, width in sizes)


def _downsample(full: tuple[int, int], level: tuple[int, int]) -> float:
    """The ratio of two levels: the whole number that their sizes allow, where there is one.

    Writers round odd sizes, so 2967 over 742 means 4, not 3.9987; the quotient would shift far corners by a pixel.
    """
    ratio = max(full) / max(level)
    whole = max(round(ratio), 1)
    fits = all(part in (-(-size // whole), size // whole) for size, part in zip(full, level, strict=True))
    return float(whole) if fits else ratio


def rgb_from(pixels: UInt8) -> UInt8:
    """(channels, h, w) of 1 (grey), 2 (grey, alpha), 3 or more bands as RGB (3, h, w)."""
    return np.repeat(pixels[:1], 3, axis=0) if pixels.shape[0] < 3 else pixels[:3]


def over_white(pixels: UInt8, alpha: UInt8) -> UInt8:
    """(3, h, w) pixels with straight alpha (h, w), laid over white; exact where alpha is 0 or 255."""
    if (alpha == 255).all():
        return pixels
    weight = alpha.astype(np.uint16)
    mixed = (pixels.astype(np.uint16) * weight + WHITE * (255 - weight) + 127) // 255
    return mixed.astype(np.uint8)


def need_8_bit(path: object, dtype: object) -> None:
    """FormatError for anything but 8-bit pixels, with the way out."""
    if str(dtype) != "uint8":
        raise FormatError(
            f"`{path}` holds {dtype} pixels; Patchloom reads 8 bits a channel. Scale it first, for instance with "
            "`gdal_translate -ot Byte -scale LOW HIGH 0 255 IN OUT`"
        )


def plausible(metres: float) -> PixelSize | None:
    """A pixel size from a resolution tag, or None where the tag speaks of paper and screens.

    10 um to 1 cm a pixel is 2.54 to 2540 dots an inch: printers' and scanners' defaults, no microscope's and
    hardly a camera's above ground. One pixel an inch or a centimetre is a placeholder.
    """
    placeholder = any(abs(metres - unit) < 1e-9 for unit in (0.01, 0.0254))
    return PixelSize(metres) if (0 < metres <= 10e-6 or metres >= 0.01) and not placeholder else None
