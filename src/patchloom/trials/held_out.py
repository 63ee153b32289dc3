"""One held-out slide of the protocol: its region, its fields in two halves, and what the pipeline makes of it.

A field is a square of two by two patches. Fields lie like the squares of a chessboard: A is what synthetic images are
made from, B what they are held against, and no field is on both sides.

    region.grid          the embeddings of the region
    large.png            the whole region made anew, where it is larger than a field in both directions
    made.safetensors     patches (n, 3, h, w) at the places of A; variations (cells, seeds, 3, h, w) at some of them
    slide.json           HeldOut, written last: a slide that has it is finished
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom import records
from patchloom.datasets.manifest import Entry
from patchloom.encoders.embed import embed
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.slide import MIN_VALID, reference_of
from patchloom.errors import InputError
from patchloom.evaluation.features import batch_of
from patchloom.evaluation.patches import UInt8, codec_of
from patchloom.fields.field import Cropped
from patchloom.geometry import Box
from patchloom.grids.file import read_grid, write_grid
from patchloom.grids.grid import EmbeddingGrid
from patchloom.pipelines.image_file import generate_file
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.request import Request
from patchloom.pipelines.settings import Settings
from patchloom.rasters.cells import cell_lattice, valid_cells
from patchloom.rasters.opening import open_raster
from patchloom.rasters.raster import Raster
from patchloom.rasters.rescaled import Rescaled
from patchloom.trials.evaluate import Advance, Bars
from patchloom.trials.patches import patches_at
from patchloom.weights import read_tensors, write_tensors

RECORD, GRID, LARGE, MADE = "slide.json", "region.grid", "large.png", "made.safetensors"
FIELD = 2  # patches along a field's side
SEED_STEP = 1_000_003  # from one variation's seed to the next


@dataclass(frozen=True, slots=True)
class Size:
    """How much is made and measured."""

    slides: int | None = None  # at most; None takes all
    region_px: int = 2048  # longest side of a region
    cells: int = 32  # places, over all slides, of which several variations are made
    seeds: int = 4  # variations of each
    training: int = 2000  # training patches at most
    composed: int = 0  # large images composed of small slides, where the test has no large ones


QUICK = Size(slides=6, region_px=1024, cells=12, seeds=3, training=400)


@dataclass(frozen=True, slots=True)
class Place:
    """A patch of a region: its corner in px, its field, and the half that the field belongs to."""

    y: int
    x: int
    field: str
    half: str  # A or B


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A finished slide, as `slide.json` holds it."""

    name: str
    group: str
    codec: str
    region: tuple[int, int, int, int]  # y, x, height, width at the pipeline's pixel size
    places: tuple[Place, ...]
    varied: int  # the first so many places of A
    composed: bool = False  # of small slides of A, one a place; what is measured of A is not measured of it again

    @property
    def title(self) -> str:
        """The file's name without folders."""
        return Path(self.name).name

    @property
    def box(self) -> Box:
        """The region."""
        return Box(*self.region)

    def half(self, name: str) -> list[Place]:
        """The places of A or of B."""
        return [place for place in self.places if place.half == name]


@dataclass(frozen=True, slots=True)
class Making:
    """How every slide is made."""

    pipeline: Pipeline
    encoder: Encoder
    settings: Settings
    size: Size

    @property
    def patch(self) -> int:
        """Side of a patch in px."""
        return self.pipeline.record.patch_px


def hold_out(making: Making, entry: Entry, number: int, varied: int, folder: Path, bars: Bars) -> HeldOut:
    """What is finished of a slide, or all of it made now; `number` turns the chessboard, as `turn` says.

    Of `varied` places of A, or of all where there are fewer, several variations are made.

    Raises InputError where the slide holds no patch of tissue, and what reading it raises.
    """
    if (folder / RECORD).is_file():
        return records.read_json(HeldOut, folder / RECORD)
    folder.mkdir(parents=True, exist_ok=True)
    with open_raster(entry.path, entry.pixel_size) as raster:
        slide = Rescaled(raster, making.pipeline.pixel_size)
        box, places = survey(slide, making.patch, making.size.region_px, entry.key, number)
        grid = _grid(making, slide, raster, box)
    held = HeldOut(entry.name, entry.group, codec_of(entry.path), _numbers(box), tuple(places), varied)
    return finish(making, replace(held, varied=min(varied, len(held.half("A")))), grid, folder, bars)


