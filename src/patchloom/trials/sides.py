"""The sides of a comparison: pictures of a folder, of a table, of a dataset, or cut from something large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.datasets.dataset import NAME as DATASET
from patchloom.datasets.dataset import Dataset, Plot, Split, open_dataset
from patchloom.datasets.manifest import Entry, read_manifest
from patchloom.errors import GeometryError, InputError, MismatchError
from patchloom.evaluation.large_images import squeezed
from patchloom.evaluation.patches import (
    SUFFIXES,
    Patches,
    chosen,
    codec_of,
    joined,
    lattice_boxes,
    random_boxes,
)
from patchloom.fields.field import ArrayField, Cropped, Field
from patchloom.geometry import Box, Frame, PixelSize
from patchloom.rasters.opening import open_raster
from patchloom.rasters.raster import Raster
from patchloom.rasters.rescaled import Rescaled


@dataclass(frozen=True, slots=True)
class Cut:
    """How pictures become patches."""

    crop_px: int | None = None  # squares of this side; None takes pictures whole
    random: int | None = None  # so many at random places of each picture; None lays them side by side
    pixel_size: PixelSize | None = None  # pictures are brought to it; None takes them as they are
    limit: int | None = None  # at most so many of a side, drawn by the seed
    seed: int = 0
    squeeze_px: int | None = None  # whole pictures of any size are brought to squares of this side


@dataclass(frozen=True, slots=True)
class Pictures:
    """One side, opened: its patches and the length of their pixels, where it is known."""

    patches: Patches
    pixel_size: PixelSize | None

    def check(self, other: Pictures) -> None:
        """Raise MismatchError where both sides know their pixel sizes and they are not the same."""
        one, two = self.pixel_size, other.pixel_size
        if one is not None and two is not None and not one.agrees(two):
            raise MismatchError(
                f"pixels of `{self.patches.name}` are {one} long, those of `{other.patches.name}` {two}: "
                "the distance would be that of two scales. Give --pixel-size, to which both are brought"
            )


def open_side(path: Path, cut: Cut = Cut(), split: Split | None = None) -> Pictures:
    """Open a side: a dataset, a folder of pictures, a CSV table (as `prepare` takes it), or one picture of any size.

    `split` chooses among the pictures of a dataset or a table; None takes all. Groups are those of the record; crops
    of one ungrouped picture are of one group. Raises MissingError or FormatError for what cannot be read, InputError
    where nothing is left, or where a dataset is to be taken whole.
    """
    parts = list(_parts(path, cut, split))
    if not parts:
        what = f" of split `{split}`" if split else f" ({', '.join(SUFFIXES)})"
        raise InputError(f"`{path}` holds no picture{what}")
    sizes = [part.pixel_size for part in parts if part.pixel_size is not None]
    for size in sizes[1:]:
        if not size.agrees(sizes[0]):
            raise MismatchError(f"pictures of `{path}` have pixels of {sizes[0]} and {size}; give --pixel-size")
    name = path.name if split is None else f"{path.name}, {split}"
    patches = joined([part.patches for part in parts], name)
    if cut.limit is not None and cut.limit < patches.n:
        order = np.random.default_rng(cut.seed).permutation(patches.n)[: cut.limit]
        patches = chosen(patches, np.sort(order))
    return Pictures(patches, sizes[0] if sizes else None)


def _parts(path: Path, cut: Cut, split: Split | None) -> Iterator[Pictures]:
    opener = _Opener(cut.pixel_size)
    if (path / DATASET).is_file():
        yield from _of_dataset(open_dataset(path), cut, split)
    elif path.suffix.lower() == ".csv":
        entries = [entry for entry in read_manifest(path) if split in (None, entry.split)]
        yield from (_of_file(entry.path, cut, opener, entry) for entry in entries)
    elif path.is_dir():
        paths = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES)
        yield from (_of_file(each, cut, opener) for each in paths)
    else:
        yield _of_file(path, cut, opener)


def _of_file(path: Path, cut: Cut, opener: _Opener, entry: Entry | None = None) -> Pictures:
    """One picture of any size, opened when one of its patches is read."""
    own = entry.pixel_size if entry else None
    frame = opener.field(path, own).frame
    group = entry.group if entry else None if cut.crop_px is None else path.name
    patches = _patches(
        _OnDemand(frame, lambda box: opener.field(path, own).read(box)), path.name, codec_of(path), group, cut
    )
    return Pictures(patches, frame.pixel_size)


def _of_dataset(dataset: Dataset, cut: Cut, split: Split | None) -> Iterator[Pictures]:
    if cut.crop_px is None and cut.squeeze_px is None:
        raise InputError(f"the plots of dataset `{dataset.folder}` are large: say which squares to cut with --crop")
    if cut.pixel_size is not None and not cut.pixel_size.agrees(dataset.pixel_size):
        raise MismatchError(f"dataset `{dataset.folder}` has pixels of {dataset.pixel_size}, not {cut.pixel_size}")
    for plot in dataset.record.plots:
        if split in (None, plot.split) and min(plot.box[2:]) >= (cut.crop_px or 1):
            frame = Frame(plot.box[2], plot.box[3], 3, "uint8", dataset.pixel_size)
            field = _OnDemand(frame, _plot_reader(dataset, plot))
            codec = f"dataset of {Path(plot.source).suffix.lower().lstrip('.') or 'slides'}"
            yield Pictures(_patches(field, plot.name, codec, plot.group, cut), dataset.pixel_size)


def _plot_reader(dataset: Dataset, plot: Plot) -> Callable[[Box], NDArray[Any]]:
    def read(box: Box) -> NDArray[Any]:
        (pixels,) = dataset.tensors(plot, ["pixels"])
        return ArrayField(pixels.numpy().transpose(2, 0, 1)).read(box)

    return read


def _patches(field: Field, name: str, codec: str, group: str | None, cut: Cut) -> Patches:
    boxes = boxes_of(field.frame.box, name, cut)
    groups = None if group is None else np.full(len(boxes), group, dtype=object)
    return Patches(name, codec, len(boxes), lambda number: _square(field, boxes[number], name, cut), groups)


def _square(field: Field, box: Box, name: str, cut: Cut) -> NDArray[np.uint8]:
    if cut.squeeze_px is not None:
        return squeezed(Cropped(field, box), cut.squeeze_px)
    if box.height != box.width:
        raise InputError(f"`{name}` is {box.width} x {box.height} px, and no square: cut squares from it with --crop")
    return np.ascontiguousarray(field.read(box))


def boxes_of(whole: Box, name: str, cut: Cut) -> tuple[Box, ...]:
    """The patches of one picture; side by side they lie in its middle. GeometryError where it is too small."""
    if cut.crop_px is None:
        return (whole,)
    try:
        if cut.random is not None:
            return random_boxes(whole, cut.crop_px, cut.random, cut.seed)
        return tuple(
            box.moved(whole.height % cut.crop_px // 2, whole.width % cut.crop_px // 2)
            for box in lattice_boxes(whole, cut.crop_px)
        )
    except GeometryError as error:
        raise GeometryError(f"`{name}`: {error}") from None


@dataclass(frozen=True, slots=True)
class _OnDemand:
    """A field whose frame is known and whose pixels are fetched when they are read."""

    frame: Frame
    read: Callable[[Box], NDArray[Any]]


class _Opener:
    """Opens files when they are read. One stays open at a time: patches are read in the order of their files."""

    def __init__(self, wanted: PixelSize | None) -> None:
        self._wanted = wanted
        self._held: tuple[Path, Raster] | None = None

    def field(self, path: Path, own: PixelSize | None) -> Field:
        """The file at the pixel size that is wanted; one that does not state its own is taken to have it."""
        raster = self._raster(path, own)
        if self._wanted is None:
            return raster
        if raster.frame.pixel_size is None:
            return _OnDemand(replace(raster.frame, pixel_size=self._wanted), raster.read)
        return Rescaled(raster, self._wanted)

    def _raster(self, path: Path, own: PixelSize | None) -> Raster:
        if self._held is not None and self._held[0] == path:
            return self._held[1]
        if self._held is not None:
            self._held[1].close()
        self._held = path, open_raster(path, own)
        return self._held[1]
