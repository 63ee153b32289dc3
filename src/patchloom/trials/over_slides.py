"""Figures of several slides as one: the slide is the unit of every mean and of every interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from patchloom.evaluation.entries import CEILING_BELOW, SHUFFLED
from patchloom.evaluation.estimates import Absent, Entry, Estimate, FeatureSpace, Figure, Floor, Side
from patchloom.evaluation.intervals import FEW_GROUPS, mean, ratio_of_means
from patchloom.evaluation.similarity import Cosines, Similarity

ONE_SLIDE = "one slide: there is nothing to resample"


def similarity_of_slides(
    found: Sequence[Similarity], space: FeatureSpace, sides: tuple[Side, ...]
) -> tuple[Entry, ...]:
    """Mean cosines, ceilings, shares of the way and retrieval over slides; floors are those of each slide's grid."""
    entries: list[Entry] = []
    for view in ("raw", "centred"):
        entries += _cosines([getattr(one, view) for one in found], f"similarity_{view}", space, sides)
    for name in ("retrieval_auc", "first_hit"):
        values = [getattr(one, name).value for one in found]
        title = name if name.startswith("retrieval") else f"retrieval_{name}"
        entries.append(Figure(title, _mean(values, "centred by each grid's mean"), space, sides))
    return tuple(entries)


def _cosines(found: Sequence[Cosines], name: str, space: FeatureSpace, sides: tuple[Side, ...]) -> list[Entry]:
    values = np.array([one.value.value for one in found])
    floors = np.array([one.floor for one in found])
    ceilings = np.array([one.ceiling.value for one in found if one.ceiling is not None])
    floor = Floor(float(floors.mean()), float(floors.min()), float(floors.max()), len(found), len(found), SHUFFLED)
    entries: list[Entry] = [Figure(name, replace(_mean(values), floor=floor), space, sides)]
    if len(ceilings) < len(found) or (ceilings - floors).mean() <= 0:
        return [*entries, Absent(f"{name}_share_of_way", CEILING_BELOW)]
    how = "the reference through the autoencoder alone"
    entries.append(Figure(f"{name}_ceiling", _mean(ceilings, how), space, sides))
    how = "from the floor (0) to the ceiling (1)"
    return [*entries, Figure(f"{name}_share_of_way", _ratio(values - floors, ceilings - floors, how), space, sides)]


def seams_of_slides(found: Sequence[Mapping[str, Estimate | Absent]], sides: tuple[Side, ...]) -> tuple[Entry, ...]:
    """The mean ratio of each kind of border over slides, with that of the same lines of the real regions."""
    entries: list[Entry] = []
    for kind in found[0]:
        measured = [one[kind] for one in found]
        some = [one for one in measured if isinstance(one, Estimate)]
        name = f"seam: {kind}"
        if not some:
            entries += [Absent(name, one.reason) for one in measured[:1] if isinstance(one, Absent)]
            continue
        figure = _mean([one.value for one in some], some[0].how)
        floors = [one.floor for one in some if one.floor is not None]
        if floors:
            values = [one.value for one in floors]
            figure = replace(
                figure,
                floor=Floor(float(np.mean(values)), min(values), max(values), len(values), len(values), floors[0].what),
            )
        entries.append(Figure(name, figure, None, sides))
    return tuple(entries)


def _mean(values: Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float64]], how: str = "") -> Estimate:
    numbers = np.asarray(values, dtype=np.float64)
    words = "; ".join(part for part in (how, "mean over slides") if part)
    if len(numbers) == 1:
        return Estimate(float(numbers[0]), (1,), how=words, warnings=(ONE_SLIDE,))
    return replace(mean(numbers), how=words, warnings=_few(len(numbers)))


def _few(slides: int) -> tuple[str, ...]:
    return (f"only {slides} large images: the interval is rough",) if slides < FEW_GROUPS else ()


def _ratio(
    top: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    bottom: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    how: str,
) -> Estimate:
    if len(top) == 1 or (bottom <= 0).any():
        return Estimate(float(top.sum() / bottom.sum()), (len(top),), how=how, warnings=(ONE_SLIDE,) * (len(top) == 1))
    return replace(ratio_of_means(top, bottom), how=how, warnings=_few(len(top)))
