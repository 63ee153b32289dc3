"""Files of every kind that rasters are read from, written by the libraries that others write them with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tests.pyramids.pictures import HALF_UM, field, picture

from patchloom.pyramids import write_image
from patchloom.rasters.source import rgb_from

UInt8 = NDArray[np.uint8]
HEIGHT, WIDTH = 331, 287
Make = Callable[[Path], UInt8]  # writes the file, gives the (3, h, w) pixels that must be read from it


def by_pillow(mode: str = "RGB", **options: Any) -> Make:
    def make(path: Path) -> UInt8:
        image = Image.fromarray(picture(HEIGHT, WIDTH).transpose(1, 2, 0)).convert(mode)
        image.save(path, **options)
        with Image.open(path) as stored:
            return np.asarray(stored.convert("RGB")).transpose(2, 0, 1)

    return make


def by_tifffile(bands: int = 3, planar: bool = False, **options: Any) -> Make:
    def make(path: Path) -> UInt8:
        pixels = picture(HEIGHT, WIDTH)[:bands]
        data = pixels[0] if bands == 1 else pixels if planar else pixels.transpose(1, 2, 0)
        layout: dict[str, Any] = {} if bands == 1 else {"planarconfig": "separate" if planar else "contig"}
        photometric = options.pop("photometric", "minisblack" if bands == 1 else "rgb")
        tifffile.imwrite(path, data, photometric=photometric, metadata=None, **layout, **options)
        shown = rgb_from(pixels)
        return 255 - shown if photometric == "miniswhite" else shown

    return make


def by_rasterio(bands: int = 3, **options: Any) -> Make:
    def make(path: Path) -> UInt8:
        pixels = picture(HEIGHT, WIDTH)
        pixels = np.concatenate([pixels, pixels])[:bands]
        write_geotiff(path, pixels, **options)
        return rgb_from(pixels)

    return make


def by_patchloom(**options: Any) -> Make:
    def make(path: Path) -> UInt8:
        source = field(HEIGHT, WIDTH)
        write_image(source, path, **options)
        return source.array

    return make


def write_geotiff(path: Path, pixels: NDArray[Any], crs: str | None = "EPSG:32633", **options: Any) -> None:
    """(bands, h, w) pixels with a transform of 0.5 m."""
    bands, height, width = pixels.shape
    transform = options.pop("transform", rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000))
    shape: dict[str, Any] = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **shape, **options) as dataset:
        dataset.write(pixels)


EXAMPLES: dict[str, tuple[str, str, Make]] = {  # suffix, format that describe() names, writer
    "png": ("png", "png", by_pillow()),
    "png grey": ("png", "png", by_pillow("L")),
    "png palette": ("png", "png", by_pillow("P")),
    "jpeg": ("jpg", "jpeg", by_pillow(quality=90)),
    "jpeg cmyk": ("jpg", "jpeg", by_pillow("CMYK", quality=90)),
    "webp": ("webp", "webp", by_pillow(lossless=True)),
    "wrong suffix": ("dat", "png", by_pillow(format="PNG")),
    "tiff raw": ("tif", "tiff", by_tifffile()),
    "tiff raw planes": ("tif", "tiff", by_tifffile(planar=True)),
    "tiff strips": ("tif", "tiff", by_tifffile(compression="zlib", predictor=True, rowsperstrip=17)),
    "tiff one strip": ("tif", "tiff", by_tifffile(compression="lzw")),
    "tiff tiles": ("tif", "openslide:generic-tiff", by_tifffile(compression="zlib", tile=(64, 96))),
    "tiff zstd tiles": ("tif", "tiff", by_tifffile(compression="zstd", tile=(64, 96))),
    "tiff zstd planes": ("tif", "tiff", by_tifffile(planar=True, compression="zstd", tile=(64, 96))),
    "tiff grey": ("tif", "tiff", by_tifffile(1, compression="zlib", rowsperstrip=40)),
    "tiff white is zero": ("tif", "tiff", by_tifffile(1, photometric="miniswhite")),
    "geotiff": ("tif", "geotiff", by_rasterio()),
    "geotiff grey": ("tif", "geotiff", by_rasterio(1)),
    "geotiff with infrared": ("tif", "geotiff", by_rasterio(4, photometric="RGB", alpha="UNSPECIFIED")),
    "geotiff five bands": ("tif", "geotiff", by_rasterio(5, tiled=True, compress="deflate")),
    "own pyramid": ("tif", "openslide:generic-tiff", by_patchloom(compression="deflate")),
    "own ome": ("ome.tif", "ome-tiff", by_patchloom(compression="deflate")),
    "own png": ("png", "png", by_patchloom()),
}

__all__ = ["EXAMPLES", "HALF_UM", "HEIGHT", "WIDTH", "Make", "UInt8", "picture", "write_geotiff"]