def finish(making: Making, held: HeldOut, grid: EmbeddingGrid, folder: Path, bars: Bars) -> HeldOut:
    """Make what is made of a slide with this grid, and say at last that it is finished."""
    write_grid(grid, folder / GRID)
    _make(making, grid, held, folder, bars(held.title))
    part = folder / f".{RECORD}.part"
    part.write_text(json.dumps(records.dump(held), indent=1) + "\n", encoding="utf-8")
    part.replace(folder / RECORD)
    return held


def turn(group: str, before: Sequence[str], count: int) -> int:
    """How the chessboard of a slide is turned, given the groups of the slides `before` it and its group's `count`.

    A slide of one field is in half A or in half B as a whole. The first half of a group's slides, in the order of the
    table, is turned one way and the rest the other: neighbours in a table, which often show one spot, stay together.
    From one group to the next the ways are exchanged, so that groups of one slide take turns.
    """
    order = list(dict.fromkeys([*before, group])).index(group)
    return (order + (2 * before.count(group) >= count)) % 2


def survey(slide: Raster | Rescaled, patch: int, longest: int, name: str, number: int) -> tuple[Box, list[Place]]:
    """The region with most tissue, whole patches at most `longest` px a side, and its patches of tissue."""
    if min(slide.frame.box.shape) < patch:
        raise InputError(f"`{slide.name}` is smaller than a patch of {patch} px at {slide.frame.pixel_size}")
    shares = valid_cells(slide, cell_lattice(slide, patch, patch))
    rows, cols = (min(count, max(longest // patch, 1)) for count in shares.shape)
    top, left = _fullest(shares, rows, cols)
    inside = shares[top : top + rows, left : left + cols]
    places = [
        Place(
            int(row) * patch,
            int(col) * patch,
            f"{name}/{row // FIELD},{col // FIELD}",
            "AB"[int(row // FIELD + col // FIELD + number) % 2],
        )
        for row, col in np.argwhere(inside >= MIN_VALID)
    ]
    if not places:
        raise InputError(f"no patch of `{slide.name}` holds tissue or data")
    return Box(top * patch, left * patch, rows * patch, cols * patch), places


def _fullest(shares: NDArray[np.float64], rows: int, cols: int) -> tuple[int, int]:
    """The corner of the rows x cols patches with the largest sum."""
    sums = np.lib.stride_tricks.sliding_window_view(shares, (rows, cols)).sum(axis=(2, 3))
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top), int(left)


def _grid(making: Making, slide: Rescaled, raster: Raster, box: Box) -> EmbeddingGrid:
    condition = making.pipeline.record.condition
    lattice = cell_lattice(slide, condition.cell_px, min(condition.strides_px), box)
    return embed(
        Cropped(slide, box),
        making.encoder,
        cell_px=lattice.cell_px,
        stride_px=lattice.stride_px,
        valid=valid_cells(slide, lattice) >= MIN_VALID,
        origin=(float(box.y), float(box.x)),
        pixel_size=making.pipeline.pixel_size,
        reference=reference_of(raster),
        batch=batch_of(making.encoder),
    )


def _make(making: Making, grid: EmbeddingGrid, held: HeldOut, folder: Path, advance: Advance) -> None:
    pipeline, settings = making.pipeline, making.settings
    boxes = [Box(place.y, place.x, making.patch, making.patch) for place in held.half("A")]
    tensors: dict[str, UInt8] = {}
    if boxes:
        tensors["patches"] = patches_at(pipeline, grid, boxes, settings)
    if held.varied:
        seeds = [replace(settings, seed=settings.seed + SEED_STEP * (1 + k)) for k in range(making.size.seeds)]
        some = [patches_at(pipeline, grid, boxes[: held.varied], one) for one in seeds]
        tensors["variations"] = np.stack(some, axis=1)
    if is_large(held, making.patch):
        request, done = Request(pipeline, grid, settings), [0]
        total = request.figures

        def windows(more: int) -> None:
            done[0] += more
            advance(done[0], total.windows + total.background_windows)

        generate_file(request, folder / LARGE, windows=windows)
    write_tensors({name: torch.from_numpy(value) for name, value in tensors.items()}, folder / MADE)


def is_large(held: HeldOut, patch: int) -> bool:
    """Whether a region is larger than a field in both directions, or composed, so that a large image says something."""
    return held.composed or min(held.box.shape) > FIELD * patch


def made_of(folder: Path) -> dict[str, UInt8]:
    """What `made.safetensors` holds."""
    return {name: value.numpy() for name, value in read_tensors(folder / MADE).items()}


def grid_of(folder: Path) -> EmbeddingGrid:
    """The grid of a finished slide's region."""
    return read_grid(folder / GRID)


def _numbers(box: Box) -> tuple[int, int, int, int]:
    return box.y, box.x, box.height, box.width
