"""The GeoTIFF tags of a georeference, as GDAL writes them."""

from __future__ import annotations

from typing import Any

from patchloom.errors import DependencyError, InputError
from patchloom.provenance import Georeferenced
from patchloom.pyramids.layout import Tag, numbers, text

_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)  # scale, tie point, transformation, key directory, doubles, text
_ASCII, _SHORT = 2, 3


def geo_tags(geo: Georeferenced) -> list[Tag]:
    """Ask GDAL for the tags by way of a one-pixel file in memory.

    Raises DependencyError without rasterio, InputError where GDAL does not know the reference system.
    """
    try:
        import rasterio
        from rasterio.errors import CRSError
    except ImportError:
        raise DependencyError(
            "writing a georeferenced TIFF needs rasterio: install it with `pip install patchloom[geo]`"
        ) from None
    try:
        crs = rasterio.crs.CRS.from_wkt(geo.crs) if geo.crs else None
    except CRSError as error:
        raise InputError(f"the reference system {geo.crs[:60]!r}... is not WKT that GDAL reads: {error}") from None
    with rasterio.MemoryFile() as memory:
        shape = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
        with memory.open(**shape, crs=crs, transform=rasterio.Affine(*geo.transform)):
            pass
        return _copied(bytes(memory.getbuffer()))


def _copied(file: bytes) -> list[Tag]:
    import io

    import tifffile

    with tifffile.TiffFile(io.BytesIO(file)) as tiff:
        tags = tiff.pages[0].tags
        return [_copy(tags[code]) for code in _TAGS if code in tags]


def _copy(tag: Any) -> Tag:
    if int(tag.dtype) == _ASCII:
        return text(tag.code, tag.value)
    return numbers(tag.code, "H" if int(tag.dtype) == _SHORT else "d", *tag.value)
