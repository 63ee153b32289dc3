"""The figures of the protocol, from finished slides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from patchloom.encoders.encoder import Encoder
from patchloom.encoders.lpips import Lpips
from patchloom.errors import InputError
from patchloom.evaluation.comparison import Effort, compare
from patchloom.evaluation.diversity import diversity
from patchloom.evaluation.entries import of_diversity, of_memorisation
from patchloom.evaluation.estimates import Absent, Entry, Estimate, Figure, Side
from patchloom.evaluation.features import Features, features
from patchloom.evaluation.large_images import NAME as WHOLE
from patchloom.evaluation.large_images import large_image_distance, side_of, squeezed, whole_features
from patchloom.evaluation.memorisation import memorisation
from patchloom.evaluation.patches import IN_MEMORY, Patches, UInt8, from_arrays, joined
from patchloom.evaluation.seams import seams
from patchloom.evaluation.similarity import Similarity
from patchloom.fields.field import Cropped, Field
from patchloom.geometry import Box
from patchloom.pipelines.autoencoding import decoded, reconstruction_entries
from patchloom.pipelines.evaluate import Bars, space_of
from patchloom.pipelines.fidelity import fidelity
from patchloom.pipelines.held_out import LARGE, HeldOut, Place, grid_of, is_large, made_of
from patchloom.pipelines.over_slides import seams_of_slides, similarity_of_slides
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.seams import borders_of, on_floors
from patchloom.pipelines.settings import Settings, settled
from patchloom.pipelines.sides import Pictures
from patchloom.rasters.opening import open_raster
from patchloom.rasters.rescaled import Rescaled
from patchloom.training.manifest import Entry as Slide

NO_LARGE = "no held-out slide is large enough for a large image"
HALVES = "half A of the real fields against half B"
NO_TRAINING = "no training images were given"
RATIOS = ("frechet_axes", "frechet", "kernel")


@dataclass(frozen=True, slots=True)
class Measuring:
    """What every figure needs."""

    pipeline: Pipeline
    settings: Settings
    folder: Path
    training: Pictures | None
    effort: Effort
    bars: Bars
    lpips: Lpips | None = None

    @property
    def patch(self) -> int:
        """Side of a patch in px."""
        return self.pipeline.record.patch_px


@dataclass(frozen=True, slots=True)
class _Sets:
    """The pictures that distances are taken of; groups are fields."""

    source: Patches  # A, real
    reference: Patches  # B, real
    made: Patches  # from A's embeddings, one by one
    back: Patches  # A through the autoencoder alone
    crops: Patches | None  # of large images, at places of A
    alike: Patches | None  # the patches of `made` at those places


def figures_of(
    measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Slide], encoders: Sequence[Encoder]
) -> list[Entry]:
    """Every figure, the networks one after the other. Raises InputError where a half has fewer than two patches."""
    sets = _sets(measuring, slides, entries)
    found: list[Entry] = []
    for encoder in encoders:
        found += _distances(measuring, sets, encoder)
        found += _wholes(measuring, slides, entries, encoder)
        found += _similarity(measuring, slides, entries, encoder)
        found += _diversity(measuring, slides, entries, encoder)
    found += _seams(measuring, slides, entries)
    through = np.stack([sets.back.read(number) for number in range(sets.back.n)])
    found += reconstruction_entries(measuring.pipeline, Pictures(sets.source, None), through, measuring.lpips)
    return found


def _sets(measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Slide]) -> _Sets:
    parts = [_parts(measuring, slide, entry) for slide, entry in zip(slides, entries, strict=True)]
    names = "source", "reference", "made", "crops", "alike"
    titles = "real, half A", "real, half B", "synthetic patches", "crops of large images", "patches at the same places"
    found = {
        name: joined([part[name] for part in parts if name in part], title)
        for name, title in zip(names, titles, strict=True)
        if any(name in part for part in parts)
    }
    if {"source", "reference"} - found.keys() or min(found["source"].n, found["reference"].n) < 2:
        raise InputError("the held-out slides give fewer than two patches in half A or B; name more or larger slides")
    source = found["source"]
    back = decoded(measuring.pipeline, source.read, source.n, measuring.bars("autoencoder"))
    again = from_arrays(list(back), "half A through the autoencoder", groups=source.groups)
    return _Sets(source, found["reference"], found["made"], again, found.get("crops"), found.get("alike"))


def _parts(measuring: Measuring, slide: HeldOut, entry: Slide) -> dict[str, Patches]:
    """The pictures of one slide."""
    place, side = measuring.folder / "slides" / entry.key, measuring.patch
    a, b = slide.half("A"), slide.half("B")
    parts: dict[str, Patches] = {}
    with open_raster(entry.path, entry.pixel_size) as raster:
        region = Cropped(Rescaled(raster, measuring.pipeline.pixel_size), slide.box)
        for name, some in (("source", a), ("reference", b)):
            if some:
                parts[name] = _pictures(_cut(region, some, side), some, slide.codec)
    if a:
        made = list(made_of(place)["patches"])
        parts["made"] = _pictures(made, a, IN_MEMORY)
        if is_large(slide, side):
            with open_raster(place / LARGE) as large:
                parts["crops"] = _pictures(_cut(large, a, side), a, "png")
            parts["alike"] = parts["made"]
    return parts


def _cut(field: Field, places: Sequence[Place], side: int) -> list[UInt8]:
    return [np.ascontiguousarray(field.read(Box(place.y, place.x, side, side))) for place in places]


def _pictures(arrays: list[UInt8], places: Sequence[Place], codec: str) -> Patches:
    return from_arrays(arrays, groups=np.array([place.field for place in places], dtype=object), codec=codec)


def _distances(measuring: Measuring, sets: _Sets, encoder: Encoder) -> Iterator[Entry]:
    def seen(patches: Patches) -> Features:
        return features(patches, encoder, progress=measuring.bars(f"{encoder.spec.name}: {patches.name}"))

    source, reference, made = seen(sets.source), seen(sets.reference), seen(sets.made)
    axes = None if measuring.training is None else seen(measuring.training.patches)

    def against(synthetic: Features, prefix: str) -> list[Entry]:
        found = compare(reference, synthetic, training=axes, source=source, effort=measuring.effort)
        return [_told(one, prefix) for one in found]

    yield from against(made, "patches")
    yield from against(seen(sets.back), "autoencoder")
    if sets.crops is None or sets.alike is None:
        yield Absent("crops: frechet_axes", NO_LARGE)
    else:
        crops, alike = against(seen(sets.crops), "crops"), against(seen(sets.alike), "alike")
        yield from crops
        yield from _ratios(crops, alike)
    yield from _memorised(axes, reference, made)


def _told(found: Entry, prefix: str) -> Entry:
    """An entry under the name of its images, with what its floor is here."""
    name = f"{prefix}: {found.name}"
    if isinstance(found, Absent) or found.estimate.floor is None:
        return replace(found, name=name)
    floor = replace(found.estimate.floor, what=HALVES)
    return replace(found, name=name, estimate=replace(found.estimate, floor=floor))


def _ratios(crops: Sequence[Entry], alike: Sequence[Entry]) -> Iterator[Entry]:
    """Distances of crops of large images over those of patches made at the same places."""
    below = {one.name.removeprefix("alike: "): one for one in alike}
    for crop in crops:
        name = crop.name.removeprefix("crops: ")
        patch = below[name]
        if name not in RATIOS or not isinstance(crop, Figure) or not isinstance(patch, Figure):
            continue
        title = f"crops_over_patches: {name}"
        if patch.estimate.value <= 0:
            yield Absent(title, "the distance of the patches is not above zero")
            continue
        value = crop.estimate.value / patch.estimate.value
        how = "crops of large images over patches made one by one at the same places"
        yield Figure(title, Estimate(value, crop.estimate.n, how=how), crop.space, crop.sides)


def _memorised(training: Features | None, unseen: Features, made: Features) -> tuple[Entry, ...]:
    name = "nearest_training_distance_ratio"
    if training is None:
        return (Absent(name, NO_TRAINING),)
    groups = {"held_out_groups": unseen.groups, "synthetic_groups": made.groups}
    several = {key: value if _several(value) else None for key, value in groups.items()}
    found = memorisation(
        training.rows,
        unseen.rows,
        made.rows,
        held_out_groups=several["held_out_groups"],
        synthetic_groups=several["synthetic_groups"],
    )
    return of_memorisation(found, made.space, (training.side, unseen.side, made.side))


def _several(groups: object) -> bool:
    return groups is not None and len(np.unique(np.asarray(groups))) > 1


def _wholes(
    measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Slide], encoder: Encoder
) -> tuple[Entry, ...]:
    """Large images as wholes against the regions that they were made from; groups are patients or places."""
    some, side = list(_large(measuring, slides, entries)), side_of(encoder)
    if len(some) < 2:
        return (Absent(WHOLE, NO_LARGE if not some else "it takes several large images, and one was made"),)
    made: list[UInt8] = []
    real: list[UInt8] = []
    for slide, entry in some:
        with ExitStack() as opened:
            for kept, field in zip((made, real), _both(measuring, slide, entry, opened), strict=True):
                kept.append(squeezed(field, side))
    groups = np.array([slide.group for slide, _ in some], dtype=object)
    codec = " + ".join(sorted({slide.codec for slide, _ in some}))
    seen = [
        whole_features(patches, encoder, progress=measuring.bars(f"{encoder.spec.name}: {patches.name}"))
        for patches in (
            from_arrays(real, "their references", groups=groups, codec=codec),
            from_arrays(made, "large images", groups=groups, codec="png"),
        )
    ]
    return large_image_distance(*seen, sourced=True, effort=measuring.effort)


def _similarity(
    measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Slide], encoder: Encoder
) -> tuple[Entry, ...]:
    found: list[Similarity] = []
    for slide, entry in _large(measuring, slides, entries):
        place = measuring.folder / "slides" / entry.key
        advance = measuring.bars(f"{encoder.spec.name}: {slide.title}")
        with ExitStack() as opened:
            made, real = _both(measuring, slide, entry, opened)
            found.append(fidelity(measuring.pipeline, grid_of(place), made, real, encoder=encoder, progress=advance))
    if not found:
        return (Absent("similarity_raw", NO_LARGE),)
    side = Side("large images", len(found), "png")
    return similarity_of_slides(found, space_of(encoder), (Side("their references", len(found), "as filed"), side))


def _large(
    measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Slide]
) -> Iterator[tuple[HeldOut, Slide]]:
    pairs = zip(slides, entries, strict=True)
    return ((slide, entry) for slide, entry in pairs if is_large(slide, measuring.patch))


def _both(measuring: Measuring, slide: HeldOut, entry: Slide, opened: ExitStack) -> tuple[Field, Field]:
    """The large image of a slide and the region that it was made from."""
    made = opened.enter_context(open_raster(measuring.folder / "slides" / entry.key / LARGE))
    raster = opened.enter_context(open_raster(entry.path, entry.pixel_size))
    return made, Cropped(Rescaled(raster, measuring.pipeline.pixel_size), slide.box)


def _diversity(
    measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Slide], encoder: Encoder
) -> tuple[Entry, ...]:
    """Several images of one place; places of one slide are of one group."""
    cubes: list[UInt8] = []
    groups: list[str] = []
    for slide, entry in zip(slides, entries, strict=True):
        found = made_of(measuring.folder / "slides" / entry.key)
        if "variations" in found:
            cubes.append(found["variations"])
            groups += [slide.name] * len(cubes[-1])
    name = "diversity_per_condition"
    if len(groups) < 2 or cubes[0].shape[1] < 2:
        return (Absent(name, "it takes two places, and two variations of each"),)
    cube = np.concatenate(cubes)
    flat = from_arrays(list(cube.reshape(-1, *cube.shape[2:])), "variations")
    rows = features(flat, encoder, progress=measuring.bars(f"{encoder.spec.name}: variations"))
    labels = np.array(groups, dtype=object)
    try:
        varied = diversity(rows.rows.reshape(*cube.shape[:2], -1), groups=labels if _several(labels) else None)
    except InputError as error:
        return (Absent(name, str(error)),)
    return of_diversity(varied, rows.space, rows.side)


def _seams(measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Slide]) -> tuple[Entry, ...]:
    pipeline = measuring.pipeline
    found: list[Mapping[str, Estimate | Absent]] = []
    chosen = settled(pipeline, measuring.settings)
    for slide, entry in _large(measuring, slides, entries):
        with ExitStack() as opened:
            made, real = _both(measuring, slide, entry, opened)
            kinds = borders_of(pipeline, chosen, made.frame.box.shape)
            ours, theirs = (seams(field, kinds, pipeline.record.factor) for field in (made, real))
            found.append(on_floors(ours, theirs))
    if not found:
        return (Absent("seam: last stage", NO_LARGE),)
    return seams_of_slides(found, (Side("large images", len(found), "png"),))
