"""The seam meter of a generated image: its provenance says where the engine's borders lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from patchloom import records
from patchloom.errors import FormatError, InputError, MismatchError
from patchloom.evaluation.entries import of_seams
from patchloom.evaluation.estimates import Absent, Entry, Estimate, Floor, Side
from patchloom.evaluation.patches import codec_of, lossy
from patchloom.evaluation.report import Report, report
from patchloom.evaluation.seams import Borders, seams
from patchloom.fields.field import Field
from patchloom.geometry import Box
from patchloom.pipelines.decoding import tiles_of
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.settings import Settings, lattices_of, sized
from patchloom.pyramids.read import read_provenance
from patchloom.rasters.opening import open_raster

PART, WHOLE = "only_xywh", "of_px"  # in the provenance of a part of an image: where it lies, and in what
LAST, EARLIER, DECODE = "last stage", "earlier stages", "decode tiles"
OTHERS_LOSSY = "the picture went through a lossy codec, which smooths seams and has blocks of its own"
SAME_LINES = "the same lines of the real reference"
_LAID = frozenset({"sampler", "steps", "strength", "plan", "window", "core", "sync", "recipe", "wrap", "norms"})


def seam_meter(pipeline: Pipeline, image: Path, reference: Path | None = None, *, seed: int = 0) -> Report:
    """Changes across the engine's borders in an image of `generate`, over those across other lines.

    With `reference`, a real picture of the same size, the same lines of it are each figure's floor.
    """
    block = block_of(image)
    settings = settings_of(block, pipeline, image.name)
    with open_raster(image) as made:
        whole, part = place_of(block, made.frame.box, image.name)
        kinds = {kind: one.within(part) for kind, one in borders_of(pipeline, settings, whole).items()}
        side = Side(image.name, 1, codec_of(image))
        if reference is None:
            return report(f"seams of {image.name}", seam_entries(pipeline, made, kinds, side, seed=seed))
        with open_raster(reference) as real:
            if real.frame.box.shape != made.frame.box.shape:
                raise MismatchError(
                    f"`{reference.name}` is {real.frame.width} x {real.frame.height} px, `{image.name}` "
                    f"{made.frame.width} x {made.frame.height} px; the same lines are looked at in both"
                )
            return report(f"seams of {image.name}", seam_entries(pipeline, made, kinds, side, real, seed=seed))


def seam_entries(
    pipeline: Pipeline,
    made: Field,
    kinds: dict[str, Borders],
    side: Side,
    real: Field | None = None,
    *,
    seed: int = 0,
) -> tuple[Entry, ...]:
    """The figures of an image, each with that of the same lines of a real picture as its floor."""
    found = seams(made, kinds, pipeline.record.factor, seed=seed)
    floors = seams(real, kinds, pipeline.record.factor, seed=seed) if real is not None else {}
    beside = on_floors(found, floors)
    if lossy(side.codec):
        beside = {kind: _cautioned(one) for kind, one in beside.items()}
    return of_seams(beside, side)


def on_floors(
    found: Mapping[str, Estimate | Absent], real: Mapping[str, Estimate | Absent]
) -> dict[str, Estimate | Absent]:
    """The figures of an image, each with that of the same lines of a real picture as its floor."""
    return {kind: _on_floor(one, real.get(kind)) for kind, one in found.items()}


def _on_floor(found: Estimate | Absent, real: Estimate | Absent | None) -> Estimate | Absent:
    if isinstance(found, Absent) or not isinstance(real, Estimate):
        return found
    ends = real.interval or real
    low, high = (ends.value, ends.value) if isinstance(ends, Estimate) else (ends.low, ends.high)
    return replace(found, floor=Floor(real.value, low, high, real.n[-1], 1, SAME_LINES))


def _cautioned(found: Estimate | Absent) -> Estimate | Absent:
    return found if isinstance(found, Absent) else replace(found, warnings=(*found.warnings, OTHERS_LOSSY))


def block_of(image: Path) -> Mapping[str, Any]:
    """The provenance block of a generated image. Raises FormatError for another one, MissingError for none."""
    block = read_provenance(image)
    if block is None or "settings" not in block:
        raise FormatError(
            f"`{image.name}` does not say how it was made, so nobody knows where its borders lie: the seam meter takes "
            "images as `patchloom generate` writes them (.png, or .tif with --compression deflate), with provenance"
        )
    return block


def settings_of(block: Mapping[str, Any], pipeline: Pipeline, name: str) -> Settings:
    """The settings in a provenance block that say where borders lie; the others are left open.

    Raises MismatchError for another pipeline's.
    """
    made = block.get("pipeline", {}).get("digest")
    if made != pipeline.digest:
        raise MismatchError(
            f"`{name}` was made by weights {made!s:.19}, pipeline `{pipeline.record.name}` has {pipeline.digest:.19}; "
            "name the pipeline that made it"
        )
    told = {key: value for key, value in block["settings"].items() if key in _LAID}
    return records.load(Settings, told, f"the provenance of `{name}`")


def place_of(block: Mapping[str, Any], image: Box, name: str) -> tuple[tuple[int, int], Box]:
    """The whole image (height, width) that a provenance block speaks of, and which part of it this image is.

    Raises InputError for a part that does not say of what, FormatError where it is of another size than it says.
    """
    if PART not in block:
        return image.shape, image
    if WHOLE not in block:
        raise InputError(
            f"`{name}` is a part of a larger image and was made before parts said how large: its borders are unknown; "
            "make it again, or measure the whole image"
        )
    x, y, width, height = block[PART]
    if (height, width) != image.shape:
        raise FormatError(f"`{name}` is {image.width} x {image.height} px, but says that it is {width} x {height} px")
    return (block[WHOLE][0], block[WHOLE][1]), Box(y, x, height, width)


def borders_of(pipeline: Pipeline, settings: Settings, size_px: tuple[int, int]) -> dict[str, Borders]:
    """The lines where cores of the last stage, cores of earlier stages and decoded tiles meet, in pixels.

    `size_px` is (height, width) of the image. A line of two kinds counts as the first of them in that order.
    """
    factor = pipeline.record.factor
    shape = (size_px[0] // factor, size_px[1] // factor)
    lattices = lattices_of(pipeline, sized(pipeline, settings, shape), shape)
    *earlier, last = (Borders.of(lattice) for lattice in lattices)
    before = Borders(
        frozenset().union(*(one.rows for one in earlier)), frozenset().union(*(one.cols for one in earlier))
    )
    decoded = Borders.of(tiles_of(pipeline, settings, shape))
    kinds = {LAST: last, EARLIER: before.without(last), DECODE: decoded.without(last).without(before)}
    return {name: one.times(factor) for name, one in kinds.items()}
