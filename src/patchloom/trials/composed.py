"""Large images where held-out slides are small: grids composed of several slides' embeddings.

A composed grid is that of a mosaic whose squares are slides of half A, its cells side by side, so that each lies in one
slide. The large image made from it flows from slide to slide where the mosaic jumps. So it says what large canvases do
to crops, and how cells are followed; it is no picture of a place, and no real one stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import TypeVar

import numpy as np

from patchloom import records
from patchloom.datasets.manifest import Entry
from patchloom.encoders.embed import embed
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.slide import reference_of
from patchloom.errors import InputError
from patchloom.evaluation.features import batch_of
from patchloom.fields.field import Field
from patchloom.grids.grid import EmbeddingGrid
from patchloom.pyramids.image import write_image
from patchloom.rasters.mosaic import Mosaic
from patchloom.rasters.opening import open_raster
from patchloom.rasters.rescaled import Rescaled
from patchloom.trials.evaluate import Bars
from patchloom.trials.held_out import RECORD, HeldOut, Making, Place, finish

T = TypeVar("T")

MOSAIC = "mosaic.png"


@dataclass(frozen=True, slots=True)
class Small:
    """A slide of one field that is in half A."""

    slide: HeldOut
    entry: Entry


def compose(
    making: Making, slides: Sequence[HeldOut], entries: Sequence[Entry], folder: Path, bars: Bars
) -> list[tuple[HeldOut, Entry]]:
    """`making.size.composed` large images of the small slides of half A, each slide in one of them at most.

    Slides are drawn by the seed. Raises InputError where a mosaic would hold fewer than four, or where the pipeline
    was not trained on cells that lie side by side.
    """
    count, cell = making.size.composed, making.pipeline.record.condition.cell_px
    if not count:
        return []
    if cell not in making.pipeline.record.condition.strides_px:
        raise InputError(f"composed grids have cells of {cell} px side by side, which this pipeline was not trained on")
    side, some = _small(making, slides, entries)
    rows, cols = _shape(len(some) // count, making.size.region_px // side if side else 0)
    if min(rows, cols) < 2:
        raise InputError(
            f"{len(some)} small slides of half A do not make {count} mosaics of two by two, at most "
            f"{making.size.region_px} px a side; compose fewer, or none"
        )
    order = np.random.default_rng(making.settings.seed).permutation(len(some))
    parts = [[some[int(place)] for place in order[k * rows * cols :][: rows * cols]] for k in range(count)]
    return [_composed(making, part, cols, side, f"composed-{k}", folder, bars) for k, part in enumerate(parts)]


def _small(making: Making, slides: Sequence[HeldOut], entries: Sequence[Entry]) -> tuple[int, list[Small]]:
    """The side in px that most squares have, and the small slides of A that hold one of it at the usual pixel size."""
    pairs = zip(slides, entries, strict=True)
    found = [Small(one, entry) for one, entry in pairs if len(one.places) == 1 and one.places[0].half == "A"]
    usual = _most([one.entry.pixel_size for one in found])
    sides = {one.entry.name: _side(making, one.entry) for one in found}
    side = _most([length for length in sides.values() if length >= making.patch]) or 0
    return side, [one for one in found if one.entry.pixel_size == usual and sides[one.entry.name] >= max(side, 1)]


def _most(values: Sequence[T]) -> T | None:
    return max(values, key=values.count, default=None)


def _side(making: Making, entry: Entry) -> int:
    """The largest square of whole cells in the middle of a slide, in px."""
    with open_raster(entry.path, entry.pixel_size) as raster:
        shape = Rescaled(raster, making.pipeline.pixel_size).frame.box.shape
    cell = making.pipeline.record.condition.cell_px
    return min(shape) // cell * cell


def _shape(most: int, along: int) -> tuple[int, int]:
    """Rows and columns of a mosaic of at most so many squares, at most so many along a side."""
    rows = min(isqrt(most), along)
    return rows, min(most // rows, along) if rows else 0


def _composed(
    making: Making, part: Sequence[Small], cols: int, side: int, name: str, folder: Path, bars: Bars
) -> tuple[HeldOut, Entry]:
    entry = Entry(Path(), name, name, "test", making.pipeline.pixel_size)
    place = folder / "slides" / entry.key
    entry = replace(entry, path=place / MOSAIC)
    if (place / RECORD).is_file():
        return records.read_json(HeldOut, place / RECORD), entry
    place.mkdir(parents=True, exist_ok=True)
    own = part[0].entry.pixel_size
    mosaic = Mosaic(tuple(one.entry.path for one in part), cols, side, making.pipeline.pixel_size, own)
    write_image(mosaic, entry.path, provenance={"synthetic": False, "mosaic_of": [one.slide.title for one in part]})
    height, width = mosaic.frame.box.shape
    codec = " + ".join(sorted({one.slide.codec for one in part}))
    held = HeldOut(name, name, codec, (0, 0, height, width), _places(making, part, cols, side), 0, composed=True)
    return finish(making, held, _grid(making, entry.path), place, bars), entry


def _places(making: Making, part: Sequence[Small], cols: int, side: int) -> tuple[Place, ...]:
    """A patch in the middle of each square, on whole latents, of its slide's field."""
    factor = making.pipeline.record.factor
    margin = (side - making.patch) // 2 // factor * factor
    fields = [one.slide.places[0].field for one in part]
    return tuple(
        Place(k // cols * side + margin, k % cols * side + margin, field, "A") for k, field in enumerate(fields)
    )


def _grid(making: Making, path: Path) -> EmbeddingGrid:
    with open_raster(path, making.pipeline.pixel_size) as raster:
        grid = cells_side_by_side(raster, making.encoder, making.pipeline.record.condition.cell_px)
        return replace(grid, reference=reference_of(raster))


def cells_side_by_side(mosaic: Field, encoder: Encoder, cell_px: int) -> EmbeddingGrid:
    """The grid of a picture's whole cells, all of them, side by side."""
    rows, cols = (length // cell_px for length in mosaic.frame.box.shape)
    valid = np.ones((rows, cols), dtype=bool)
    return embed(mosaic, encoder, cell_px=cell_px, stride_px=cell_px, valid=valid, batch=batch_of(encoder))
