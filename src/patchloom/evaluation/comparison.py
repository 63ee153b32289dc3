"""Every distance between real and synthetic images, at the N of its own real-against-real floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf

import numpy as np

from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.estimates import Absent, Entry, Estimate, FeatureSpace, Figure, Side
from patchloom.evaluation.features import Features
from patchloom.evaluation.floors import (
    AgainstFloor,
    Measure,
    Trial,
    against_floor,
    fixed_trial,
    floor_of,
    share_used,
    shared_out,
    spread_of_mean,
    trials,
)
from patchloom.evaluation.frechet import (
    ROWS_AN_AXIS,
    Axes,
    every_axis,
    frechet,
    frechet_warnings,
)
from patchloom.evaluation.intervals import FEW_GROUPS, LEVEL, centred, resampled_counts
from patchloom.evaluation.kernel import kernel, kernel_distance
from patchloom.evaluation.matrices import Groups, Matrix, Rows, checked, checked_pair, groups_among
from patchloom.evaluation.neighbourhoods import Neighbourhoods, neighbourhoods
from patchloom.evaluation.patches import lossy


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is spent, and the seed of every random choice."""

    components: int = 64  # principal axes at most; also at most a tenth of a side's N
    splits: int = 10  # random halves of the real images
    resamples: int = 200
    full_resamples: int = 20  # of the full-dimension distance, which costs a second each
    level: float = LEVEL
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """Real and synthetic rows, the trials among them, and what all figures share."""

    real: Matrix
    synthetic: Matrix
    judged_by: Rows  # the real rows that synthetic images may be held against: all, or B of a fixed split
    trials: tuple[Trial, ...]
    groups: tuple[Groups | None, Groups | None]  # real, synthetic
    space: FeatureSpace
    sides: tuple[Side, Side]
    effort: Effort
    warnings: tuple[str, ...]

    def figure(self, name: str, estimate: Estimate) -> Figure:
        """An estimate by its name, with what all of this comparison must be told with."""
        warned = replace(estimate, warnings=(*estimate.warnings, *self.warnings))
        return Figure(name, warned, self.space, self.sides)

    def against_floor(self, measure: Measure, resamples: int, bounds: tuple[float, float] = (0, inf)) -> AgainstFloor:
        """A measure over the trials, beside that of real images."""
        return against_floor(
            self.real,
            self.synthetic,
            measure,
            self.trials,
            bounds=bounds,
            resamples=resamples,
            level=self.effort.level,
            seed=self.effort.seed,
            real_groups=self.groups[0],
            synthetic_groups=self.groups[1],
        )


def compare(
    real: Features,
    synthetic: Features,
    *,
    training: Features | None = None,
    source: Features | None = None,
    sourced: bool = False,
    effort: Effort = Effort(),
) -> tuple[Entry, ...]:
    """Fréchet (along axes of `training`, in full, and of all images), kernel, precision, recall, density, coverage.

    With `source`, the held-out real images that the synthetic ones were made from, `real` is the other half of the
    held-out images, and the floor is their distance. Without it, real images are halved at random, by groups where
    there are some; `sourced` says that the synthetic images' groups name the real groups that they were made from.
    What cannot be computed is absent with its reason. Raises MismatchError for features of different spaces, or a
    group that stands on two sides.
    """
    check_spaces([part for part in (real, synthetic, training, source) if part is not None])
    _check_apart(real, source, "the halves of the held-out images")
    _check_apart(real, training, "held-out and training images")
    _check_apart(source, training, "held-out and training images")
    case = case_of(real, synthetic, source, sourced, effort)
    return (*_axes_entries(case, training), *_full_entries(case), *_kernel_entries(case), *_near_entries(case))


