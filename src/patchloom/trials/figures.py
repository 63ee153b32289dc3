"""The figures of the protocol, from finished slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from patchloom.datasets.manifest import Entry as Slide
from patchloom.encoders.encoder import Encoder
from patchloom.errors import InputError
from patchloom.evaluation.comparison import compare
from patchloom.evaluation.diversity import diversity
from patchloom.evaluation.entries import of_diversity, of_memorisation
from patchloom.evaluation.estimates import Absent, Entry, Side
from patchloom.evaluation.features import Features, features
from patchloom.evaluation.html import Beside
from patchloom.evaluation.matrices import Rows
from patchloom.evaluation.memorisation import Memorisation, memorisation
from patchloom.evaluation.patches import IN_MEMORY, Patches, UInt8, from_arrays, joined
from patchloom.evaluation.ratios import ratios
from patchloom.fields.field import Cropped, Field
from patchloom.geometry import Box
from patchloom.rasters.opening import open_raster
from patchloom.rasters.rescaled import Rescaled
from patchloom.trials.autoencoding import decoded, reconstruction_entries
from patchloom.trials.copies import nearest_pairs
from patchloom.trials.held_out import LARGE, HeldOut, Place, is_large, made_of
from patchloom.trials.large import NO_LARGE, large_of, seam_figures, similarities, wholes
from patchloom.trials.measuring import Measuring
from patchloom.trials.sides import Pictures

HALVES = "half A of the real fields against half B"
NO_TRAINING = "no training images were given"
SAME_PLACES = "crops of large images over patches made one by one at the same places"


@dataclass(frozen=True, slots=True)
class _Sets:
    """The pictures that distances are taken of; groups are fields."""

    source: Patches  # A, real
    reference: Patches  # B, real
    made: Patches  # from A's embeddings, one by one
    back: Patches  # A through the autoencoder alone
    crops: Patches | None  # of large images, at places of A
    composed: Patches | None  # patches of composed grids, one by one
    alike: Rows  # of `made` and then `composed`: the patches at the places of `crops`, in their order


@dataclass(slots=True, eq=False)
class Measured:
    """Figures, and the pictures that some of them must be looked at with."""

    entries: list[Entry] = field(default_factory=list)
    beside: list[Beside] = field(default_factory=list)


def figures_of(
    measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Slide], encoders: Sequence[Encoder]
) -> Measured:
    """Every figure, the networks one after the other. Raises InputError where a half has fewer than two patches."""
    sets, large = _sets(measuring, slides, entries), large_of(measuring, slides, entries)
    found = Measured()
    for encoder, similar in zip(encoders, similarities(measuring, large, encoders), strict=True):
        _distances(measuring, sets, encoder, found)
        found.entries += wholes(measuring, large, encoder)
        found.entries += similar
        found.entries += _diversity(measuring, slides, entries, encoder)
    found.entries += seam_figures(measuring, large)
    through = np.stack([sets.back.read(number) for number in range(sets.back.n)])
    found.entries += reconstruction_entries(measuring.pipeline, Pictures(sets.source, None), through, measuring.lpips)
    return found


def _sets(measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Slide]) -> _Sets:
    parts = [_parts(measuring, slide, entry) for slide, entry in zip(slides, entries, strict=True)]
    titles = {
        "source": "real, half A",
        "reference": "real, half B",
        "made": "synthetic patches",
        "crops": "crops of large images",
        "composed": "patches of composed grids",
    }
    found = {
        name: joined([part[name] for part in parts if name in part], title)
        for name, title in titles.items()
        if any(name in part for part in parts)
    }
    if {"source", "reference"} - found.keys() or min(found["source"].n, found["reference"].n) < 2:
        raise InputError("the held-out slides give fewer than two patches in half A or B; name more or larger slides")
    source, composed = found["source"], found.get("composed")
    back = decoded(measuring.pipeline, source.read, source.n, measuring.bars("autoencoder"))
    again = from_arrays(list(back), "half A through the autoencoder", groups=source.groups)
    alike = _alike(parts, found["made"].n)
    return _Sets(source, found["reference"], found["made"], again, found.get("crops"), composed, alike)


def _alike(parts: Sequence[dict[str, Patches]], made: int) -> Rows:
    """For each crop, the number of the patch made by itself at its place; those of composed grids follow the others."""
    numbers: list[int] = []
    next_made, next_composed = 0, made
    for part in parts:
        if "composed" in part:
            numbers += range(next_composed, next_composed + part["composed"].n)
            next_composed += part["composed"].n
        elif "made" in part:
            numbers += range(next_made, next_made + part["made"].n) if "crops" in part else ()
            next_made += part["made"].n
    return np.array(numbers, dtype=np.intp)


def _parts(measuring: Measuring, slide: HeldOut, entry: Slide) -> dict[str, Patches]:
    """The pictures of one slide."""
    place, side = measuring.place(entry), measuring.patch
    a, b = slide.half("A"), slide.half("B")
    parts: dict[str, Patches] = {}
    with open_raster(entry.path, entry.pixel_size) as raster:
        region = Cropped(Rescaled(raster, measuring.pipeline.pixel_size), slide.box)
        for name, some in (("source", a), ("reference", b)):
            if some and not slide.composed:  # what is composed is of half A, and was cut there
                parts[name] = _pictures(_cut(region, some, side), some, slide.codec)
    if a:
        made = list(made_of(place)["patches"])
        parts["composed" if slide.composed else "made"] = _pictures(made, a, IN_MEMORY)
        if is_large(slide, side):
            with open_raster(place / LARGE) as large:
                parts["crops"] = _pictures(_cut(large, a, side), a, "png")
    return parts


def _cut(field: Field, places: Sequence[Place], side: int) -> list[UInt8]:
    return [np.ascontiguousarray(field.read(Box(place.y, place.x, side, side))) for place in places]


def _pictures(arrays: list[UInt8], places: Sequence[Place], codec: str) -> Patches:
    return from_arrays(arrays, groups=np.array([place.field for place in places], dtype=object), codec=codec)


def _distances(measuring: Measuring, sets: _Sets, encoder: Encoder, found: Measured) -> None:
    """Add the distances of patches, of what the autoencoder keeps and of crops, and the search for copies."""

    def seen(patches: Patches) -> Features:
        return features(patches, encoder, progress=measuring.bars(f"{encoder.spec.name}: {patches.name}"))

    source, reference, made = seen(sets.source), seen(sets.reference), seen(sets.made)
    axes = None if measuring.training is None else seen(measuring.training.patches)

    def against(synthetic: Features, prefix: str) -> list[Entry]:
        compared = compare(reference, synthetic, training=axes, source=source, effort=measuring.effort)
        return [_told(one, prefix) for one in compared]

    found.entries += against(made, "patches")
    found.entries += against(seen(sets.back), "autoencoder")
    if sets.crops is None:
        found.entries.append(Absent("crops: frechet_axes", NO_LARGE))
    else:
        crops = seen(sets.crops)
        alike = _chosen([made, *([] if sets.composed is None else [seen(sets.composed)])], sets.alike)
        found.entries += against(crops, "crops")
        over = ratios(reference, crops, alike, source=source, training=axes, effort=measuring.effort)
        found.entries += (_named(one, f"crops_over_patches: {one.name}") for one in over)
    if measuring.training is None or axes is None:
        found.entries.append(Absent("nearest_training_distance_ratio", NO_TRAINING))
    else:
        copies = _memorised(axes, reference, made)
        found.entries += of_memorisation(copies, made.space, (axes.side, reference.side, made.side))
        found.beside.append(nearest_pairs(copies, sets.made, measuring.training.patches, encoder.spec.name))


def _chosen(parts: Sequence[Features], rows: Rows) -> Features:
    """Some rows of several sets, counted through."""
    groups = np.concatenate([np.asarray(part.groups) for part in parts])[rows]
    side = Side("patches at the same places", len(rows), parts[0].side.codec)
    return replace(parts[0], rows=np.concatenate([part.rows for part in parts])[rows], side=side, groups=groups)


def _named(found: Entry, name: str) -> Entry:
    if isinstance(found, Absent):
        return replace(found, name=name)
    return replace(found, name=name, estimate=replace(found.estimate, how=SAME_PLACES))


def _told(found: Entry, prefix: str) -> Entry:
    """An entry under the name of its images, with what its floor is here."""
    name = f"{prefix}: {found.name}"
    if isinstance(found, Absent) or found.estimate.floor is None:
        return replace(found, name=name)
    floor = replace(found.estimate.floor, what=HALVES)
    return replace(found, name=name, estimate=replace(found.estimate, floor=floor))


def _memorised(training: Features, unseen: Features, made: Features) -> Memorisation:
    groups = {"held_out_groups": unseen.groups, "synthetic_groups": made.groups}
    several = {key: value if _several(value) else None for key, value in groups.items()}
    return memorisation(
        training.rows,
        unseen.rows,
        made.rows,
        held_out_groups=several["held_out_groups"],
        synthetic_groups=several["synthetic_groups"],
    )


def _several(groups: object) -> bool:
    return groups is not None and len(np.unique(np.asarray(groups))) > 1


def _diversity(
    measuring: Measuring, slides: Sequence[HeldOut], entries: Sequence[Slide], encoder: Encoder
) -> tuple[Entry, ...]:
    """Several images of one place; places of one slide are of one group."""
    cubes: list[UInt8] = []
    groups: list[str] = []
    for slide, entry in zip(slides, entries, strict=True):
        found = made_of(measuring.place(entry))
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
