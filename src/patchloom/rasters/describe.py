"""What a raster is, from its header alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from patchloom.rasters import tiff
from patchloom.rasters.opening import check_file, reader_of
from patchloom.rasters.picture import PictureSource, open_picture, picture_facts
from patchloom.rasters.source import Facts


def describe(path: str | Path) -> dict[str, Any]:
    """Format, `size_px` (height, width), `pixel_size_m`, levels, CRS, transform, and provenance when it is ours.

    `pixel_size_from` is there where the pixel size is not stated but follows from the objective's power.
    Plain values that JSON holds; None where the file does not say. Decodes no pixels. Raises as `open_raster` does.
    """
    path = Path(path)
    check_file(path)
    facts = _facts(path)
    first = facts.levels[0]
    return {
        "name": path.name,
        "format": facts.format,
        "size_px": [first.height, first.width],
        "pixel_size_m": facts.pixel_size.metres if facts.pixel_size else None,
        **({} if facts.objective is None else {"pixel_size_from": f"the objective, {facts.objective:g}x"}),
        "levels": [{"size_px": [level.height, level.width], "downsample": level.downsample} for level in facts.levels],
        "crs": (facts.geo.crs or None) if facts.geo else None,
        "transform": list(facts.geo.transform) if facts.geo else None,
        "provenance": dict(facts.provenance) if facts.provenance is not None else None,
    }


def doubts(path: str | Path) -> tuple[str, ...]:
    """What a file leaves open about its pixel size, as sentences; from its header alone. Raises as `open_raster`."""
    path = Path(path)
    check_file(path)
    return _facts(path).doubts(path.name)


def _facts(path: Path) -> Facts:
    reader = reader_of(path)
    if reader is PictureSource:
        with open_picture(path) as image:
            return picture_facts(image)
    if reader is tiff.TiffSource:
        with tiff.open_tiff(path) as file:
            return tiff.tiff_facts(file)
    source = reader(path)
    try:
        return source.facts
    finally:
        source.close()
