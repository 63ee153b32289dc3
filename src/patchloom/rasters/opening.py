"""From a path to an open raster: which reader a file gets is decided by what it holds, never by its suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from patchloom.errors import FormatError, MissingError
from patchloom.geometry import PixelSize
from patchloom.rasters import slide, tiff
from patchloom.rasters.geotiff import GeoTiffSource
from patchloom.rasters.picture import PictureSource
from patchloom.rasters.raster import Raster
from patchloom.rasters.source import Source


def open_raster(path: str | Path, pixel_size: PixelSize | None = None) -> Raster:
    """Open a slide, GeoTIFF or plain picture; `pixel_size` overrides what the file says.

    Raises MissingError, FormatError for what is no picture or is damaged, DependencyError for a GeoTIFF without
    rasterio, and CapacityError where a plain picture is too large to decode here.
    """
    path = Path(path)
    check_file(path)
    return Raster(path.name, reader_of(path)(path), pixel_size)


def check_file(path: Path) -> None:
    """MissingError or FormatError for anything but a file with something in it."""
    if path.is_dir():
        raise FormatError(f"`{path}` is a folder; name the slide or picture inside it")
    if not path.is_file():
        raise MissingError(f"there is no file `{path}`")
    if path.stat().st_size == 0:
        raise FormatError(f"`{path}` is empty")


def reader_of(path: Path) -> Callable[[Path], Source]:
    """GeoTIFF, then the slide formats, then TIFF by its tiles or strips, then plain pictures."""
    if tiff.is_tiff(path):
        return _tiff_reader(path)
    return slide.SlideSource if slide.detect(path) else PictureSource


def _tiff_reader(path: Path) -> Callable[[Path], Source]:
    with tiff.open_tiff(path) as file:
        if tiff.is_georeferenced(file):
            return GeoTiffSource
        vendor = slide.detect(path)
        if vendor and (vendor != "generic-tiff" or tiff.is_plain_pyramid(file)):
            return slide.SlideSource
    return tiff.TiffSource
