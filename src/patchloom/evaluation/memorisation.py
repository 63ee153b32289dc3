"""Are synthetic images copies of training images? Nearest-neighbour distances, against those of real unseen images."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.evaluation.estimates import Estimate
from patchloom.evaluation.intervals import LEVEL, centred, resampled_counts
from patchloom.evaluation.matrices import Groups, Matrix, Rows, checked, checked_pair, distances

QUANTILE = 0.01


@dataclass(frozen=True, slots=True)
class Memorisation:
    """How near synthetic images come to the training set. N is (training, held-out, synthetic)."""

    ratio: Estimate  # mean nearest distance, synthetic over held-out: 1 is as far as unseen images are, 0 is copies
    suspects: Estimate  # share of synthetic images nearer than the held-out's 1 % quantile: 0.01 is as expected
    nearest: Rows  # (synthetic,) number of the nearest training image, to be looked at
    away: Matrix  # (synthetic,) distance to it


def nearest(queries: NDArray[Any], training: NDArray[Any]) -> tuple[Rows, Matrix]:
    """Number of the nearest training row, and the Euclidean distance to it, of each query."""
    training, queries = checked_pair(training, queries, least=1)
    place, away = np.empty(len(queries), dtype=np.intp), np.empty(len(queries))
    for part, found in distances(queries, training):
        place[part] = found.argmin(axis=1)
        away[part] = found.min(axis=1)
    return place, away


def memorisation(
    training: NDArray[Any],
    held_out: NDArray[Any],
    synthetic: NDArray[Any],
    *,
    repeats: int = 1000,
    level: float = LEVEL,
    seed: int = 0,
    held_out_groups: Groups | None = None,
    synthetic_groups: Groups | None = None,
) -> Memorisation:
    """Nearest-neighbour test of (n, dim) features; the training set stays fixed in the intervals.

    Held-out images come from other patients or places than training images, so a model that learnt the training
    cases' look without copying a patch also falls somewhat below 1: look at the nearest pairs before accusing it.
    Raises InputError where held-out images coincide with training images (they are then not held out).
    """
    checked(held_out, "held-out features"), checked(synthetic, "synthetic features")
    _, unseen = nearest(held_out, training)
    place, away = nearest(synthetic, training)
    if unseen.mean() == 0:
        raise InputError("every held-out image equals a training image: it is not held out")
    n = (len(training), len(unseen), len(away))
    draws = _resampled(unseen, away, repeats, seed, (held_out_groups, synthetic_groups))
    words = f"bootstrap, {repeats} resamples of {n[1]} held-out and {n[2]} synthetic images"
    values = _ratio(unseen, away), _suspects(unseen, away)
    ratio, suspects = (
        Estimate(value, n, centred(value, draws[:, i], level, words, bounds=(0, most)), how=how)
        for i, (value, how, most) in enumerate(zip(values, _HOW, (inf, 1.0), strict=True))
    )
    return Memorisation(ratio, suspects, place, away)


_HOW = (
    "mean distance to the nearest training image, synthetic over held-out",
    "share nearer to a training image than 1 % of held-out images are",
)


def _resampled(
    unseen: Matrix, away: Matrix, repeats: int, seed: int, groups: tuple[Groups | None, Groups | None]
) -> Matrix:
    left = resampled_counts(len(unseen), repeats, seed, groups[0])
    right = resampled_counts(len(away), repeats, seed + 1, groups[1])
    pairs = ((np.repeat(unseen, one), np.repeat(away, two)) for one, two in zip(left, right, strict=True))
    return np.array([(_ratio(one, two), _suspects(one, two)) for one, two in pairs])


def _ratio(unseen: Matrix, away: Matrix) -> float:
    return float(away.mean() / unseen.mean())


def _suspects(unseen: Matrix, away: Matrix) -> float:
    return float((away < np.quantile(unseen, QUANTILE)).mean())
