"""What is measured of the large images of the protocol, from finished slides: as wholes, cell by cell, along seams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from patchloom.datasets.manifest import Entry as Slide
from patchloom.encoders.encoder import Encoder
from patchloom.evaluation.estimates import Absent, Entry, Estimate, Side
from patchloom.evaluation.large_images import NAME as WHOLE
from patchloom.evaluation.large_images import large_image_distance, side_of, squeezed, whole_features
from patchloom.evaluation.patches import UInt8, from_arrays
from patchloom.evaluation.seams import seams
from patchloom.evaluation.similarity import Similarity
from patchloom.fields.field import ArrayField, Cropped, Field
from patchloom.grids.grid import EmbeddingGrid
from patchloom.pipelines.reconstruct import reconstruct
from patchloom.pipelines.settings import settled
from patchloom.rasters.opening import open_raster
from patchloom.rasters.rescaled import Rescaled
from patchloom.trials.evaluate import space_of
from patchloom.trials.fidelity import fidelity
from patchloom.trials.held_out import LARGE, HeldOut, grid_of, is_large
from patchloom.trials.measuring import Measuring
from patchloom.trials.over_slides import seams_of_slides, similarity_of_slides
from patchloom.trials.seams import borders_of, on_floors

NO_LARGE = "no held-out slide is large enough for a large image"
COMPOSED = "large images were composed of small ones: there is no real large image to hold them against"


@dataclass(frozen=True, slots=True)
class Large:
    """A slide with a large image, and the entry that says where it lies."""

    slide: HeldOut
    entry: Slide


def large_of(measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Slide]) -> list[Large]:
    """The slides that a large image was made of."""
    pairs = zip(slides, entries, strict=True)
    return [Large(slide, entry) for slide, entry in pairs if is_large(slide, measuring.patch)]


def opened(measuring: Measuring, one: Large, stack: ExitStack) -> tuple[Field, Field]:
    """The large image of a slide and the region that it was made from."""
    made = stack.enter_context(open_raster(measuring.place(one.entry) / LARGE))
    raster = stack.enter_context(open_raster(one.entry.path, one.entry.pixel_size))
    return made, Cropped(Rescaled(raster, measuring.pipeline.pixel_size), one.slide.box)


def wholes(measuring: Measuring, large: Sequence[Large], encoder: Encoder) -> tuple[Entry, ...]:
    """Large images as wholes against the regions that they were made from; groups are patients or places."""
    some, side = [one for one in large if not one.slide.composed], side_of(encoder)
    if len(some) < 2:
        reason = COMPOSED if len(some) < len(large) else NO_LARGE
        return (Absent(WHOLE, reason if not some else "it takes several large images, and one was made"),)
    made: list[UInt8] = []
    real: list[UInt8] = []
    for one in some:
        with ExitStack() as stack:
            for kept, field in zip((made, real), opened(measuring, one, stack), strict=True):
                kept.append(squeezed(field, side))
    groups = np.array([one.slide.group for one in some], dtype=object)
    codec = " + ".join(sorted({one.slide.codec for one in some}))
    seen = [
        whole_features(patches, encoder, progress=measuring.bars(f"{encoder.spec.name}: {patches.name}"))
        for patches in (
            from_arrays(real, "their references", groups=groups, codec=codec),
            from_arrays(made, "large images", groups=groups, codec="png"),
        )
    ]
    return large_image_distance(*seen, sourced=True, effort=measuring.effort)


def similarities(measuring: Measuring, large: Sequence[Large], encoders: Sequence[Encoder]) -> list[tuple[Entry, ...]]:
    """How far large images follow their grids, in each encoder, all on cells that lie side by side.

    Each slide is read, and put through the autoencoder, once for all encoders.
    """
    if not large:
        return [(Absent("similarity_raw", NO_LARGE),)] * len(encoders)
    found = list(zip(*(_similar(measuring, one, encoders) for one in large), strict=True))
    codec = " + ".join(sorted({one.slide.codec for one in large}))
    sides = Side("their references", len(large), codec), Side("large images", len(large), "png")
    return [
        similarity_of_slides(of_one, space_of(encoder), sides) for encoder, of_one in zip(encoders, found, strict=True)
    ]


def _similar(measuring: Measuring, one: Large, encoders: Sequence[Encoder]) -> Iterator[Similarity]:
    grid = side_by_side(grid_of(measuring.place(one.entry)))
    with ExitStack() as stack:
        made, real = (_held(field) for field in opened(measuring, one, stack))
    through = _held(reconstruct(measuring.pipeline, real))
    for encoder in encoders:
        advance = measuring.bars(f"{encoder.spec.name}: {one.slide.title}")
        yield fidelity(measuring.pipeline, grid, made, real, through=through, encoder=encoder, progress=advance)


def side_by_side(grid: EmbeddingGrid) -> EmbeddingGrid:
    """The cells of a grid that do not overlap, where its stride lets them be chosen; all of them where it does not.

    Cells that share pixels are half the same picture, so that a cell's neighbours are no strangers to it, and a judge
    would look at every pixel several times.
    """
    step, rest = divmod(grid.cell_px, grid.stride_px)
    return grid.subsampled(step) if step > 1 and not rest else grid


def _held(field: Field) -> ArrayField:
    return ArrayField(field.read(field.frame.box), field.frame.pixel_size)


def seam_figures(measuring: Measuring, large: Sequence[Large]) -> tuple[Entry, ...]:
    """The seam meter over large images, beside the same lines of the real regions."""
    pipeline = measuring.pipeline
    found: list[Mapping[str, Estimate | Absent]] = []
    chosen = settled(pipeline, measuring.settings)
    for one in large:
        with ExitStack() as stack:
            made, real = opened(measuring, one, stack)
            kinds = borders_of(pipeline, chosen, made.frame.box.shape)
            ours = seams(made, kinds, pipeline.record.factor)
            # A composed picture has seams of its own, between the small ones.
            found.append(ours if one.slide.composed else on_floors(ours, seams(real, kinds, pipeline.record.factor)))
    if not found:
        return (Absent("seam: last stage", NO_LARGE),)
    return seams_of_slides(found, (Side("large images", len(found), "png"),))
