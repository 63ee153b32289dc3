"""TIFF files that OpenSlide does not read: stripped, OME with SubIFDs, and codecs it lacks. Through tifffile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from patchloom import provenance
from patchloom.errors import FormatError, PatchloomError
from patchloom.geometry import Box, PixelSize
from patchloom.rasters.source import Bool, Facts, UInt8, levels_of, over_white, plausible, rgb_from
from patchloom.rasters.tiff_planes import GREY_OR_RGB, plane_of

_REDUCED = 1  # bit of NewSubfileType
_GEO_TAGS = (33550, 34264, 34735)  # ModelPixelScale, ModelTransformation, GeoKeyDirectory
_CENTIMETRE = 3
_INCH = 2
_OPENSLIDE_CODECS = (1, 5, 7, 8, 32773, 32946)  # none, LZW, JPEG, deflate, packbits, deflate
_PREMULTIPLIED, _STRAIGHT = 1, 2  # kinds of extra sample


class TiffSource:
    """An open TIFF, read by the tiles or strips that a box touches."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_tiff(path)
        try:
            self._planes = [plane_of(path, self._file, page) for page in level_pages(self._file)]
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
    eight_bit = str(first.dtype) == "uint8" and int(first.photometric) in GREY_OR_RGB
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
