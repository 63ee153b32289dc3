"""The unbiased kernel distance: trustworthy with few images and many dimensions, where Fréchet's is not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.evaluation.estimates import Estimate
from patchloom.evaluation.intervals import LEVEL, centred, method, resampled_counts
from patchloom.evaluation.matrices import Groups, Matrix, blocks, checked_pair

INTERVAL_ROWS = 2500  # rows a side whose kernel matrices are held for the interval: three of 50 MB


def kernel(real: NDArray[Any], synthetic: NDArray[Any]) -> float:
    """Unbiased squared MMD with the kernel (x.y / dim + 1)^3 (Binkowski et al. 2018, KID) of all rows.

    It may be negative. Pairs of a row with itself are left out; everything else is summed in float64 by blocks.
    """
    first, second = checked_pair(real, synthetic)
    n, m = len(first), len(second)
    within = _kernel_sum(first, first) - _cubic(_self_products(first), first.shape[1]).sum()
    other = _kernel_sum(second, second) - _cubic(_self_products(second), first.shape[1]).sum()
    across = _kernel_sum(first, second)
    return float(within / (n * (n - 1)) + other / (m * (m - 1)) - 2 * across / (n * m))


def kernel_distance(
    real: NDArray[Any],
    synthetic: NDArray[Any],
    *,
    repeats: int = 200,
    level: float = LEVEL,
    seed: int = 0,
    real_groups: Groups | None = None,
    synthetic_groups: Groups | None = None,
) -> Estimate:
    """`kernel` of all rows with a bootstrap interval.

    The bootstrap weighs pairs of distinct rows by how often each was drawn, so a row drawn twice is not taken for two
    that happen to be equal. Beyond 2500 rows a side the interval comes from a random 2500, hence is wider than need be.
    """
    first, second = checked_pair(real, synthetic)
    rng = np.random.default_rng(seed)
    left, right = (np.sort(rng.permutation(len(side))[:INTERVAL_ROWS]) for side in (first, second))
    left_groups = None if real_groups is None else np.asarray(real_groups)[left]
    right_groups = None if synthetic_groups is None else np.asarray(synthetic_groups)[right]
    draws = kernel_draws(first[left], second[right], repeats, seed, (left_groups, right_groups))
    value = kernel(first, second)
    words = method(repeats, len(left), left_groups)
    return Estimate(
        value,
        (len(first), len(second)),
        centred(value, draws, level, words),
        how="unbiased, polynomial of degree 3, all rows",
    )


def kernel_draws(
    first: Matrix, second: Matrix, repeats: int, seed: int, groups: tuple[Groups | None, Groups | None]
) -> list[float]:
    """The distance of `repeats` resamples: pairs of distinct rows, weighed by how often each was drawn."""
    dim = first.shape[1]
    one, two, across = (_cubic(a @ b.T, dim) for a, b in ((first, first), (second, second), (first, second)))
    np.fill_diagonal(one, 0)
    np.fill_diagonal(two, 0)
    left = resampled_counts(len(first), repeats, seed, groups[0])
    right = resampled_counts(len(second), repeats, seed + 1, groups[1])
    return [
        _pair_mean(one, v) + _pair_mean(two, w) - 2 * float(v @ across @ w) / float(v.sum() * w.sum())
        for v, w in ((v.astype(np.float64), w.astype(np.float64)) for v, w in zip(left, right, strict=True))
    ]


def _pair_mean(gram: Matrix, counts: Matrix) -> float:
    return float(counts @ gram @ counts) / max(float(counts.sum() ** 2 - (counts**2).sum()), 1.0)


def _cubic(products: Matrix, dim: int) -> Matrix:
    return (products / dim + 1) ** 3


def _self_products(rows: Matrix) -> Matrix:
    return np.asarray(np.einsum("nd,nd->n", rows, rows))


def _kernel_sum(first: Matrix, second: Matrix) -> float:
    parts = (_cubic(first[part] @ second.T, first.shape[1]).sum() for part in blocks(len(first)))
    return float(sum(parts))
