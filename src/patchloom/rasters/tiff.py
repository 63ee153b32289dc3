"""TIFF files that OpenSlide does not read: stripped, OME with SubIFDs, and codecs it lacks. Through tifffile."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from patchloom import provenance
from patchloom.errors import FormatError, PatchloomError
from patchloom.geometry import Box, PixelSize
from patchloom.rasters.source import Bool, Facts, UInt8, levels_of, need_8_bit, over_white, plausible, rgb_from

_CACHE_BYTES = 128 << 20  # of decoded tiles or strips
_SEGMENT_BYTES = 3 << 30  # a tile or strip above this cannot be decoded in bounded memory
_REDUCED = 1  # bit of NewSubfileType
_GEO_TAGS = (33550, 34264, 34735)  # ModelPixelScale, ModelTransformation, GeoKeyDirectory
_CENTIMETRE = 3
_INCH = 2
_OPENSLIDE_CODECS = (1, 5, 7, 8, 32773, 32946)  # none, LZW, JPEG, deflate, packbits, deflate
_GREY_OR_RGB = (0, 1, 2, 6)  # photometric: white is zero, grey, RGB, YCbCr
_PREMULTIPLIED, _STRAIGHT = 1, 2  # kinds of extra sample


class TiffSource:
    """An open TIFF, read by the tiles or strips that a box touches."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_tiff(path)
        try:
            self._planes = [_plane(path, self._file, page) for page in level_pages(self._file)]
        except BaseException:
            self.close()
            raise
        first = self._file.pages[0]
        self._alpha, self._inverted = _alpha(first), int(first.photometric) == 0
        self._premultiplied = _PREMULTIPLIED in [int(kind) for kind in first.extrasamples]
        self.facts = tiff_facts(self._file)

    def read(self, level: int, box: Box) -> UInt8:
        """The (3, h, w) pixels of a box of a level, laid over white where there is alpha."""
        pixels, alpha = self._planes[level](box), self._alpha
        colours = rgb_from(255 - pixels if self._inverted else pixels)
        if alpha is None:
            return colours
        return colours + (255 - pixels[alpha]) if self._premultiplied else over_white(colours, pixels[alpha])

    def valid(self, level: int, box: Box) -> Bool:
        """Where alpha is above 0; everywhere without alpha."""
        alpha = self._alpha
        return np.ones(box.shape, np.bool_) if alpha is None else self._planes[level](box)[alpha] > 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def is_tiff(path: Path) -> bool:
    """Whether the file begins as classic TIFF or BigTIFF."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_tiff(path: Path) -> Any:
    """The file as tifffile has it. Raises FormatError where the directory cannot be read."""
    import tifffile

    try:
        file = tifffile.TiffFile(path)
        if not len(file.pages):
            raise FormatError(f"`{path}` is a TIFF without pictures; it may be truncated")
        return file
    except PatchloomError:
        raise
    except Exception as error:  # tifffile lets whatever a damaged directory causes through
        raise FormatError(f"`{path}` cannot be read as a TIFF, it may be truncated: {error}") from None


def is_georeferenced(file: Any) -> bool:
    """Whether the first picture carries a geotransform or a reference system."""
    return any(code in file.pages[0].tags for code in _GEO_TAGS)


def is_plain_pyramid(file: Any) -> bool:
    """Whether OpenSlide reads the file rightly and whole: 8-bit colours without alpha, levels on top."""
    first = file.pages[0]
    eight_bit = str(first.dtype) == "uint8" and int(first.photometric) in _GREY_OR_RGB
    return eight_bit and not first.pages and not first.extrasamples and int(first.compression) in _OPENSLIDE_CODECS


def level_pages(file: Any) -> list[Any]:
    """The first picture and its reduced copies (SubIFDs, or following pages marked so), finest first."""
    first = file.pages[0]
    others = list(first.pages or []) + [page for page in file.pages[1:] if int(page.subfiletype) & _REDUCED]
    alike = [page.aspage() for page in others]
    levels = [page for page in alike if page.samplesperpixel == first.samplesperpixel and page.dtype == first.dtype]
    return sorted([first, *levels], key=lambda page: -page.imagelength * page.imagewidth)


def tiff_facts(file: Any) -> Facts:
    """Levels, pixel size and provenance from the tags alone."""
    pages = level_pages(file)
    block = file_provenance(file)
    size = _pixel_size(pages[0]) or provenance.pixel_size_of(block)
    form = "ome-tiff" if file.is_ome else "tiff"
    sizes = [(page.imagelength, page.imagewidth) for page in pages]
    return Facts(form, levels_of(sizes), size, provenance=block, holes=_alpha(pages[0]) is not None)


def file_provenance(file: Any) -> dict[str, Any] | None:
    """The block that Patchloom wrote into the description, or into the annotations of an OME description."""
    text = file.pages[0].description
    return provenance.parse(provenance.ome_comment(text) if file.is_ome else text)


def _pixel_size(page: Any) -> PixelSize | None:
    unit = {_CENTIMETRE: 1e-2, _INCH: 2.54e-2}.get(int(page.resolutionunit))
    across, down = page.resolution
    if unit is None or not (across > 0 and down > 0):
        return None
    return plausible(unit * (1 / across + 1 / down) / 2)


def _alpha(page: Any) -> int | None:
    extra = [int(kind) for kind in page.extrasamples]
    colours = page.samplesperpixel - len(extra)
    return next((colours + index for index, kind in enumerate(extra) if kind in (_PREMULTIPLIED, _STRAIGHT)), None)


Plane = Callable[[Box], UInt8]  # the (samples, h, w) pixels of a box


def _plane(path: Path, file: Any, page: Any) -> Plane:
    need_8_bit(path, page.dtype)
    if int(page.photometric) not in _GREY_OR_RGB or page.imagedepth != 1:
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
