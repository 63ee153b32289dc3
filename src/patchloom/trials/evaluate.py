"""Measurements of finished pictures, from files to a report: distances of two sides, similarity to a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

from patchloom.encoders.encoder import Encoder
from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.comparison import Effort, compare
from patchloom.evaluation.entries import of_similarity
from patchloom.evaluation.estimates import Entry, FeatureSpace, Side
from patchloom.evaluation.features import features, resizer
from patchloom.evaluation.large_images import large_image_distance, side_of, whole_features
from patchloom.evaluation.patches import codec_of
from patchloom.evaluation.report import Report, report
from patchloom.fields.field import Cropped, Field
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pyramids.read import read_provenance
from patchloom.rasters.describe import describe
from patchloom.rasters.opening import open_raster
from patchloom.rasters.raster import Raster
from patchloom.rasters.rescaled import Rescaled
from patchloom.trials.fidelity import fidelity
from patchloom.trials.sides import Pictures

Advance: TypeAlias = Callable[[int, int], None]
Bars: TypeAlias = Callable[[str], Advance]
"""A label to the function that is told (done, total)."""

EFFORT = Effort()


def silent(label: str) -> Advance:
    """No bar."""
    return lambda done, total: None


def distances(
    real: Pictures,
    synthetic: Pictures,
    encoders: Sequence[Encoder],
    *,
    training: Pictures | None = None,
    sourced: bool = False,
    effort: Effort = EFFORT,
    bars: Bars = silent,
) -> Report:
    """Fréchet and kernel distance, precision, recall, density, coverage of two sides, in each encoder's space.

    `training` chooses the principal axes. `sourced` says that groups of `synthetic` name the real groups it was made
    from. Raises MismatchError for unequal pixel sizes, or a group that is on two sides.
    """
    for side in (synthetic, training):
        if side is not None:
            real.check(side)
    entries: list[Entry] = []
    for encoder in encoders:
        sides = [
            features(side.patches, encoder, progress=bars(f"{encoder.spec.name}: {side.patches.name}"))
            for side in (real, synthetic, training)
            if side is not None
        ]
        axes = sides[2] if training is not None else None
        entries += compare(sides[0], sides[1], training=axes, sourced=sourced, effort=effort)
    return report(f"{synthetic.patches.name} against {real.patches.name}", entries)


def whole_distances(
    opened: Callable[[int], tuple[Pictures, Pictures]],
    encoders: Sequence[Encoder],
    *,
    sourced: bool = False,
    effort: Effort = EFFORT,
    bars: Bars = silent,
) -> Report:
    """The large-image distance of two sides, in each encoder's space.

    `opened` gives the real and the synthetic side, each picture whole and squeezed to a square of so many px. Raises
    MismatchError for unequal pixel sizes.
    """
    entries: list[Entry] = []
    names = "", ""
    for encoder in encoders:
        real, synthetic = opened(side_of(encoder))
        real.check(synthetic)
        names = synthetic.patches.name, real.patches.name
        seen = [
            whole_features(side.patches, encoder, progress=bars(f"{encoder.spec.name}: {side.patches.name}"))
            for side in (real, synthetic)
        ]
        entries += large_image_distance(*seen, sourced=sourced, effort=effort)
    return report(f"{names[0]} against {names[1]}, as wholes", entries)


def similarity(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    image: Path,
    reference: Path | None = None,
    *,
    encoders: Sequence[Encoder] = (),
    slide_pixel_size: PixelSize | None = None,
    bars: Bars = silent,
) -> Report:
    """How far a large image follows its grid, in the pipeline's encoder and in others.

    `reference` is the slide that the grid was embedded from, or a picture of the grid's own canvas: with it come the
    ceiling, and other encoders. Raises MismatchError where the parts do not belong together.
    """
    if encoders and reference is None:
        raise InputError("another encoder must see the reference too: give --reference, the slide of the grid")
    pipeline.check(grid)
    own = pipeline.encoder()
    judges = [own, *others(own, encoders)]
    n = int(grid.valid.sum())
    sides = Side(_reference_name(grid), n, "embeddings"), Side(image.name, n, codec_of(image))
    entries: list[Entry] = []
    with ExitStack() as opened:
        made = opened.enter_context(open_raster(image, pipeline.pixel_size))
        _check_size(made, grid, pipeline.record.factor)
        real: Field | None = None
        if reference is not None:
            slide = opened.enter_context(open_raster(reference, _size_of(reference, grid, slide_pixel_size)))
            real = Cropped(beneath(slide, grid), made.frame.box)
        for judge in judges:
            found = fidelity(pipeline, grid, made, real, encoder=judge, progress=bars(f"{judge.spec.name}: cells"))
            entries += of_similarity(found, space_of(judge), sides)
    return report(f"{image.name} against its grid", entries, [*pipeline.doubts, *_notes(image, grid)])


def others(own: Encoder, encoders: Sequence[Encoder]) -> list[Encoder]:
    """The encoders that are not the pipeline's own, by name and weights."""
    return [each for each in encoders if (each.spec.name, each.spec.digest) != (own.spec.name, own.spec.digest)]


def space_of(encoder: Encoder) -> FeatureSpace:
    """The feature space of an encoder that sees pictures as they are."""
    return FeatureSpace(encoder.spec.name, encoder.spec.digest, encoder.spec.dim, resizer(encoder))


def beneath(slide: Raster, grid: EmbeddingGrid) -> Field:
    """The pixels of a grid's canvas: cut from the slide that it was embedded from, or a picture of just that canvas.

    Raises MismatchError where the slide is neither.
    """
    own, scaled = grid.reference, Rescaled(slide, grid.pixel_size)
    height, width = grid.canvas
    if own is not None and (own.height, own.width) == slide.frame.box.shape:
        top, left = (round(place) for place in grid.origin)
        return Cropped(scaled, Box(top, left, height, width).meet(scaled.frame.box))
    if scaled.frame.box.shape == (height, width):
        return scaled
    told = f"`{own.name}` of {own.width} x {own.height} px" if own else "a picture"
    raise MismatchError(
        f"the grid was embedded from {told} and has a canvas of {width} x {height} px; `{slide.name}`, "
        f"{slide.frame.width} x {slide.frame.height} px, is neither that slide nor that canvas"
    )


def _size_of(reference: Path, grid: EmbeddingGrid, given: PixelSize | None) -> PixelSize | None:
    """What to open a reference with: what the grid knows of its slide, or the grid's own size for its canvas."""
    facts, own = describe(reference), grid.reference
    if given is not None or facts["pixel_size_m"] is not None:
        return given
    is_slide = own is not None and facts["size_px"] == [own.height, own.width]
    return own.pixel_size if own is not None and is_slide else grid.pixel_size


def _reference_name(grid: EmbeddingGrid) -> str:
    return grid.reference.name if grid.reference else "the grid"


def _notes(image: Path, grid: EmbeddingGrid) -> list[str]:
    block = read_provenance(image)
    if block is None or block.get("grid", {}).get("digest") == grid.digest():
        return []
    return [f"the provenance of `{image.name}` names another grid than the one it was compared with"]


def _check_size(made: Raster, grid: EmbeddingGrid, factor: int) -> None:
    expected = tuple(side // factor * factor for side in grid.canvas)
    if made.frame.box.shape != expected:
        raise MismatchError(
            f"`{made.name}` is {made.frame.width} x {made.frame.height} px, an image of this grid has "
            f"{expected[1]} x {expected[0]} px; name the grid that it was made from"
        )
