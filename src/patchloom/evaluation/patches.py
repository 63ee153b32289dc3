"""Sets of pictures to be measured: from a folder, from arrays, or cut from something large. Never through JPEG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import GeometryError, InputError, MissingError
from patchloom.evaluation.matrices import Groups, Rows
from patchloom.fields.field import Field
from patchloom.geometry import Box
from patchloom.rasters import tiff
from patchloom.rasters.describe import describe
from patchloom.rasters.opening import open_raster

UInt8 = NDArray[np.uint8]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
IN_MEMORY = "none (arrays)"
_LOSSY = ("jpeg", "jpg", "jp2", "webp", "aperio", "hamamatsu", "mirax", "ventana", "leica", "philips", "trestle")


@dataclass(frozen=True, slots=True)
class Patches:
    """n square RGB pictures, read one at a time, and what a report must say of them."""

    name: str
    codec: str  # what the pictures went through as files, several joined by ` + `
    n: int
    read: Callable[[int], UInt8]  # number to uint8 (3, h, h)
    groups: Groups | None = None  # the field, patient or place of each; None where they are independent

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"`{self.name}` holds no picture")
        if self.groups is not None and len(self.groups) != self.n:
            raise InputError(f"`{self.name}`: {self.n} pictures need {self.n} group labels, found {len(self.groups)}")


def from_arrays(
    arrays: Sequence[UInt8], name: str = "arrays", *, groups: Groups | None = None, codec: str = IN_MEMORY
) -> Patches:
    """Pictures that are in memory, each uint8 (3, h, h)."""
    return Patches(name, codec, len(arrays), lambda number: _square(arrays[number], f"{name}[{number}]"), groups)


def from_folder(
    folder: str | Path, *, crop_px: int | None = None, group_of: Callable[[Path], str] | None = None
) -> Patches:
    """Every picture in a folder (not below it), in the order of names. `group_of` names a picture's patient or place.

    With `crop_px` the centre square of that side is taken of each. Raises MissingError for no such folder, InputError
    where it holds no picture, and while reading FormatError for a damaged file, InputError for a picture that is not
    square or smaller than the crop.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingError(f"there is no folder `{folder}`")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"folder `{folder}` holds no picture ({', '.join(SUFFIXES)})")
    groups = None if group_of is None else np.array([group_of(path) for path in paths])
    codec = " + ".join(sorted({codec_of(path) for path in paths}))
    return Patches(
        folder.name, codec, len(paths), lambda number: _square(_read(paths[number], crop_px), paths[number]), groups
    )


def crops(field: Field, boxes: Sequence[Box], name: str, *, codec: str = IN_MEMORY) -> Patches:
    """Boxes of a large picture, all of one group: crops of one picture are not independent of one another.

    Raises GeometryError for a box that is not square or leaves the field.
    """
    for box in boxes:
        if box.height != box.width or not field.frame.box.contains(box):
            raise GeometryError(f"crop {box} is not a square inside `{name}`, {field.frame.width}x{field.frame.height}")
    groups = np.full(len(boxes), name)
    return Patches(name, codec, len(boxes), lambda number: _square(field.read(boxes[number]), name), groups)


def lattice_boxes(whole: Box, crop_px: int, stride_px: int | None = None) -> tuple[Box, ...]:
    """Every square of `crop_px` at steps of `stride_px` (default: side by side) that lies inside `whole`."""
    _check_crop(whole, crop_px)
    step = stride_px or crop_px
    tops, lefts = (
        range(first, first + length - crop_px + 1, step)
        for first, length in ((whole.y, whole.height), (whole.x, whole.width))
    )
    return tuple(Box(y, x, crop_px, crop_px) for y in tops for x in lefts)


def random_boxes(whole: Box, crop_px: int, count: int, seed: int) -> tuple[Box, ...]:
    """`count` squares at uniformly random places inside `whole`; they may overlap."""
    _check_crop(whole, crop_px)
    rng = np.random.default_rng(seed)
    tops = whole.y + rng.integers(whole.height - crop_px + 1, size=count)
    lefts = whole.x + rng.integers(whole.width - crop_px + 1, size=count)
    return tuple(Box(int(y), int(x), crop_px, crop_px) for y, x in zip(tops, lefts, strict=True))


def _check_crop(whole: Box, crop_px: int) -> None:
    if not 0 < crop_px <= min(whole.shape):
        raise GeometryError(f"crops of {crop_px} px cannot be cut from {whole.width}x{whole.height} px")


def joined(parts: Sequence[Patches], name: str) -> Patches:
    """Several sets as one, such as the crops of several large pictures. Groups are kept where all parts have some."""
    starts = np.cumsum([0, *(part.n for part in parts)])

    def read(number: int) -> UInt8:
        which = int(np.searchsorted(starts, number, side="right")) - 1
        return parts[which].read(number - int(starts[which]))

    labels = [part.groups for part in parts if part.groups is not None]
    if 0 < len(labels) < len(parts):
        raise InputError(f"`{name}`: some parts have groups and others have none; name the groups of all")
    codecs = sorted({word for part in parts for word in part.codec.split(" + ")})
    return Patches(name, " + ".join(codecs), int(starts[-1]), read, np.concatenate(labels) if labels else None)


def chosen(patches: Patches, numbers: Rows, name: str | None = None) -> Patches:
    """Some pictures of a set, by their numbers."""
    groups = None if patches.groups is None else patches.groups[numbers]
    places = [int(number) for number in numbers]
    return Patches(
        name or patches.name, patches.codec, len(places), lambda number: patches.read(places[number]), groups
    )


def codec_of(path: Path) -> str:
    """What a file's pixels are stored as: `png`, `jpeg`, `tiff (jpeg)`, `aperio (jpeg)`, `tiff (adobe_deflate)`."""
    form = str(describe(path)["format"])
    if not tiff.is_tiff(path):
        return form
    with tiff.open_tiff(path) as file:
        return f"{form} ({file.pages[0].compression.name.lower()})"


def lossy(codec: str) -> bool:
    """Whether any of the codecs throws something away; a slide format that does not say is taken to."""
    return any(_is_lossy(word) for word in codec.split(" + "))


def _is_lossy(codec: str) -> bool:
    _, bracket, compression = codec.partition(" (")
    return any(word in (compression if bracket else codec) for word in _LOSSY)


def _read(path: Path, crop_px: int | None) -> UInt8:
    with open_raster(path) as raster:
        whole = raster.frame.box
        if crop_px is None:
            return raster.read(whole)
        if crop_px > min(whole.shape):
            raise InputError(f"`{path}` is {whole.width}x{whole.height} px, too small for a crop of {crop_px} px")
        return raster.read(Box((whole.height - crop_px) // 2, (whole.width - crop_px) // 2, crop_px, crop_px))


def _square(picture: NDArray[Any], what: object) -> UInt8:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[0] != 3 or picture.shape[1] != picture.shape[2]:
        raise InputError(
            f"`{what}`: expected a square RGB picture, uint8 (3, h, h), found {picture.dtype} {picture.shape}; "
            "take a centre crop with crop_px, or cut crops from it"
        )
    return picture
