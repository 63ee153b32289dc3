"""What the page of the protocol shows: real beside made, large images as wholes and at full size, and patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np

from patchloom.datasets.manifest import Entry
from patchloom.evaluation.html import Beside, shrunk
from patchloom.evaluation.patches import UInt8
from patchloom.fields.field import Cropped
from patchloom.geometry import Box
from patchloom.rasters.opening import open_raster
from patchloom.rasters.rescaled import Rescaled
from patchloom.trials.held_out import HeldOut, made_of
from patchloom.trials.large import Large, large_of, opened
from patchloom.trials.measuring import Measuring

WHOLE_PX = 704  # longest side of a large image that is shown reduced
DETAIL_PX = 640  # side of its middle, shown as it is
PATCHES = 24  # shown, spread over all slides
_ROW = 6
REAL, MADE = "real", "made from its embeddings"
MIXED = "composed of small slides"


def pictures(measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Entry]) -> list[Beside]:
    """Every large image beside what it was made from, and some patches beside theirs."""
    large = large_of(measuring, slides, entries)
    shown = [beside for one in large for beside in _large(measuring, one)]
    return [*shown, *_patches(measuring, slides, entries)]


def _large(measuring: Measuring, one: Large) -> Iterator[Beside]:
    first = MIXED if one.slide.composed else REAL
    with ExitStack() as stack:
        made, real = opened(measuring, one, stack)
        wholes = [shrunk(field.read(field.frame.box), WHOLE_PX) for field in (real, made)]
        yield Beside(f"{one.slide.title}, all of it", tuple(zip((first, MADE), wholes, strict=True)))
        height, width = made.frame.box.shape
        side = min(DETAIL_PX, height, width)
        middle = Box((height - side) // 2, (width - side) // 2, side, side)
        details = [np.ascontiguousarray(field.read(middle)) for field in (real, made)]
        yield Beside(f"{one.slide.title}, its middle at full size", tuple(zip((first, MADE), details, strict=True)))


def _patches(measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Entry]) -> Iterator[Beside]:
    """Rows of patches, each made by itself, evenly spread over those of half A."""
    every = [
        (slide, entry, number)
        for slide, entry in zip(slides, entries, strict=True)
        for number in range(0 if slide.composed else len(slide.half("A")))
    ]
    places = np.unique(np.linspace(0, len(every) - 1, min(PATCHES, len(every))).round().astype(int))
    pairs = [_pair(measuring, *every[place]) for place in places]
    for start in range(0, len(pairs), _ROW):
        real, made = zip(*pairs[start : start + _ROW], strict=True)
        rows = (REAL, np.concatenate(real, axis=2)), (MADE, np.concatenate(made, axis=2))
        yield Beside(f"Patches made one by one, {start + 1} to {start + len(real)}", rows)


def _pair(measuring: Measuring, slide: HeldOut, entry: Entry, number: int) -> tuple[UInt8, UInt8]:
    place, side = slide.half("A")[number], measuring.patch
    with open_raster(entry.path, entry.pixel_size) as raster:
        region = Cropped(Rescaled(raster, measuring.pipeline.pixel_size), slide.box)
        real = np.ascontiguousarray(region.read(Box(place.y, place.x, side, side)))
    return real, made_of(measuring.place(entry))["patches"][number]
