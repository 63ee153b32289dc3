"""Encoders side by side on labelled pictures: linear probe, nearest neighbours, chance floors and differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.estimates import Entry, Estimate, Figure, Floor
from patchloom.evaluation.features import Features
from patchloom.evaluation.intervals import REPEATS, bootstrap, bootstrap_difference
from patchloom.evaluation.matrices import Groups, Rows, checked
from patchloom.evaluation.neighbours import NEIGHBOURS, vote
from patchloom.evaluation.probe import balanced_accuracy, chosen_strength, linear_scores, standardised
from patchloom.evaluation.probe_labelled import Labelled

SHUFFLED = "the same classifier on training labels that were shuffled"
_SHUFFLES = 5
_LINEAR, _NEAREST = "linear probe", f"{NEIGHBOURS}-NN"

Guess = Callable[[Rows], Rows]
"""From the training rows' labels to guesses of the test rows' labels."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One classifier on one encoder's features: what it guessed, and what it guesses by chance."""

    classifier: str
    features: Features
    right: NDArray[np.bool_]  # of each test row
    by_chance: tuple[NDArray[np.bool_], ...]
    how: str


def judge(encoders: Sequence[Features], labelled: Labelled, *, repeats: int = REPEATS, seed: int = 0) -> list[Entry]:
    """Accuracy and balanced accuracy of each encoder, then each later one's difference from the first, paired.

    Features are those of all rows of `labelled`, in its order. N is (training, test) images; intervals are of test
    groups drawn again, with the probe as it was trained. Raises InputError for features with NaN, MismatchError where
    they are of other pictures.
    """
    for features in encoders:
        checked(features.rows, f"features of `{features.space.network}`")
        if len(features.rows) != len(labelled.labels):
            raise MismatchError(f"{len(features.rows)} rows of features for {len(labelled.labels)} labelled pictures")
    judged = [one for features in encoders for one in classified(features, labelled, seed)]
    figures = [figure for one in judged for figure in _figures(one, labelled, repeats, seed)]
    first = {one.classifier: one for one in judged[:2]}
    pairs = [(one, first[one.classifier]) for one in judged[2:]]
    differences = [figure for pair in pairs for figure in _differences(*pair, labelled, repeats, seed)]
    return [*figures, *differences]


def classified(features: Features, labelled: Labelled, seed: int = 0) -> Iterator[Judged]:
    """The linear probe, and nearest neighbours of features standardised by the training rows."""
    train, numbers, classes = labelled.train, labelled.numbers, len(labelled.classes)
    known, asked = features.rows[train], features.rows[~train]
    strength = chosen_strength(known, numbers[train], labelled.groups[train], classes)
    near, far = standardised(known, asked)
    guesses: dict[str, tuple[Guess, str]] = {
        _LINEAR: (
            lambda labels: linear_scores(known, labels, asked, classes, strength).argmax(axis=1),
            f"logistic regression on frozen features, penalty {strength:g} chosen on held-out training groups",
        ),
        _NEAREST: (
            lambda labels: vote(near, labels, far, classes).argmax(axis=1),
            f"votes of the {NEIGHBOURS} nearest by cosine of standardised features",
        ),
    }
    for name, (guess, how) in guesses.items():
        rng = np.random.default_rng(seed)
        chance = tuple(guess(rng.permutation(numbers[train])) == numbers[~train] for _ in range(_SHUFFLES))
        yield Judged(name, features, guess(numbers[train]) == numbers[~train], chance, how)


def _figures(one: Judged, labelled: Labelled, repeats: int, seed: int) -> Iterator[Figure]:
    n, space, side = _n(labelled), one.features.space, one.features.side
    for what, statistic in _statistics(labelled).items():
        chances = [statistic(right)(np.arange(n[1])) for right in one.by_chance]
        floor = Floor(float(np.mean(chances)), min(chances), max(chances), n[1], len(chances), SHUFFLED)
        found = bootstrap(statistic(one.right), n[1], repeats=repeats, seed=seed, groups=_test_groups(labelled))
        yield Figure(
            f"{one.classifier}, {what}", replace(_bounded(found), n=n, floor=floor, how=one.how), space, (side,)
        )


def _differences(one: Judged, first: Judged, labelled: Labelled, repeats: int, seed: int) -> Iterator[Figure]:
    for what, statistic in _statistics(labelled).items():
        found = bootstrap_difference(
            statistic(one.right),
            statistic(first.right),
            int((~labelled.train).sum()),
            repeats=repeats,
            seed=seed,
            groups=_test_groups(labelled),
        )
        name = f"{one.classifier}, {what}: {one.features.space.network} minus {first.features.space.network}"
        yield Figure(
            name, replace(found, n=_n(labelled), how="paired, on the same test images"), None, (one.features.side,)
        )


def _statistics(labelled: Labelled) -> dict[str, Callable[[NDArray[np.bool_]], Callable[[Rows], float]]]:
    truth = labelled.numbers[~labelled.train]
    return {
        "accuracy": lambda right: lambda rows: float(right[rows].mean()),
        "balanced accuracy": lambda right: lambda rows: balanced_accuracy(right[rows], truth[rows]),
    }


def _test_groups(labelled: Labelled) -> Groups:
    groups = labelled.groups[~labelled.train]
    if len(np.unique(groups)) < 2:
        raise InputError(f"`{labelled.name}`: all test images are of one group, `{groups[0]}`: no interval can be had")
    return groups


def _bounded(found: Estimate) -> Estimate:
    """A share lies between 0 and 1, and so does its interval."""
    if found.interval is None:
        return found
    inside = replace(found.interval, low=max(found.interval.low, 0.0), high=min(found.interval.high, 1.0))
    return replace(found, interval=inside)


def _n(labelled: Labelled) -> tuple[int, int]:
    return int(labelled.train.sum()), int((~labelled.train).sum())
