from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.evaluation.floors import against_floor, fixed_trial, halves, real_floor, share_used, shared_out, trials
from patchloom.evaluation.frechet import frechet
from patchloom.evaluation.kernel import kernel

Array = NDArray[np.float64]


def gaussian(n: int, dim: int, seed: int, scale: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(0, scale, (n, dim))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(2, 9), min_size=2, max_size=9))
def test_halves_are_disjoint_equal_and_share_no_group(seed: int, sizes: list[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    left, right = halves(len(labels), np.random.default_rng(seed), labels)
    assert len(left) == len(right) >= 2
    assert not set(labels[left]) & set(labels[right])
    assert len(set(left)) == len(left)


@given(n=st.integers(4, 60))
def test_halves_without_groups_use_all_but_one(n: int) -> None:
    left, right = halves(n, np.random.default_rng(0))
    assert sorted([*left, *right]) == sorted(set(left) | set(right))
    assert len(left) == len(right) == n // 2


def test_halves_of_one_group_are_refused() -> None:
    with pytest.raises(InputError, match="no group in both"):
        halves(10, np.random.default_rng(0), np.zeros(10))


def test_floor_of_the_unbiased_distance_is_about_zero_and_of_the_biased_one_is_not() -> None:
    real = gaussian(200, 20, 0)
    assert abs(real_floor(real, kernel, splits=30).value) < 0.02
    found = real_floor(real, frechet, splits=5)
    assert found.n == 100
    assert found.splits == 5
    assert found.low <= found.value <= found.high
    assert found.value > 1


def test_fields_are_farther_apart_than_their_patches() -> None:
    """Halves that share fields flatter the floor; with groups it is what another field looks like."""
    fields = gaussian(20, 4, 0)
    real, labels = np.repeat(fields, 10, axis=0) + gaussian(200, 4, 1, 0.1), np.repeat(np.arange(20), 10)
    shared, apart = real_floor(real, frechet), real_floor(real, frechet, groups=labels)
    assert apart.value > 3 * shared.value


def test_trials_are_of_one_size_and_take_synthetic_images_of_the_source_fields() -> None:
    labels = np.repeat(np.arange(10), 8)
    found = trials(80, 80, splits=6, real_groups=labels, synthetic_groups=labels)
    assert len(found) == 6
    assert {t.n for t in found} == {len(t.synthetic) for t in found} == {found[0].n}
    for trial in found:
        assert set(labels[trial.synthetic]) <= set(labels[trial.source])
        assert not set(labels[trial.source]) & set(labels[trial.reference])


def test_a_fixed_split_keeps_its_sides() -> None:
    (trial,) = fixed_trial(30, 50, 40)
    assert trial.n == 30
    assert trial.source.max() < 30 <= trial.reference.min()
    assert trial.reference.max() < 80
    assert trial.synthetic.max() < 40


def test_synthetic_images_of_unknown_fields_are_refused() -> None:
    labels = np.repeat(np.arange(10), 8)
    with pytest.raises(InputError, match="groups of the synthetic images"):
        trials(80, 80, real_groups=labels, synthetic_groups=labels + 100)


def test_ratio_is_one_for_images_of_the_same_kind_and_more_for_others() -> None:
    real = gaussian(400, 6, 0)
    same, wide = gaussian(300, 6, 1), gaussian(300, 6, 2, 1.5)
    cases = trials(400, 300, splits=4)
    found = against_floor(real, same, frechet, cases)
    assert found.ratio is not None
    assert found.ratio.interval is not None
    assert found.ratio.interval.contains(1)
    assert found.estimate.n == (200, 200)
    assert found.estimate.floor is not None
    assert found.estimate.floor.n == 200
    assert found.estimate.value / found.estimate.floor.value == pytest.approx(found.ratio.value)
    other = against_floor(real, wide, frechet, cases).ratio
    assert other is not None
    assert other.interval is not None
    assert other.interval.low > 3


def test_a_floor_at_zero_gives_no_ratio() -> None:
    real = gaussian(80, 4, 0)
    found = against_floor(real, gaussian(80, 4, 1), kernel, trials(80, 80, splits=3))
    assert found.ratio is None


def test_one_seed_gives_one_answer_with_groups_too() -> None:
    real, synthetic, labels = gaussian(80, 3, 0), gaussian(80, 3, 1), np.repeat(np.arange(16), 5)
    cases = trials(80, 80, splits=3, seed=2, real_groups=labels, synthetic_groups=labels)
    first, second = (
        against_floor(real, synthetic, frechet, cases, resamples=20, real_groups=labels, synthetic_groups=labels)
        for _ in range(2)
    )
    assert first == second


def test_interval_holds_the_expected_figure_about_as_often_as_it_says() -> None:
    """Expected: the mean over repetitions of the experiment, its bias included, as a floor has it too."""
    found = []
    for seed in range(40):
        real, wide = gaussian(60, 3, 2 * seed), gaussian(60, 3, 2 * seed + 1, 1.5)
        found.append(against_floor(real, wide, frechet, trials(60, 60, splits=5, seed=seed), resamples=30).estimate)
    expected = np.mean([estimate.value for estimate in found])
    held = [estimate.interval is not None and estimate.interval.contains(float(expected)) for estimate in found]
    deviation = np.std([estimate.value for estimate in found])
    widths = [estimate.interval.high - estimate.interval.low for estimate in found if estimate.interval is not None]
    assert np.mean(held) >= 0.85
    assert np.mean(widths) < 2 * 3.92 * deviation


def test_resamples_are_shared_out_evenly() -> None:
    assert shared_out(10, 4) == [3, 3, 2, 2]
    assert shared_out(3, 4) == [2, 2, 2, 2]
    assert share_used(30, 60, 5) == 0.5
    assert share_used(30, 60, 1) == 1
