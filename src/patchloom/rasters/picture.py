"""Plain pictures (PNG, JPEG, WebP, BMP): decoded once, in memory or into an unnamed file on disk.

These formats cannot be read by region. Decoding takes 4 bytes a pixel for a moment; afterwards a small picture
stays in memory and a large one lies in a temporary file of 3 bytes a pixel that the system pages in and out.
Resolution tags of such files speak of paper and are not a pixel size. EXIF orientation is not applied: boxes
count the pixels as they are stored.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from patchloom import provenance
from patchloom.errors import CapacityError, FormatError
from patchloom.geometry import Box
from patchloom.rasters.source import Bool, Facts, UInt8, levels_of, over_white

LIMIT_PX = 1_000_000_000  # of a picture that is decoded whole
_IN_MEMORY_PX = 1 << 25
_BAND_ROWS = 512
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_bomb_check = Lock()


class PictureSource:
    """A decoded picture. Transparent pixels are not valid; what is half transparent is laid over white."""

    def __init__(self, path: Path) -> None:
        with open_picture(path) as image:
            self.facts = picture_facts(image)
            _decode(path, image)
            self._pixels = _stored(path, image)

    def read(self, level: int, box: Box) -> UInt8:
        """The (3, h, w) pixels of a box; there is one level."""
        part = self._part(box)
        return over_white(part[:3], part[3]) if part.shape[0] == 4 else part

    def valid(self, level: int, box: Box) -> Bool:
        """Where the picture is not transparent."""
        part = self._part(box)
        return part[3] > 0 if part.shape[0] == 4 else np.ones(box.shape, np.bool_)

    def close(self) -> None:
        """Let the pixels go, and the temporary file with them."""
        self._pixels = np.empty((0, 0, 3), np.uint8)

    def _part(self, box: Box) -> UInt8:
        part = self._pixels[box.y : box.stop_y, box.x : box.stop_x]
        return np.ascontiguousarray(part.transpose(2, 0, 1))


@contextmanager
def open_picture(path: Path) -> Iterator[Any]:
    """The picture with its header read and nothing decoded.

    Raises FormatError for what is no picture, is above LIMIT_PX, or holds more than 8 bits a channel.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with _without_bomb_check(), Image.open(path, formats=_FORMATS) as image:
            _check(path, image)
            yield image
    except UnidentifiedImageError:
        raise FormatError(
            f"`{path}` is no picture that Patchloom reads: whole-slide formats of OpenSlide, TIFF, GeoTIFF, "
            f"{', '.join(_FORMATS)}"
        ) from None
    except (OSError, SyntaxError) as error:
        if isinstance(error, CapacityError) or getattr(error, "errno", None):
            raise
        raise FormatError(f"`{path}` is damaged or truncated: {error}") from None


def picture_facts(image: Any) -> Facts:
    """Size, format, and what Patchloom wrote into the text chunk of a PNG."""
    block = provenance.parse(image.info.get(provenance.KEY))
    size = provenance.pixel_size_of(block)
    levels, holes = levels_of([(image.height, image.width)]), bool(image.has_transparency_data)
    return Facts(str(image.format).lower(), levels, size, provenance=block, holes=holes)


@contextmanager
def _without_bomb_check() -> Iterator[None]:
    """Pillow's own limit is a global and is below LIMIT_PX; the size is checked before anything is decoded."""
    from PIL import Image

    with _bomb_check:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _check(path: Path, image: Any) -> None:
    if image.width * image.height > LIMIT_PX:
        raise FormatError(
            f"`{path}` has {image.width} x {image.height} px; pictures that must be decoded whole are read up to "
            f"{LIMIT_PX:,} px. Store it as a tiled pyramid, for instance with "
            "`vips tiffsave IN OUT.tif --tile --pyramid`"
        )
    if image.mode not in _MODES:
        raise FormatError(
            f"`{path}` holds pixels of kind {image.mode}; Patchloom reads 8 bits a channel. Convert it first, "
            "for instance with `vips cast IN OUT uchar`"
        )


def _decode(path: Path, image: Any) -> None:
    try:
        image.load()
    except MemoryError:
        need = image.width * image.height * 4 >> 20
        raise CapacityError(f"decoding `{path}` needs {need} MiB of memory; store it as a tiled pyramid") from None


def _stored(path: Path, image: Any) -> UInt8:
    """The (h, w, 3 or 4) pixels of a loaded image."""
    mode = "RGBA" if image.has_transparency_data else "RGB"
    shape = (image.height, image.width, len(mode))
    if image.width * image.height <= _IN_MEMORY_PX:
        return np.asarray(image.convert(mode))
    try:
        with tempfile.TemporaryFile(prefix="patchloom-") as file:
            for top in range(0, image.height, _BAND_ROWS):
                band = image.crop((0, top, image.width, min(top + _BAND_ROWS, image.height)))
                file.write(np.asarray(band.convert(mode)).data)
            file.flush()
            return np.memmap(file, np.uint8, "r", shape=shape)  # the mapping outlives the file's name
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        need = shape[0] * shape[1] * shape[2] >> 20
        raise CapacityError(
            f"decoding `{path}` needs {need} MiB in `{tempfile.gettempdir()}`, which is full; "
            "set TMPDIR to a larger disk, or store the picture as a tiled pyramid"
        ) from None
