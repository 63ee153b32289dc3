"""The pixels of one page of a TIFF, read by region: mapped where they lie plainly, else decoded piece by piece."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from patchloom.errors import FormatError
from patchloom.geometry import Box
from patchloom.rasters.source import UInt8, need_8_bit

GREY_OR_RGB = (0, 1, 2, 6)  # photometric: white is zero, grey, RGB, YCbCr
_CACHE_BYTES = 128 << 20  # of decoded tiles or strips
_SEGMENT_BYTES = 3 << 30  # a tile or strip above this cannot be decoded in bounded memory

Plane = Callable[[Box], UInt8]
"""The (samples, h, w) pixels of a box."""


def plane_of(path: Path, file: Any, page: Any) -> Plane:
    """How a page of an open file is read.

    Raises FormatError where it holds more than 8 bits or other colours than grey, RGB and YCbCr, where it is cut short,
    and where its pieces are too large to be decoded.
    """
    need_8_bit(path, page.dtype)
    if int(page.photometric) not in GREY_OR_RGB or page.imagedepth != 1:
        raise FormatError(
            f"`{path}` holds colours as {page.photometric!s}; Patchloom reads grey, RGB and YCbCr. "
            "Convert it to RGB first, for instance with `vips copy IN OUT.tif[tile,pyramid]`"
        )
    segment = int(np.prod(page.chunks))
    if page.is_contiguous and page.compression == 1:
        return _mapped(path, page)
    if segment > _SEGMENT_BYTES:
        raise FormatError(
            f"`{path}` is stored in pieces of {segment >> 20} MiB, too large to read by region; "
            "store it in tiles, for instance with `vips tiffsave IN OUT.tif --tile --pyramid`"
        )
    return _Segments(path, file, page)


def _mapped(path: Path, page: Any) -> Plane:
    planes = page.samplesperpixel if int(page.planarconfig) == 2 else 1
    shape = (planes, page.imagelength, page.imagewidth, page.samplesperpixel // planes)
    try:
        array = np.memmap(path, np.uint8, "r", page.dataoffsets[0], shape)
    except ValueError:
        raise FormatError(f"`{path}` is truncated: it ends before its last row of pixels") from None

    def read(box: Box) -> UInt8:
        part = array[:, box.y : box.stop_y, box.x : box.stop_x]
        return np.ascontiguousarray(part.transpose(0, 3, 1, 2).reshape(page.samplesperpixel, *box.shape))

    return read


class _Segments:
    """A compressed page: the tiles or strips under a box are decoded, the last ones kept."""

    def __init__(self, path: Path, file: Any, page: Any) -> None:
        self._path, self._file, self._page = path, file.filehandle, page
        strip = (min(page.rowsperstrip, page.imagelength), page.imagewidth)
        self._height, self._width = (page.tilelength, page.tilewidth) if page.is_tiled else strip
        self._planes = page.samplesperpixel if int(page.planarconfig) == 2 else 1
        self._down = -(-page.imagelength // self._height)
        self._across = -(-page.imagewidth // self._width)
        self._kept: OrderedDict[int, UInt8] = OrderedDict()
        self._lock = Lock()

    def __call__(self, box: Box) -> UInt8:
        out = np.zeros((self._page.samplesperpixel, *box.shape), np.uint8)
        deep = self._page.samplesperpixel // self._planes
        for plane in range(self._planes):
            for row in range(box.y // self._height, -(-box.stop_y // self._height)):
                for col in range(box.x // self._width, -(-box.stop_x // self._width)):
                    pixels = self._segment((plane * self._down + row) * self._across + col)
                    place = Box(row * self._height, col * self._width, *pixels.shape[:2])
                    part = place.meet(box)
                    rows, cols = part.inside(place)
                    target = out[plane * deep : (plane + 1) * deep, *part.inside(box)]
                    target[:] = pixels[rows, cols].transpose(2, 0, 1)
        return out

    def _segment(self, index: int) -> UInt8:
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
            pixels = self._decoded(index)
            self._kept[index] = pixels
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > _CACHE_BYTES:
                self._kept.popitem(last=False)
            return pixels

    def _decoded(self, index: int) -> UInt8:
        page, count = self._page, self._page.databytecounts[index]
        self._file.seek(page.dataoffsets[index])
        raw = self._file.read(count)
        try:
            if len(raw) < count:
                raise ValueError(f"it ends {count - len(raw)} bytes early")
            pixels = page.decode(raw, index, jpegtables=page.jpegtables)[0]
        except Exception as error:  # each codec has its own
            raise FormatError(f"`{self._path}` is damaged or truncated in piece {index}: {error}") from None
        if pixels is None:  # a piece that was never written
            return np.zeros((self._height, self._width, page.samplesperpixel // self._planes), np.uint8)
        decoded: UInt8 = pixels[0]
        return decoded
