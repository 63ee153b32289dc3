"""The real-against-real floor: what a measurement says when both sides are real.

One trial has three sets of equal size: synthetic images S, and two disjoint sets of real ones, A and B, with no field,
patient or place on both sides. The figure is measure(B, S), the floor measure(B, A). Where it is known which real
field each synthetic image was made from, S is taken from A's fields, so that B's content is news to both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.evaluation.estimates import Estimate, Floor
from patchloom.evaluation.intervals import LEVEL, centred
from patchloom.evaluation.matrices import Groups, Matrix, Rows, checked, checked_groups, checked_pair, groups_among

Measure: TypeAlias = Callable[[Matrix, Matrix], float]
"""(reference, other) -> number."""

SPLITS = 20
HALVES = "disjoint random halves of the real images, no group in both"


def halves(n: int, rng: np.random.Generator, groups: Groups | None = None) -> tuple[Rows, Rows]:
    """Two disjoint sets of equally many of n rows, no group in both; the larger side is cut at random.

    Raises InputError where groups leave a side with fewer than two rows.
    """
    labels = checked_groups(groups, n)
    if labels is None:
        order = rng.permutation(n)
        sides = order[: n // 2], order[n // 2 : n // 2 * 2]
    else:
        sides = _halves_of_groups(np.unique(labels, return_inverse=True)[1], rng)
    least = min(map(len, sides))
    if least < 2:
        raise InputError(
            f"{n} real images do not split into two disjoint halves of at least two, with no group in both"
        )
    first, second = (np.sort(rng.permutation(side)[:least]) for side in sides)
    return first, second


def _halves_of_groups(members: Rows, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Whole groups in random order, each to the side that is smaller so far."""
    left = np.zeros(len(members), dtype=bool)
    taken = [0, 0]
    for group in rng.permutation(members.max() + 1):
        rows = members == group
        side = int(taken[1] < taken[0])
        taken[side] += int(rows.sum())
        left |= rows & (side == 0)
    return np.flatnonzero(left), np.flatnonzero(~left)


@dataclass(frozen=True, slots=True)
class Trial:
    """Row numbers of three sets of equal size: S among the synthetic images, A and B among the real ones."""

    synthetic: Rows
    source: Rows  # A: where S may come from
    reference: Rows  # B

    @property
    def n(self) -> int:
        """Images on each side."""
        return len(self.reference)


def trials(
    real: int,
    synthetic: int,
    *,
    splits: int = SPLITS,
    seed: int = 0,
    real_groups: Groups | None = None,
    synthetic_groups: Groups | None = None,
) -> tuple[Trial, ...]:
    """Random trials, all of one N, from `real` real and `synthetic` synthetic images.

    `synthetic_groups` are the real groups that the synthetic images were made from; S then comes from A's groups.
    Raises InputError where a trial would have fewer than two images a side.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(splits):
        source, reference = halves(real, rng, real_groups)
        pool = _sourced(synthetic, source, real_groups, synthetic_groups)
        found.append(Trial(rng.permutation(pool), rng.permutation(source), rng.permutation(reference)))
    return _of_one_size(found)


def fixed_trial(source: int, reference: int, synthetic: int, *, seed: int = 0) -> tuple[Trial, ...]:
    """The one trial of a split made beforehand: real rows 0 to `source` are A, the `reference` rows after them B."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(synthetic), rng.permutation(source), source + rng.permutation(reference)
    return _of_one_size([Trial(*rows)])


def _sourced(n: int, source: Rows, real_groups: Groups | None, synthetic_groups: Groups | None) -> Rows:
    labels = checked_groups(synthetic_groups, n)
    if labels is None or real_groups is None:
        return np.arange(n)
    return np.flatnonzero(np.isin(labels, np.asarray(real_groups)[source]))


def _of_one_size(found: Sequence[Trial]) -> tuple[Trial, ...]:
    n = min(min(len(t.synthetic), len(t.source), len(t.reference)) for t in found)
    if n < 2:
        raise InputError(
            "a trial has fewer than two images on one side; give more images, or check that the groups of the "
            "synthetic images are those of the real ones they were made from"
        )
    cut = [(np.sort(part[:n]) for part in (t.synthetic, t.source, t.reference)) for t in found]
    return tuple(Trial(*parts) for parts in cut)


def real_floor(
    real: NDArray[Any], measure: Measure, *, splits: int = SPLITS, seed: int = 0, groups: Groups | None = None
) -> Floor:
    """A measure between random disjoint halves of real features (n, dim)."""
    matrix = checked(real, "real features", least=4)
    rng = np.random.default_rng(seed)
    sides = [halves(len(matrix), rng, groups) for _ in range(splits)]
    values = [measure(matrix[left], matrix[right]) for left, right in sides]
    return floor_of(values, min(len(left) for left, _ in sides))


