"""Whole-slide images and tiled pyramids through OpenSlide."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from patchloom import provenance
from patchloom.errors import FormatError
from patchloom.geometry import Box, PixelSize
from patchloom.rasters.source import Bool, Facts, UInt8, levels_of, over_white, plausible

_BLOCK = 256  # reads are cut along this lattice of a level whose downsample is no whole number
_BAND_PX = 1 << 24  # pixels that OpenSlide is asked for at once, 4 bytes each


def detect(path: Path) -> str | None:
    """OpenSlide's name for the file's format; None where it does not know it."""
    import openslide

    vendor: str | None = openslide.OpenSlide.detect_format(path)
    return vendor


class SlideSource:
    """An open slide. Pixels that the scanner did not record are transparent: not valid, and white."""

    def __init__(self, path: Path) -> None:
        import openslide

        self._path = path
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise FormatError(f"`{path}` cannot be opened as a slide, it may be truncated: {error}") from None
        properties = self._slide.properties
        sizes = [(height, width) for width, height in self._slide.level_dimensions]
        block = provenance.parse(properties.get("openslide.comment"))
        holes = properties.get("openslide.vendor") != "generic-tiff"
        size = _pixel_size(properties)
        power = _objective(properties) if size is None else None
        self.facts = Facts(
            _format(properties),
            levels_of(sizes),
            PixelSize.parse(f"{power}x") if power else size,
            provenance=block,
            holes=holes,
            objective=power,
        )

    def read(self, level: int, box: Box) -> UInt8:
        """The (3, h, w) pixels of a box of a level."""
        rgba = self._rgba(level, box)
        return over_white(rgba[:3], rgba[3])

    def valid(self, level: int, box: Box) -> Bool:
        """Where the scanner recorded something."""
        return np.asarray(self._rgba(level, box)[3] > 0)

    def close(self) -> None:
        """Close the slide."""
        self._slide.close()

    def _rgba(self, level: int, box: Box) -> UInt8:
        out = np.empty((4, *box.shape), np.uint8)
        for part in self._parts(level, box):
            rows, cols = part.meet(box).inside(part)
            out[:, *part.meet(box).inside(box)] = self._region(level, part)[:, rows, cols]
        return out

    def _parts(self, level: int, box: Box) -> list[Box]:
        # OpenSlide takes level-0 corners. Where the downsample is no whole number a corner between pixels makes it
        # interpolate, differently for every box; fixed blocks give each pixel one value.
        if float(self._slide.level_downsamples[level]).is_integer():
            step = max(_BAND_PX // max(box.width, 1), 1)
            tops = range(box.y, box.stop_y, step)
            return [Box(top, box.x, min(step, box.stop_y - top), box.width) for top in tops]
        rows = range(box.y // _BLOCK * _BLOCK, box.stop_y, _BLOCK)
        cols = range(box.x // _BLOCK * _BLOCK, box.stop_x, _BLOCK)
        whole = self.facts.levels[level].box
        return [Box(y, x, _BLOCK, _BLOCK).meet(whole) for y in rows for x in cols]

    def _region(self, level: int, box: Box) -> UInt8:
        import openslide

        downsample = self._slide.level_downsamples[level]
        corner = (round(box.x * downsample), round(box.y * downsample))
        try:
            image = self._slide.read_region(corner, level, (box.width, box.height))
        except openslide.OpenSlideError as error:
            raise FormatError(f"`{self._path}` is damaged or truncated near {box}: {error}") from None
        rgba: UInt8 = np.asarray(image).transpose(2, 0, 1)
        return rgba


def _format(properties: Any) -> str:
    return f"openslide:{properties.get('openslide.vendor', 'unknown')}"


def _pixel_size(properties: Any) -> PixelSize | None:
    """The mean of OpenSlide's two lengths. In a generic TIFF they are resolution tags, which may mean paper."""
    try:
        across, down = (float(properties[f"openslide.mpp-{axis}"]) for axis in "xy")
    except (KeyError, ValueError):
        return None
    metres = (across + down) / 2 * 1e-6
    if properties.get("openslide.vendor") == "generic-tiff":
        return plausible(metres)
    return PixelSize(metres) if metres > 0 else None


def _objective(properties: Any) -> float | None:
    """The objective's power, where the scanner states one."""
    try:
        power = float(properties["openslide.objective-power"])
    except (KeyError, ValueError):
        return None
    return power if isfinite(power) and power > 0 else None