def check_spaces(parts: Sequence[Features]) -> None:
    """Raise MismatchError unless all were measured by one network and one resizer, InputError for NaN."""
    for part in parts[1:]:
        if part.space != parts[0].space:
            raise MismatchError(
                f"`{parts[0].side.name}` was measured in {parts[0].space}, `{part.side.name}` in {part.space}; "
                "use one network and one resizer for all sides"
            )
    for part in parts:
        checked(part.rows, f"`{part.side.name}`")


def _check_apart(one: Features | None, two: Features | None, what: str) -> None:
    if one is None or two is None or one.groups is None or two.groups is None:
        return
    both = sorted({str(group) for group in one.groups} & {str(group) for group in two.groups})
    if both:
        raise MismatchError(
            f"{len(both)} groups stand on both sides of {what}: {', '.join(both[:5])}; split by patient or place"
        )


def case_of(real: Features, synthetic: Features, source: Features | None, sourced: bool, effort: Effort) -> Case:
    """Both sides with their trials, as `compare` says. Raises InputError where a trial has fewer than two images."""
    warnings = (*_codec_warnings(real.side, synthetic.side), *_group_warnings(real), *_group_warnings(synthetic))
    shared = (synthetic.space, (real.side, synthetic.side), effort, warnings)
    made = groups_among(synthetic.groups, np.arange(len(synthetic.rows)))
    if source is not None:
        both = None if source.groups is None or real.groups is None else np.concatenate([source.groups, real.groups])
        rows, others = checked_pair(np.concatenate([source.rows, real.rows]), synthetic.rows)
        cases = fixed_trial(len(source.rows), len(real.rows), len(others), seed=effort.seed)
        return Case(rows, others, np.arange(len(source.rows), len(rows)), cases, (both, made), *shared)
    rows, others = checked_pair(real.rows, synthetic.rows)
    labels = groups_among(real.groups, np.arange(len(rows)))
    cases = trials(
        len(rows),
        len(others),
        splits=effort.splits,
        seed=effort.seed,
        real_groups=labels,
        synthetic_groups=synthetic.groups if sourced else None,
    )
    return Case(rows, others, np.arange(len(rows)), cases, (labels, made), *shared)


def _group_warnings(side: Features) -> tuple[str, ...]:
    if side.groups is None:
        return ()
    found = len(np.unique(side.groups))
    if found == 1:
        return (f"{side.side.name}: all images are of one group and are resampled as if they were independent",)
    return (f"{side.side.name}: only {found} groups, so intervals are rough",) if found < FEW_GROUPS else ()


def _codec_warnings(real: Side, synthetic: Side) -> tuple[str, ...]:
    if lossy(real.codec) == lossy(synthetic.codec):
        return ()
    words = f"{real.name} went through {real.codec}, {synthetic.name} through {synthetic.codec}"
    return (f"codecs differ ({words}): a part of the distance may be the codec's",)


def _axes_entries(case: Case, training: Features | None) -> tuple[Entry, ...]:
    names = "frechet_axes", "frechet_axes_over_floor"
    try:
        axes = axes_of(case, training)
    except InputError as error:
        return tuple(Absent(name, str(error)) for name in names)
    along = replace(case, real=axes.project(case.real), synthetic=axes.project(case.synthetic))
    found = along.against_floor(frechet, case.effort.resamples)
    return case.figure(names[0], replace(found.estimate, how=str(axes))), _over_floor(case, names[1], found, str(axes))


