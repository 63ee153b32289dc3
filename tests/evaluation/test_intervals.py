from __future__ import annotations

import numpy as np
import pytest

from patchloom.errors import InputError
from patchloom.evaluation.estimates import Estimate, Interval
from patchloom.evaluation.frechet import frechet
from patchloom.evaluation.intervals import (
    bootstrap,
    bootstrap_difference,
    centred,
    mean,
    paired_difference,
    ratio_of_means,
    resamples,
)


def interval(estimate: Estimate) -> Interval:
    assert estimate.interval is not None
    return estimate.interval


def width(estimate: Estimate) -> float:
    return interval(estimate).high - interval(estimate).low


def test_interval_of_a_mean_holds_the_truth_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).exponential(2.0, (200, 50))
    hits = sum(interval(mean(row, repeats=300, seed=i)).contains(2.0) for i, row in enumerate(draws))
    assert 176 <= hits <= 198


def test_interval_of_a_mean_is_the_textbooks() -> None:
    values = np.random.default_rng(1).normal(5, 3, 400)
    found = mean(values, repeats=4000)
    reach = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert interval(found).low == pytest.approx(values.mean() - reach, abs=0.1 * reach)
    assert interval(found).high == pytest.approx(values.mean() + reach, abs=0.1 * reach)


def test_centred_interval_holds_the_expected_figure_of_a_biased_statistic() -> None:
    """A percentile interval of a Fréchet distance at small N lies above the distance it is meant to hold."""
    rng = np.random.default_rng(0)
    n, dim = 40, 8

    def distance(rows: np.ndarray[tuple[int], np.dtype[np.intp]], seed: int) -> float:
        sample = np.random.default_rng(seed).normal(size=(n, dim))
        return frechet(reference, sample[rows])

    reference = rng.normal(size=(300, dim)) + 0.3
    expected = np.mean([distance(np.arange(n), 1000 + i) for i in range(200)])
    hits = 0
    for seed in range(40):
        found = bootstrap(lambda rows, seed=seed: distance(rows, seed), n, repeats=100, seed=seed)  # type: ignore[misc]
        hits += interval(found).contains(float(expected))
    assert hits >= 34


def test_groups_are_drawn_whole() -> None:
    labels = np.array(["a", "b", "b", "c", "c", "c"])
    for rows in resamples(6, 50, 0, labels):
        counts = np.bincount(rows, minlength=6)
        assert counts[1] == counts[2]
        assert counts[3] == counts[4] == counts[5]
        assert counts[0] + counts[1] + counts[3] == 3


def test_groups_of_equal_rows_tell_no_more_than_one_row_each() -> None:
    values = np.random.default_rng(0).normal(size=30)
    alone = mean(values, repeats=2000)
    grouped = mean(np.repeat(values, 20), repeats=2000, groups=np.repeat(np.arange(30), 20))
    assert width(grouped) == pytest.approx(width(alone), rel=1e-9)
    assert width(mean(np.repeat(values, 20))) < 0.4 * width(alone)
    assert interval(grouped).method == "bootstrap, 2000 resamples of 30 groups"
    few = mean(values, groups=np.arange(30) % 3)
    assert "so few groups make it a rough one" in interval(few).method


def test_pairing_cancels_what_pairs_share() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(0, 10, 50)
    first, second = images + 0.5 + rng.normal(0, 0.1, 50), images + rng.normal(0, 0.1, 50)
    found = paired_difference(first, second)
    assert found.value == pytest.approx(0.5, abs=0.1)
    assert interval(found).excludes_zero
    assert not interval(mean(first)).excludes_zero
    assert not interval(paired_difference(first, first + rng.normal(0, 0.1, 50))).excludes_zero


def test_difference_of_two_statistics_of_the_same_rows() -> None:
    values = np.random.default_rng(0).exponential(1, 200)
    found = bootstrap_difference(
        lambda rows: float(values[rows].mean()), lambda rows: float(np.median(values[rows])), 200, repeats=200
    )
    assert found.value == pytest.approx(values.mean() - np.median(values))
    assert interval(found).excludes_zero


def test_ratio_of_means() -> None:
    top, bottom = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])
    found = ratio_of_means(top, bottom, repeats=100)
    assert found.value == 0.5
    assert width(found) == pytest.approx(0)
    with pytest.raises(InputError, match="denominator of the ratio is zero"):
        ratio_of_means(top, np.zeros(3))
    with pytest.raises(InputError, match="found 3 and 2"):
        ratio_of_means(top, np.ones(2))


def test_few_draws_give_a_normal_interval_that_says_so() -> None:
    draws = np.random.default_rng(0).normal(0, 2, 20)
    found = centred(10.0, draws, 0.95, "bootstrap")
    assert found.method == "bootstrap, normal"
    assert found.high - 10 == pytest.approx(1.96 * draws.std(ddof=1))
    with pytest.raises(InputError, match="level must be one of"):
        centred(10.0, draws, 0.7, "bootstrap")


def test_a_few_undefined_draws_are_left_out_and_told_and_many_refused() -> None:
    draws = np.random.default_rng(0).normal(0, 2, 200)
    draws[:20] = np.nan
    found = centred(10.0, draws, 0.95, "bootstrap")
    assert found.method == "bootstrap, 20 undefined ones left out"
    rest = centred(10.0, draws[20:], 0.95, "bootstrap")
    assert (found.low, found.high) == (rest.low, rest.high)
    draws[:21] = np.nan
    with pytest.raises(InputError, match="179 of 200 are"):
        centred(10.0, draws, 0.95, "bootstrap")


def test_ends_stay_within_the_range_that_the_quantity_has() -> None:
    draws = np.linspace(-5, 5, 200)
    found = centred(1.0, draws, 0.95, "bootstrap", bounds=(0, 2))
    assert (found.low, found.high) == (0, 2)
    assert centred(1.0, draws, 0.95, "bootstrap").low < -3


def test_one_seed_gives_one_interval() -> None:
    values = np.random.default_rng(0).normal(size=40)
    assert mean(values, seed=3) == mean(values, seed=3)
    assert mean(values, seed=3) != mean(values, seed=4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match="1 of 3 numbers are NaN or infinite"):
        mean(np.array([1.0, bad, 2.0]))
    with pytest.raises(InputError, match="finite number"):
        Estimate(bad, (3,))


def test_nothing_to_resample_is_refused() -> None:
    with pytest.raises(InputError, match="two independent rows, found 1"):
        mean(np.ones(1))
    with pytest.raises(InputError, match="two independent groups, found 1"):
        mean(np.ones(5), groups=np.zeros(5))
    with pytest.raises(InputError, match="5 rows need 5 group labels"):
        mean(np.ones(5), groups=np.zeros(4))
    with pytest.raises(InputError, match="list of numbers"):
        mean(np.ones((5, 2)))


def test_an_interval_holds_its_value_where_nearly_all_draws_are_alike() -> None:
    draws = np.zeros(1000)
    draws[:20] = 1.0  # fewer than one in forty: both quantiles are those of the others
    interval = centred(0.0, draws, 0.95, "bootstrap", bounds=(0, 1))
    assert interval.low <= 0.0 <= interval.high
