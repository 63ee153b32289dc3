"""Bootstrap intervals, seeded, over rows or over whole groups of rows.

Rows of one field, patient or place are not independent; where groups are given, groups are drawn, not rows.
Every interval is *centred*: the value plus the quantiles of the resampled statistic about their own mean. For a mean
that is the percentile interval. For a biased statistic, such as a Fréchet distance, resampling repeats the bias, and
the plain percentile interval can lie wholly above the value it is meant to hold; the centred one says how far the
figure of this N varies, which is what a floor of the same N can be compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.evaluation.estimates import Estimate, Interval
from patchloom.evaluation.matrices import Groups, Rows, checked_groups

Statistic: TypeAlias = Callable[[Rows], float]
"""A number from row indices; indices may repeat."""

LEVEL = 0.95
REPEATS = 1000
FEW_DRAWS = 100  # below, tail quantiles are noise and a normal interval from the deviation is used
FEW_GROUPS = 8
MOST_UNDEFINED = 0.1  # of the draws; beyond that an interval of the rest would be of another quantity
_NORMAL = {0.9: 1.6449, 0.95: 1.96, 0.99: 2.5758}


def resampled_counts(n: int, repeats: int, seed: int, groups: Groups | None = None) -> Iterator[Rows]:
    """How often each of n rows is drawn, `repeats` times. Raises InputError where there is nothing to resample."""
    labels = checked_groups(groups, n)
    members = np.arange(n) if labels is None else np.unique(labels, return_inverse=True)[1]
    units = int(members.max(initial=-1)) + 1
    if units < 2:
        kind = "rows" if labels is None else "groups"
        raise InputError(f"an interval needs at least two independent {kind}, found {units}")
    rng = np.random.default_rng(seed)
    for _ in range(repeats):
        yield np.bincount(rng.integers(units, size=units), minlength=units)[members]


def resamples(n: int, repeats: int, seed: int, groups: Groups | None = None) -> Iterator[Rows]:
    """Row indices of `repeats` bootstrap samples."""
    return (np.repeat(np.arange(n), counts) for counts in resampled_counts(n, repeats, seed, groups))


def centred(
    value: float,
    draws: Sequence[float] | NDArray[Any],
    level: float,
    method: str,
    *,
    bounds: tuple[float, float] = (-inf, inf),
) -> Interval:
    """The value plus the spread of the draws about their mean: quantiles, or 1.96 deviations where draws are few.

    It holds the value. The ends are kept within `bounds`, the range that the quantity has at all. A draw may leave the
    quantity undefined (one cell drawn every time has no variance between cells): up to a tenth of them are left out,
    and the method says how many. Raises InputError where more are, or fewer than two remain.
    """
    every = np.asarray(draws, dtype=np.float64)
    spread = every[np.isfinite(every)]
    left_out = len(every) - len(spread)
    if len(spread) < 2 or left_out > MOST_UNDEFINED * len(every):
        raise InputError(
            f"an interval needs resamples on which its figure is defined: {len(spread)} of {len(every)} are. "
            "Take more images, of more groups"
        )
    if left_out:
        method = f"{method}, {left_out} undefined ones left out"
    spread = spread - spread.mean()
    if len(spread) >= FEW_DRAWS:
        down, up = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2])
        down, up = min(down, 0.0), max(up, 0.0)  # of rare draws far from all others the mean lies outside both
    else:
        up = normal_quantile(level) * spread.std(ddof=1)
        down, method = -up, f"{method}, normal"
    return Interval(max(value + float(down), bounds[0]), min(value + float(up), bounds[1]), level, method)


def normal_quantile(level: float) -> float:
    """Deviations that a two-sided normal interval reaches, for the usual levels."""
    if level not in _NORMAL:
        raise InputError(f"with fewer than {FEW_DRAWS} resamples the level must be one of {list(_NORMAL)}, not {level}")
    return _NORMAL[level]


def method(repeats: int, n: int, groups: Groups | None) -> str:
    """The words in which an interval says how it was made."""
    if groups is None:
        return f"bootstrap, {repeats} resamples of {n} rows"
    found = len(np.unique(groups))
    caution = "; so few groups make it a rough one" if found < FEW_GROUPS else ""
    return f"bootstrap, {repeats} resamples of {found} groups{caution}"


def bootstrap(
    statistic: Statistic,
    n: int,
    *,
    repeats: int = REPEATS,
    level: float = LEVEL,
    seed: int = 0,
    groups: Groups | None = None,
) -> Estimate:
    """A statistic of n rows with its centred bootstrap interval (Efron and Tibshirani 1993, chapter 13)."""
    value = statistic(np.arange(n))
    draws = [statistic(rows) for rows in resamples(n, repeats, seed, groups)]
    return Estimate(value, (n,), centred(value, draws, level, method(repeats, n, groups)))


def ratio_of_means(
    top: NDArray[Any],
    bottom: NDArray[Any],
    *,
    repeats: int = REPEATS,
    level: float = LEVEL,
    seed: int = 0,
    groups: Groups | None = None,
) -> Estimate:
    """mean(top) / mean(bottom) over the same n rows. Raises InputError where the denominator vanishes."""
    upper, lower = _values(top), _values(bottom)
    if len(upper) != len(lower):
        raise InputError(f"a ratio over the same rows needs as many of each, found {len(upper)} and {len(lower)}")
    n, total = len(upper), float(lower.sum())
    if total == 0:
        raise InputError("the denominator of the ratio is zero")
    draws = [_quotient(float(upper @ c), float(lower @ c)) for c in resampled_counts(n, repeats, seed, groups)]
    value = float(upper.sum()) / total
    return Estimate(value, (n,), centred(value, draws, level, method(repeats, n, groups)))


def mean(
    values: NDArray[Any],
    *,
    repeats: int = REPEATS,
    level: float = LEVEL,
    seed: int = 0,
    groups: Groups | None = None,
) -> Estimate:
    """The mean of n values with its interval."""
    return ratio_of_means(values, np.ones(len(values)), repeats=repeats, level=level, seed=seed, groups=groups)


def paired_difference(
    first: NDArray[Any],
    second: NDArray[Any],
    *,
    repeats: int = REPEATS,
    level: float = LEVEL,
    seed: int = 0,
    groups: Groups | None = None,
) -> Estimate:
    """mean(first - second) over pairs, such as two models on the same images: what they share cancels."""
    left, right = _values(first), _values(second)
    if len(left) != len(right):
        raise InputError(f"pairs need as many of each, found {len(left)} and {len(right)}")
    return mean(left - right, repeats=repeats, level=level, seed=seed, groups=groups)


def bootstrap_difference(
    first: Statistic,
    second: Statistic,
    n: int,
    *,
    repeats: int = REPEATS,
    level: float = LEVEL,
    seed: int = 0,
    groups: Groups | None = None,
) -> Estimate:
    """first - second, two statistics of the same rows, resampled together."""
    return bootstrap(lambda rows: first(rows) - second(rows), n, repeats=repeats, level=level, seed=seed, groups=groups)


def _values(values: NDArray[Any]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise InputError(f"expected a list of numbers, found an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{int((~np.isfinite(array)).sum())} of {len(array)} numbers are NaN or infinite")
    return array


def _quotient(top: float, bottom: float) -> float:
    if bottom == 0:
        raise InputError("the denominator of the ratio vanishes in a resample: too few rows for an interval")
    return float(top / bottom)