def axes_of(case: Case, training: Features | None) -> Axes:
    """The axes of a comparison, at most a tenth of its N. Raises InputError where there are none to be had."""
    if training is None:
        raise InputError("no training features were given, and neither side may choose its own axes")
    most = min(case.effort.components, case.trials[0].n // ROWS_AN_AXIS, len(training.rows) - 1, training.rows.shape[1])
    if most < 1:
        raise InputError(f"{case.trials[0].n} images a side are too few: one axis needs {ROWS_AN_AXIS}")
    every = _every_axis(training)
    if every.k < most:
        raise InputError(f"the training features vary along fewer than {most} directions")
    return every.first(most)


@lru_cache(maxsize=1)
def _every_axis(training: Features) -> Axes:
    """Seconds of work that a report's comparisons in one space share; features are told apart by identity."""
    return every_axis(training.rows)


def _over_floor(case: Case, name: str, found: AgainstFloor, how: str) -> Entry:
    if found.ratio is None:
        return Absent(name, "the real-against-real floor is not above zero in every resample")
    return case.figure(name, replace(found.ratio, how=f"{found.ratio.how}; {how}"))


def _full_entries(case: Case) -> tuple[Entry, ...]:
    """In all dimensions: at the floor's N with its floor, and of all images, as other papers print it."""
    dim = case.real.shape[1]
    found = case.against_floor(frechet, case.effort.full_resamples).estimate
    found = replace(found, how=f"all {dim} dimensions", warnings=frechet_warnings(found.n[0], dim))
    real = case.real[case.judged_by]
    n = (len(real), len(case.synthetic))
    how = f"all {dim} dimensions, all images; there is no floor at this N"
    every = Estimate(frechet(real, case.synthetic), n, how=how, warnings=frechet_warnings(min(n), dim))
    return case.figure("frechet", found), case.figure("frechet_all_images", every)


def _kernel_entries(case: Case) -> tuple[Entry, ...]:
    found = kernel_distance(
        case.real[case.judged_by],
        case.synthetic,
        repeats=case.effort.resamples,
        level=case.effort.level,
        seed=case.effort.seed,
        real_groups=groups_among(case.groups[0], case.judged_by),
        synthetic_groups=case.groups[1],
    )
    floors = [kernel(case.real[t.reference], case.real[t.source]) for t in case.trials]
    return (case.figure("kernel", replace(found, floor=floor_of(floors, case.trials[0].n))),)


_NEAR = ("precision", "recall", "density", "coverage")


def _near_entries(case: Case) -> tuple[Entry, ...]:
    try:
        found = [neighbourhoods(case.real[t.reference], case.synthetic[t.synthetic]) for t in case.trials]
        floors = [neighbourhoods(case.real[t.reference], case.real[t.source]) for t in case.trials]
    except InputError as error:
        return tuple(Absent(name, str(error)) for name in _NEAR)
    return tuple(case.figure(name, _near(case, name, found, floors)) for name in _NEAR)


def _near(case: Case, name: str, found: list[Neighbourhoods], floors: list[Neighbourhoods]) -> Estimate:
    """The mean over trials; a resample draws the images that the figure is a mean of."""
    trials, n = case.trials, case.trials[0].n
    values = np.array([getattr(one, name) for one in found])
    each = shared_out(case.effort.resamples, len(found))
    draws = [_means(case, name, *some) for some in zip(trials, found, each, strict=True)]
    available = len(case.synthetic if name in {"precision", "density"} else case.real)
    spread = spread_of_mean(draws, values, share_used(n, available, len(found)))
    words = f"bootstrap, {len(spread)} resamples over {len(found)} splits, the other side's images held fixed"
    floor = floor_of([float(getattr(one, name)) for one in floors], n)
    value = float(values.mean())
    bounds = (0.0, inf if name == "density" else 1.0)
    return Estimate(value, (n, n), centred(value, spread, case.effort.level, words, bounds=bounds), floor)


def _means(case: Case, name: str, trial: Trial, found: Neighbourhoods, repeats: int) -> Matrix:
    values, rows, labels = {
        "precision": (found.precise, trial.synthetic, case.groups[1]),
        "recall": (found.recalled, trial.reference, case.groups[0]),
        "density": (found.dense, trial.synthetic, case.groups[1]),
        "coverage": (found.covered, trial.reference, case.groups[0]),
    }[name]
    counts = resampled_counts(len(values), repeats, case.effort.seed, groups_among(labels, rows))
    return np.array([values @ one / one.sum() for one in counts])