def floor_of(values: Sequence[float], n: int, what: str = HALVES) -> Floor:
    """The floor from one value a split."""
    return Floor(float(np.mean(values)), min(values), max(values), n, len(values), what)


@dataclass(frozen=True, slots=True)
class AgainstFloor:
    """A measure at the floor's own N, and how many times the floor it is."""

    estimate: Estimate  # with its floor
    ratio: Estimate | None  # None where the floor is not above zero


def against_floor(
    real: NDArray[Any],
    synthetic: NDArray[Any],
    measure: Measure,
    cases: Sequence[Trial],
    *,
    bounds: tuple[float, float] = (-inf, inf),
    resamples: int = 100,
    level: float = LEVEL,
    seed: int = 0,
    real_groups: Groups | None = None,
    synthetic_groups: Groups | None = None,
) -> AgainstFloor:
    """Means over the trials of measure(B, S) and measure(B, A), and the ratio of the two means.

    For the interval S, A and B of every trial are drawn anew from themselves, by groups where there are some, and
    `spread_of_mean` turns the spread of one trial's figure into that of the mean. `bounds` is the measure's range.
    """
    first, second = checked_pair(real, synthetic)
    pairs = np.array([_measured(first, second, measure, (t.synthetic, t.source, t.reference)) for t in cases])
    n, value = cases[0].n, float(pairs[:, 0].mean())
    rng = np.random.default_rng(seed)
    labels = (checked_groups(synthetic_groups, len(second)), checked_groups(real_groups, len(first)))
    draws = [
        np.array([_measured(first, second, measure, _redrawn(case, labels, rng)) for _ in range(each)])
        for case, each in zip(cases, shared_out(resamples, len(cases)), strict=True)
    ]
    share = share_used(n, min(len(first), len(second)), len(cases))
    words = f"bootstrap, {sum(map(len, draws))} resamples of {n} images a side over {len(cases)} splits"
    spread = spread_of_mean([one[:, 0] for one in draws], pairs[:, 0], share)
    floor = floor_of([float(v) for v in pairs[:, 1]], n)
    estimate = Estimate(value, (n, n), centred(value, spread, level, words, bounds=bounds), floor)
    if floor.low <= 0 or min(one[:, 1].min() for one in draws) <= 0:
        return AgainstFloor(estimate, None)
    ratio = value / floor.value
    spread = spread_of_mean([one[:, 0] / one[:, 1] for one in draws], pairs[:, 0] / pairs[:, 1], share)
    how = "figure over real-against-real floor"
    return AgainstFloor(
        estimate, Estimate(ratio, (n, n), centred(ratio, spread, level, words, bounds=(0, inf)), how=how)
    )


def shared_out(resamples: int, cases: int) -> list[int]:
    """How many resamples each trial gets: as evenly as may be, and at least two."""
    return [max(len(range(number, resamples, cases)), 2) for number in range(cases)]


def share_used(n: int, available: int, cases: int) -> float:
    """The share of the available images that one trial uses; 1 for a single trial, which is its own mean."""
    return 1.0 if cases == 1 else min(n / available, 1.0)


def spread_of_mean(draws: Sequence[Matrix], values: Matrix, share: float) -> Matrix:
    """Deviations of the mean over trials, from resamples within each trial and the trials' own values.

    The mean over random subsets of m out of n images is a U-statistic; to first order its variance is m / n times
    that of one subset (Hoeffding 1948). To that comes what is left of the choice of the subsets themselves.
    """
    within = np.concatenate([one - one.mean() for one in draws])
    inside, between = float(within.var()), float(values.var(ddof=1)) if len(values) > 1 else 0.0
    left = between / len(values) / inside if inside > 0 else 0.0
    return np.asarray(within * np.sqrt(share + left))


def _measured(real: Matrix, synthetic: Matrix, measure: Measure, rows: tuple[Rows, Rows, Rows]) -> tuple[float, float]:
    reference = real[rows[2]]
    return measure(reference, synthetic[rows[0]]), measure(reference, real[rows[1]])


def _redrawn(
    trial: Trial, labels: tuple[Groups | None, Groups | None], rng: np.random.Generator
) -> tuple[Rows, Rows, Rows]:
    synthetic, real = labels
    return (
        _drawn(trial.synthetic, synthetic, rng),
        _drawn(trial.source, real, rng),
        _drawn(trial.reference, real, rng),
    )


def _drawn(rows: Rows, labels: Groups | None, rng: np.random.Generator) -> Rows:
    """As many rows, with replacement: whole groups until there are enough, cut at random to the same N."""
    groups = groups_among(labels, rows)
    if groups is None:
        return rng.choice(rows, len(rows))
    names = np.unique(groups)
    drawn = np.concatenate([rows[groups == name] for name in rng.choice(names, len(names))])
    while len(drawn) < len(rows):
        drawn = np.concatenate([drawn, rows[groups == rng.choice(names)]])
    return np.asarray(rng.permutation(drawn)[: len(rows)])
