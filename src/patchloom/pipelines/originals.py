"""Images that are varied: opened from a prepared dataset or from a table of files, and what a pipeline sees of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.datasets.dataset import NAME as DATASET
from patchloom.datasets.dataset import Dataset, Plot, Split, check_splits, open_dataset
from patchloom.datasets.manifest import Entry, read_manifest
from patchloom.encoders.slide import embed_slide
from patchloom.errors import InputError, MismatchError
from patchloom.fields.field import ArrayField
from patchloom.geometry import Frame
from patchloom.pipelines.conditioning import CellScene
from patchloom.pipelines.margin import margin_of
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.reconstruct import latents_of
from patchloom.pipelines.reference import is_same
from patchloom.rasters.opening import open_raster
from patchloom.rasters.rescaled import Rescaled


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the pipeline sees of a real image: what its embeddings say of every place, and its latents."""

    scene: CellScene[Any]
    frame: Frame  # in latents, with the margin
    margin: int  # latents around the image
    image: ArrayField | None  # None where variations begin at noise alone


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The embeddings over and around an image, in its pixels."""

    embeddings: NDArray[np.floating[Any]]  # (rows, cols, dim)
    valid: NDArray[np.bool_]
    origin_px: tuple[float, float]  # y, x of the centre of the first cell
    stride_px: int


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """A real image; `seen` opens it, with its pixels where it is told so."""

    name: str  # of its files
    source: str
    group: str
    split: Split
    licence: str
    label: str
    seen: Callable[[bool], Seen]


def originals_of(pipeline: Pipeline, path: Path, split: Split) -> Iterator[Original]:
    """The images of a split of a dataset, or of a table as `prepare` takes it.

    Raises InputError for anything else, MismatchError where groups leak from the test split, or the dataset is of
    another encoder, field of view or pixel size than the pipeline.
    """
    if (path / DATASET).is_file():
        dataset = open_dataset(path)
        _check_dataset(pipeline, dataset)
        yield from (_of_plot(pipeline, dataset, plot) for plot in dataset.plots(split))
        return
    if path.suffix.lower() != ".csv":
        raise InputError(f"`{path}` is neither a dataset of `patchloom prepare` nor a CSV table of images")
    entries = read_manifest(path)
    check_splits(tuple(_stub(entry) for entry in entries))
    yield from (_of_entry(pipeline, entry) for entry in entries if entry.split == split)


def _check_dataset(pipeline: Pipeline, dataset: Dataset) -> None:
    record, own = dataset.record, pipeline.record
    known = record.encoder is not None and is_same(own.encoder, record.encoder)
    if not known or record.patch_px != own.condition.cell_px or 0 not in record.views:
        name = record.encoder.name if record.encoder else "no encoder"
        raise MismatchError(
            f"dataset `{dataset.folder}` holds cells of {record.patch_px} px in {name}, pipeline `{own.name}` reads "
            f"cells of {own.condition.cell_px} px in {own.encoder.name}; prepare it again with --encoder "
            f"{own.encoder.name} --patch {own.condition.cell_px}, or name the table of its images"
        )
    if not dataset.pixel_size.agrees(pipeline.pixel_size):
        raise MismatchError(
            f"dataset `{dataset.folder}` has pixels of {dataset.pixel_size}, pipeline `{own.name}` of {own.pixel_size}"
        )


def _of_plot(pipeline: Pipeline, dataset: Dataset, plot: Plot) -> Original:
    def seen(with_pixels: bool) -> Seen:
        cells, valid, origin = dataset.tensors(plot, ["cells.0", "valid.0", "origin.0"])
        pixels = dataset.tensors(plot, ["pixels"])[0].permute(2, 0, 1).numpy() if with_pixels else None
        place = float(origin[0]), float(origin[1])
        lattice = _Cells(cells.numpy(), valid.numpy(), place, dataset.record.stride_px)
        return _seen(pipeline, lattice, plot.box[2:], pixels)

    return Original(plot.name, plot.source, plot.group, plot.split, plot.licence, plot.label, seen)


def _of_entry(pipeline: Pipeline, entry: Entry) -> Original:
    def seen(with_pixels: bool) -> Seen:
        condition = pipeline.record.condition
        grid = embed_slide(
            entry.path,
            pipeline.encoder(),
            pixel_size=pipeline.pixel_size,
            slide_pixel_size=entry.pixel_size,
            cell_px=condition.cell_px,
            stride_px=min(condition.strides_px),
        )
        lattice = _Cells(grid.embeddings, grid.valid, (grid.cell_px / 2, grid.cell_px / 2), grid.stride_px)
        return _seen(pipeline, lattice, grid.canvas, _pixels(pipeline, entry) if with_pixels else None)

    return Original(entry.key, entry.name, entry.group, entry.split, entry.licence, entry.label, seen)


def _pixels(pipeline: Pipeline, entry: Entry) -> NDArray[np.uint8]:
    with open_raster(entry.path, entry.pixel_size) as raster:
        slide = Rescaled(raster, pipeline.pixel_size)
        return slide.read(slide.frame.box)


def _seen(pipeline: Pipeline, cells: _Cells, size_px: tuple[int, ...], pixels: NDArray[np.uint8] | None) -> Seen:
    factor, margin = pipeline.record.factor, margin_of(pipeline)
    y, x = (place / factor + margin for place in cells.origin_px)
    step = cells.stride_px / factor
    scene = pipeline.told.over(cells.embeddings, cells.valid, (y, x), (step, step))
    height, width = (side // factor for side in size_px)
    frame = Frame(height + 2 * margin, width + 2 * margin, pipeline.record.channels, "float32")
    if pixels is None:
        return Seen(scene, frame, margin, None)
    whole, around = pixels[:, : height * factor, : width * factor], (margin * factor, margin * factor)
    mirrored = np.pad(whole, ((0, 0), around, around), mode="symmetric")
    return Seen(scene, frame, margin, ArrayField(latents_of(pipeline, ArrayField(mirrored))))


def _stub(entry: Entry) -> Plot:
    return Plot(entry.key, entry.name, entry.group, entry.split, entry.licence, entry.label, (0, 0, 0, 0), 0.0)
