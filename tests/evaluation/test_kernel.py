from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from patchloom.evaluation.kernel import kernel, kernel_distance

Array = NDArray[np.float64]


def gaussian(n: int, dim: int, seed: int, shift: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal(shift, 1, (n, dim))


def by_definition(real: Array, synthetic: Array) -> float:
    """Every pair by name, Binkowski et al. 2018, eq. 4."""

    def mean(left: Array, right: Array, skip: bool) -> float:
        pairs = [(i, j) for i in range(len(left)) for j in range(len(right)) if not (skip and i == j)]
        return float(np.mean([(left[i] @ right[j] / left.shape[1] + 1) ** 3 for i, j in pairs]))

    return mean(real, real, True) + mean(synthetic, synthetic, True) - 2 * mean(real, synthetic, False)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 9), m=st.integers(2, 9), dim=st.integers(1, 5))
def test_is_its_definition(seed: int, n: int, m: int, dim: int) -> None:
    real, synthetic = gaussian(n, dim, seed), gaussian(m, dim, seed + 1, 0.5)
    assert kernel(real, synthetic) == pytest.approx(by_definition(real, synthetic), rel=1e-9, abs=1e-9)


def test_rows_beyond_one_block_are_counted() -> None:
    real, synthetic = gaussian(1030, 3, 0), gaussian(40, 3, 1)
    gram = (real @ real.T / 3 + 1) ** 3
    within = (gram.sum() - np.trace(gram)) / (1030 * 1029)
    other = (synthetic @ synthetic.T / 3 + 1) ** 3
    rest = (other.sum() - np.trace(other)) / (40 * 39) - 2 * ((real @ synthetic.T / 3 + 1) ** 3).mean()
    assert kernel(real, synthetic) == pytest.approx(within + rest, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_rotation_order_and_side_change_nothing(seed: int) -> None:
    real, synthetic = gaussian(12, 6, seed), gaussian(10, 6, seed + 1, 0.3)
    turn = np.linalg.qr(gaussian(6, 6, seed + 2))[0]
    value = kernel(real, synthetic)
    assert kernel(real @ turn, synthetic @ turn) == pytest.approx(value, rel=1e-8, abs=1e-9)
    assert kernel(real[::-1], synthetic) == pytest.approx(value, rel=1e-8, abs=1e-9)
    assert kernel(synthetic, real) == pytest.approx(value, rel=1e-8, abs=1e-9)


def test_is_unbiased() -> None:
    """Over many draws of one distribution the mean is zero within its own error; some draws are negative."""
    values = np.array([kernel(gaussian(20, 8, 2 * i), gaussian(30, 8, 2 * i + 1)) for i in range(400)])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert values.min() < 0 < values.max()


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Truth: the distance of 3000 images a side, fifty times as many."""
    dim, shift = 4, 0.6
    truth = kernel(gaussian(3000, dim, 1000), gaussian(3000, dim, 1001, shift))
    hits = 0
    for i in range(60):
        found = kernel_distance(gaussian(60, dim, 2 * i), gaussian(60, dim, 2 * i + 1, shift), repeats=100, seed=i)
        assert found.interval is not None
        hits += found.interval.contains(truth)
    assert 49 <= hits <= 60


def test_groups_widen_the_interval_of_images_that_repeat_one_another() -> None:
    fields = gaussian(12, 4, 0)
    real, labels = np.repeat(fields, 10, axis=0) + gaussian(120, 4, 1) * 0.01, np.repeat(np.arange(12), 10)
    synthetic = gaussian(120, 4, 2, 0.8)
    alone = kernel_distance(real, synthetic).interval
    grouped = kernel_distance(real, synthetic, real_groups=labels).interval
    assert alone is not None
    assert grouped is not None
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    assert "12 groups" in grouped.method


def test_one_seed_gives_one_interval() -> None:
    real, synthetic = gaussian(40, 4, 0), gaussian(50, 4, 1)
    first, second, other = (kernel_distance(real, synthetic, repeats=100, seed=seed) for seed in (3, 3, 4))
    assert first == second
    assert first.interval != other.interval
    assert first.n == (40, 50)
