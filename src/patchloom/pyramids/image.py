"""Any field of RGB pixels to a picture file, by the suffix of its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from patchloom import provenance as blocks
from patchloom.errors import InputError
from patchloom.fields.field import Field
from patchloom.geometry import Frame
from patchloom.provenance import Georeferenced
from patchloom.pyramids.disk import Job, picture_file
from patchloom.pyramids.geokeys import geo_tags
from patchloom.pyramids.layout import Tag, text
from patchloom.pyramids.ome import ome_xml
from patchloom.pyramids.png import write_png
from patchloom.pyramids.pyramid import Progress, Style, write_pyramid
from patchloom.pyramids.tiles import Compression

_DESCRIPTION = 270
_LOSSLESS_BYTES = 2.0  # a pixel, of 3: tissue and aerial images after prediction
_JPEG_BYTES = 0.6  # a pixel at quality 90; less below
_TWICE = 2  # encoded tiles wait beside the file until its layout is known


def write_image(
    field: Field,
    path: str | Path,
    *,
    compression: Compression | None = None,
    quality: int = 90,
    geo: Georeferenced | None = None,
    provenance: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a field of uint8 RGB, reading it once in bands of rows from top to bottom. Bounded memory.

    `.tif`, `.tiff`: a tiled pyramidal BigTIFF, cloud-optimised, with GeoTIFF tags where `geo` is given.
    `.ome.tif`, `.ome.tiff`: the same with levels as SubIFDs and an OME description. `.png`: one picture.
    TIFF is JPEG of `quality` (1 to 100; colour at full resolution from 90) unless `compression` is "deflate",
    which like PNG keeps every pixel. OME and PNG have no place for a georeference: it stands in the provenance.
    `provenance` is kept as JSON beside the software's name and the pixel size. `progress` is told how many rows
    were finished since it was last told.

    The same field and arguments give the same bytes. The file appears under its name only when it is whole.
    Raises InputError for another suffix, field or option; MissingError where the folder is not there; CapacityError
    where the disk is too small; DependencyError for `geo` without rasterio.
    """
    path = Path(path)
    kind = kind_of(path)
    _check(field.frame, path, kind, compression, quality)
    block = _stamp(field.frame, provenance, geo)
    style = Style(compression or "jpeg", quality, nested=kind == "ome")
    extra = [] if kind == "png" else _description(path, field.frame, kind, block, geo)
    job, expected = Job(field.frame.height), expected_bytes(field.frame, None if kind == "png" else style)
    with picture_file(path, job, expected) as file:
        if kind == "png":
            write_png(file, field, block, job, progress)
        else:
            write_pyramid(file, field, style, extra, job, path.parent, progress)


def expected_bytes(frame: Frame, style: Style | None) -> int:
    """About how much disk a pyramid takes while it is written; a PNG where `style` is None."""
    pixels = frame.height * frame.width
    if style is None:
        return int(pixels * _LOSSLESS_BYTES)
    each = _LOSSLESS_BYTES if style.compression == "deflate" else _JPEG_BYTES * min(style.quality / 90, 1) ** 2
    return int(pixels * 4 / 3 * each * _TWICE)


def kind_of(path: Path) -> str:
    """`tif`, `ome` or `png`, by the suffix of a file to be written. Raises InputError for another suffix."""
    name = path.name.lower()
    if name.endswith((".ome.tif", ".ome.tiff")):
        return "ome"
    if name.endswith((".tif", ".tiff")):
        return "tif"
    if name.endswith(".png"):
        return "png"
    raise InputError(f"cannot tell what `{path.name}` should be; end it in .tif, .ome.tif or .png")


def _check(frame: Frame, path: Path, kind: str, compression: Compression | None, quality: int) -> None:
    if frame.dtype != "uint8" or frame.channels != 3:
        raise InputError(f"`{path.name}`: pictures are 3 channels of uint8, not {frame.channels} of {frame.dtype}")
    if frame.box.area == 0:
        raise InputError(f"`{path.name}`: there are no pixels in {frame.width} x {frame.height} px")
    if compression not in (None, "jpeg", "deflate"):
        raise InputError(f"compression `{compression}` is neither `jpeg` nor `deflate`")
    if kind == "png" and compression == "jpeg":
        raise InputError(f"`{path.name}`: PNG cannot hold JPEG; leave compression out, or write a .tif")
    if not 1 <= quality <= 100:
        raise InputError(f"JPEG quality must lie between 1 and 100, not {quality}")


def _stamp(frame: Frame, given: Mapping[str, object] | None, geo: Georeferenced | None) -> str:
    return blocks.stamp(given, frame.pixel_size, geo)


def _description(path: Path, frame: Frame, kind: str, block: str, geo: Georeferenced | None) -> list[Tag]:
    if kind == "ome":
        return [text(_DESCRIPTION, ome_xml(path.name, frame, block))]
    return [text(_DESCRIPTION, block), *(geo_tags(geo) if geo is not None else [])]
