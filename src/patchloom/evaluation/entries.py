"""The results of single measurements as entries of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.encoders.perceptual import MAPS
from patchloom.evaluation.diversity import Diversity
from patchloom.evaluation.estimates import Absent, Entry, Estimate, FeatureSpace, Figure, Floor, Side
from patchloom.evaluation.intervals import mean, paired_difference
from patchloom.evaluation.matrices import Groups
from patchloom.evaluation.memorisation import Memorisation
from patchloom.evaluation.reconstruction import Fidelity
from patchloom.evaluation.similarity import Cosines, Similarity

SHUFFLED = "the same images against other cells of the same grid, all pairs"
_FIDELITY = {
    "psnr": "dB, mean over pictures",
    "ssim": "mean over pictures, of the three colour channels",
    "perceptual": f"mean over pictures of a distance, 0 is best: {MAPS}; it is not LPIPS",
    "lpips": "mean over pictures of a distance, 0 is best: LPIPS (Zhang et al. 2018)",
}
NO_CEILING = "no reconstruction of the reference through the autoencoder was given"
CEILING_BELOW = "the reconstruction is no nearer to its own cells than other images are"


def of_similarity(found: Similarity, space: FeatureSpace, sides: tuple[Side, ...]) -> tuple[Entry, ...]:
    """Raw and centred cosine with floor, ceiling and share of the way, and retrieval."""
    views = [entry for name in ("raw", "centred") for entry in _of_cosines(getattr(found, name), name, space, sides)]
    retrieval = {"retrieval_auc": found.retrieval_auc, "retrieval_first_hit": found.first_hit}
    how = "cosine of embeddings centred by the grid's mean"
    return (*views, *(Figure(name, replace(one, how=how), space, sides) for name, one in retrieval.items()))


def _of_cosines(view: Cosines, name: str, space: FeatureSpace, sides: tuple[Side, ...]) -> list[Entry]:
    n = view.value.n[0]
    floor = Floor(view.floor, view.floor, view.floor, n, 1, SHUFFLED)
    how = "embeddings as they are" if name == "raw" else "embeddings centred by the grid's mean"
    entries: list[Entry] = [Figure(f"similarity_{name}", replace(view.value, floor=floor, how=how), space, sides)]
    ceiling, share = f"similarity_{name}_ceiling", f"similarity_{name}_share_of_way"
    if view.ceiling is None:
        return [*entries, Absent(ceiling, NO_CEILING), Absent(share, NO_CEILING)]
    entries.append(
        Figure(ceiling, replace(view.ceiling, how="the reference through the autoencoder alone"), space, sides)
    )
    if view.share is None:
        return [*entries, Absent(share, CEILING_BELOW)]
    return [*entries, Figure(share, replace(view.share, how="from the floor (0) to the ceiling (1)"), space, sides)]


def of_seams(found: Mapping[str, Estimate | Absent], side: Side) -> tuple[Entry, ...]:
    """The seam meter, a figure for each kind of border."""
    return tuple(
        Absent(f"seam: {kind}", one.reason) if isinstance(one, Absent) else Figure(f"seam: {kind}", one, None, (side,))
        for kind, one in found.items()
    )


def of_diversity(found: Diversity, space: FeatureSpace, side: Side) -> tuple[Entry, ...]:
    """What the condition leaves open; the cosines stand beside the share."""
    how = f"{found.share.how}; cosine {found.same_cell:.3f} of one cell, {found.different_cells:.3f} of two"
    return (Figure("diversity_per_condition", replace(found.share, how=how), space, (side,)),)


def of_memorisation(found: Memorisation, space: FeatureSpace, sides: tuple[Side, Side, Side]) -> tuple[Entry, ...]:
    """Nearest-neighbour figures; sides are training, held-out, synthetic."""
    return (
        Figure("nearest_training_distance_ratio", found.ratio, space, sides),
        Figure("nearest_training_suspects", found.suspects, space, sides),
    )


def of_reconstruction(
    found: Sequence[Fidelity],
    baseline: Sequence[Fidelity],
    sides: tuple[Side, ...],
    *,
    groups: Groups | None = None,
    lpips: str = "",
) -> tuple[Entry, ...]:
    """Mean PSNR and SSIM over pictures, those of the bicubic baseline, and the paired differences.

    The perceptual distance and LPIPS too, where every picture has one; `lpips` says which network LPIPS is of.
    """
    hows = {**_FIDELITY, "lpips": "; ".join(filter(None, (_FIDELITY["lpips"], lpips)))}
    names = [name for name in _FIDELITY if all(getattr(one, name) is not None for one in (*found, *baseline))]
    return tuple(entry for name in names for entry in _of_fidelity(name, hows[name], found, baseline, sides, groups))


def _of_fidelity(
    name: str,
    how: str,
    found: Sequence[Fidelity],
    baseline: Sequence[Fidelity],
    sides: tuple[Side, ...],
    groups: Groups | None,
) -> list[Entry]:
    ours, theirs = (np.array([getattr(one, name) for one in some]) for some in (found, baseline))
    names = f"reconstruction_{name}", f"bicubic_{name}", f"reconstruction_{name}_over_bicubic"
    reason = "some pictures equal their reference exactly: their PSNR is infinite and has no mean"
    entries: list[Entry] = []
    for title, values in zip(names, (ours, theirs, None), strict=True):
        used = [ours, theirs] if values is None else [values]
        if not all(_finite(some) for some in used):
            entries.append(Absent(title, reason))
            continue
        one = paired_difference(ours, theirs, groups=groups) if values is None else mean(values, groups=groups)
        entries.append(Figure(title, replace(one, how=how), None, sides))
    return entries


def _finite(values: NDArray[Any]) -> bool:
    return all(isfinite(value) for value in values)
