"""Georeferenced rasters through rasterio (extra `geo`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from patchloom import provenance
from patchloom.errors import DependencyError, FormatError
from patchloom.geometry import Box
from patchloom.rasters.georeference import GeoReference, Transform, ground_pixel_size
from patchloom.rasters.source import Bool, Facts, UInt8, levels_of, need_8_bit, rgb_from

_CACHE_MB = 256  # GDAL's own default is a twentieth of the machine


class GeoTiffSource:
    """An open georeferenced raster and its overviews.

    Red, green and blue are the bands that say so, else the first three; one band is grey or a palette.
    Not valid: nodata, alpha 0, masked. In a file that declares none of these, pixels that are exactly 0 in
    every band are not valid: mosaics are cut out of black, and real shadows are not that dark.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self._levels = [_open(path, None)]
        first = self._levels[0]
        try:
            self._levels += _overviews(path, first)
            for dtype in first.dtypes:
                need_8_bit(path, dtype)
            self._bands, self._palette = _bands(first)
            self._declares = not all("all_valid" in {flag.name for flag in band} for band in first.mask_flag_enums)
            self.facts = self._facts()
        except BaseException:
            self.close()
            raise

    def read(self, level: int, box: Box) -> UInt8:
        """The (3, h, w) pixels of a box of a level."""
        pixels = self._bands_of(level, box, self._bands)
        if self._palette is not None:
            return np.ascontiguousarray(self._palette[pixels[0]].transpose(2, 0, 1))
        return rgb_from(pixels)

    def valid(self, level: int, box: Box) -> Bool:
        """Where the file holds data."""
        if not self._declares:
            every = tuple(range(1, self._levels[level].count + 1))
            return np.asarray(self._bands_of(level, box, every).any(axis=0))
        with self._lock, _reading(self._path, box):
            mask: Bool = self._levels[level].dataset_mask(window=_window(box)) > 0
        return mask

    def close(self) -> None:
        """Close the file and its overviews."""
        for dataset in self._levels:
            dataset.close()

    def _bands_of(self, level: int, box: Box, bands: tuple[int, ...]) -> UInt8:
        with self._lock, _reading(self._path, box):
            pixels: UInt8 = self._levels[level].read(list(bands), window=_window(box))
        return pixels

    def _facts(self) -> Facts:
        first = self._levels[0]
        transform: Transform = tuple(first.transform)[:6]
        block = provenance.parse(first.tags().get("TIFFTAG_IMAGEDESCRIPTION"))
        sizes = [dataset.shape for dataset in self._levels]
        geo = GeoReference(first.crs.to_wkt() if first.crs else "", transform)
        size = ground_pixel_size(first.crs, transform, *first.shape) or provenance.pixel_size_of(block)
        return Facts("geotiff", levels_of(sizes), size, geo, block)


def _open(path: Path, overview: int | None) -> Any:
    try:
        import rasterio
    except ImportError:
        raise DependencyError(
            f"`{path}` is georeferenced, which needs rasterio: install it with `pip install patchloom[geo]`"
        ) from None
    options = {} if overview is None else {"overview_level": overview}
    try:
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
            return rasterio.open(path, **options)
    except rasterio.errors.RasterioError as error:
        raise FormatError(f"`{path}` cannot be opened as a GeoTIFF, it may be truncated: {error}") from None


def _overviews(path: Path, first: Any) -> Iterator[Any]:
    """The overviews that may be read in place of finer pixels: not those made by picking the nearest."""
    for index in range(len(first.overviews(1))):
        overview = _open(path, index)
        how = first.tags().get("OVR_RESAMPLING_ALG") or overview.tags(1).get("RESAMPLING", "")
        if how.upper().startswith("NEAREST"):
            overview.close()
        else:
            yield overview


def _bands(dataset: Any) -> tuple[tuple[int, ...], UInt8 | None]:
    """Which bands (from 1) to read, and the palette (256, 3) of a file that has one."""
    meanings = {meaning.name: band for band, meaning in zip(dataset.indexes, dataset.colorinterp, strict=True)}
    if "palette" in meanings:
        colours = dataset.colormap(meanings["palette"])
        palette = np.array([colours.get(index, (0, 0, 0, 0))[:3] for index in range(256)], np.uint8)
        return (meanings["palette"],), palette
    if {"red", "green", "blue"} <= meanings.keys():
        return (meanings["red"], meanings["green"], meanings["blue"]), None
    return tuple(dataset.indexes[:3]) if dataset.count >= 3 else (1,), None


def _window(box: Box) -> Any:
    from rasterio.windows import Window

    return Window(box.x, box.y, box.width, box.height)


@contextmanager
def _reading(path: Path, box: Box) -> Iterator[None]:
    """Turns GDAL's complaint about a block into a FormatError."""
    import rasterio

    try:
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
            yield
    except rasterio.errors.RasterioError as error:
        raise FormatError(f"`{path}` is damaged or truncated near {box}: {error}") from None
