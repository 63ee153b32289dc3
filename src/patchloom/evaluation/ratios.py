"""One synthetic side's distances over another's, where the two show the same places: what they share cancels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from patchloom.errors import InputError
from patchloom.evaluation.comparison import Case, Effort, axes_of, case_of
from patchloom.evaluation.estimates import Absent, Entry, Estimate
from patchloom.evaluation.features import Features
from patchloom.evaluation.frechet import frechet
from patchloom.evaluation.intervals import centred, method, resamples
from patchloom.evaluation.kernel import kernel, kernel_draws
from patchloom.evaluation.matrices import Groups, Matrix, groups_among

NAMES = ("frechet_axes", "frechet", "kernel")
NOT_ABOVE = "the distance that it is divided by is not above zero"
_EFFORT = Effort()
_Measure: TypeAlias = Callable[[Matrix, Matrix], float]
_Draws: TypeAlias = Callable[[Matrix], Sequence[float]]
"""Rows of a synthetic side to its distances in resamples, which draw the same rows whatever side it is."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """The reference, both synthetic sides, and the groups of the reference and of either side."""

    case: Case
    real: Matrix
    made: tuple[Matrix, Matrix]
    groups: tuple[Groups | None, Groups | None]


def ratios(
    reference: Features,
    top: Features,
    bottom: Features,
    *,
    source: Features,
    training: Features | None = None,
    effort: Effort = _EFFORT,
) -> tuple[Entry, ...]:
    """`compare`'s Fréchet and kernel distances of `top` over those of `bottom`, with intervals.

    Picture by picture the two show the same place; each resample draws the same places, and the same reference
    images, for both. Raises InputError where they are not as many, and what `case_of` raises.
    """
    if len(top.rows) != len(bottom.rows):
        raise InputError(f"{len(top.rows)} pictures over {len(bottom.rows)}: a ratio takes the same places of both")
    cases = [case_of(reference, side, source, False, effort) for side in (top, bottom)]
    along = _along(cases, training)
    return (
        along if isinstance(along, Absent) else _frechet(NAMES[0], along, effort.resamples),
        _frechet(NAMES[1], _of_one_size(cases), effort.full_resamples),
        _kernel(_of_all(cases), effort.resamples),
    )


def _along(cases: Sequence[Case], training: Features | None) -> _Pair | Absent:
    try:
        axes = axes_of(cases[0], training)
    except InputError as error:
        return Absent(NAMES[0], str(error))
    seen = [replace(case, real=axes.project(case.real), synthetic=axes.project(case.synthetic)) for case in cases]
    return _of_one_size(seen)


def _of_one_size(cases: Sequence[Case]) -> _Pair:
    """The rows of the one trial that a fixed split gives: the same ones of both sides."""
    case, trial = cases[0], cases[0].trials[0]
    top, bottom = (each.synthetic[trial.synthetic] for each in cases)
    groups = groups_among(case.groups[0], trial.reference), groups_among(case.groups[1], trial.synthetic)
    return _Pair(case, case.real[trial.reference], (top, bottom), groups)


def _of_all(cases: Sequence[Case]) -> _Pair:
    case = cases[0]
    groups = groups_among(case.groups[0], case.judged_by), case.groups[1]
    return _Pair(case, case.real[case.judged_by], (case.synthetic, cases[1].synthetic), groups)


def _frechet(name: str, pair: _Pair, repeats: int) -> Entry:
    def draws(side: Matrix) -> list[float]:
        left = resamples(len(pair.real), repeats, pair.case.effort.seed, pair.groups[0])
        right = resamples(len(side), repeats, pair.case.effort.seed + 1, pair.groups[1])
        return [frechet(pair.real[one], side[two]) for one, two in zip(left, right, strict=True)]

    return _ratio(name, pair, frechet, draws)


def _kernel(pair: _Pair, repeats: int) -> Entry:
    def draws(side: Matrix) -> list[float]:
        return kernel_draws(pair.real, side, repeats, pair.case.effort.seed, pair.groups)

    return _ratio(NAMES[2], pair, kernel, draws)


def _ratio(name: str, pair: _Pair, measure: _Measure, draws: _Draws) -> Entry:
    above, below = (measure(pair.real, side) for side in pair.made)
    if below <= 0:
        return Absent(name, NOT_ABOVE)
    upper, lower = (np.asarray(draws(side)) for side in pair.made)
    drawn = np.divide(upper, lower, out=np.full(len(upper), np.nan), where=lower > 0)
    estimate = Estimate(above / below, (len(pair.real), len(pair.made[0])))
    words = f"{method(len(drawn), len(pair.made[0]), pair.groups[1])}, of both sides together"
    try:
        estimate = replace(estimate, interval=centred(estimate.value, drawn, pair.case.effort.level, words))
    except InputError as error:
        estimate = replace(estimate, warnings=(f"no interval: {error}",))
    return pair.case.figure(name, estimate)
