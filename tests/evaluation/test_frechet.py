from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.frechet import (
    every_axis,
    frechet,
    frechet_along,
    frechet_extrapolated,
    frechet_of_gaussians,
    frechet_warnings,
    principal_axes,
)

Array = NDArray[np.float64]


def gaussian(n: int, dim: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal(shift, scale, (n, dim))


def whitened(n: int, dim: int, seed: int) -> Array:
    """Rows whose sample mean is exactly 0 and whose sample covariance is exactly the identity."""
    rows = gaussian(n, dim, seed)
    rows -= rows.mean(axis=0)
    return np.asarray(rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows.T))).T)


def rotation(dim: int, seed: int) -> Array:
    return np.asarray(np.linalg.qr(gaussian(dim, dim, seed))[0])


def test_matches_the_formula_for_commuting_covariances() -> None:
    deviations, others = np.array([1.0, 2.0, 0.5, 3.0]), np.array([2.0, 1.0, 0.5, 0.1])
    shift = np.array([1.0, -2.0, 0.0, 0.5])
    turn = rotation(4, 3)
    real = whitened(60, 4, 0) * deviations @ turn
    synthetic = (whitened(80, 4, 1) * others + shift) @ turn
    expected = (shift**2).sum() + ((deviations - others) ** 2).sum()
    assert frechet(real, synthetic) == pytest.approx(expected, rel=1e-9)


def test_matches_the_root_of_the_product_of_two_general_covariances() -> None:
    """The textbook way: the eigenvalues of the non-symmetric product A B."""
    real, synthetic = gaussian(200, 12, 0) @ gaussian(12, 12, 5), gaussian(150, 12, 1) @ gaussian(12, 12, 6) + 0.3
    a, b = np.cov(real.T), np.cov(synthetic.T)
    shift = real.mean(0) - synthetic.mean(0)
    root = np.sqrt(np.linalg.eigvals(a @ b).real).sum()
    expected = shift @ shift + np.trace(a) + np.trace(b) - 2 * root
    assert frechet(real, synthetic) == pytest.approx(expected, rel=1e-9)
    assert frechet_of_gaussians(real.mean(0), a, synthetic.mean(0), b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(30, 20), (21, 100), (100, 15)])
def test_few_images_and_many_agree(n: int, m: int) -> None:
    """Below as many images as dimensions another route is taken; both must say the same."""
    real, synthetic = gaussian(n, 40, 0), gaussian(m, 40, 1, scale=1.5)
    a, b = np.cov(real.T), np.cov(synthetic.T)
    assert frechet(real, synthetic) == pytest.approx(
        frechet_of_gaussians(real.mean(0), a, synthetic.mean(0), b), rel=1e-6
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dim=st.integers(1, 8), n=st.integers(3, 30), m=st.integers(3, 30))
def test_rotation_order_and_side_change_nothing(seed: int, dim: int, n: int, m: int) -> None:
    real, synthetic = gaussian(n, dim, seed), gaussian(m, dim, seed + 1, scale=2.0, shift=0.5)
    value = frechet(real, synthetic)
    turn = rotation(dim, seed + 2)
    order = np.random.default_rng(seed).permutation(n)
    assert frechet(real @ turn, synthetic @ turn) == pytest.approx(value, rel=1e-6, abs=1e-9)
    assert frechet(real[order], synthetic) == pytest.approx(value, rel=1e-6, abs=1e-9)
    assert frechet(synthetic, real) == pytest.approx(value, rel=1e-6, abs=1e-9)
    assert frechet(real, real[order]) == pytest.approx(0, abs=1e-6)
    assert value >= 0


def test_units_are_squared() -> None:
    real, synthetic = gaussian(50, 5, 0), gaussian(50, 5, 1, shift=1.0)
    assert frechet(3 * real, 3 * synthetic) == pytest.approx(9 * frechet(real, synthetic))


def test_principal_axes_are_the_training_sets() -> None:
    spread = np.array([5.0, 3.0, 1.0, 0.1])
    training = whitened(400, 4, 0) * spread + 7
    axes = principal_axes(training, 2)
    assert np.abs(axes.vectors) == pytest.approx(np.eye(4)[:, :2], abs=1e-6)
    assert axes.shares == pytest.approx(spread[:2] ** 2 / (spread**2).sum())
    assert axes.first(1).k == 1
    assert "first 2 principal axes (97% of variance) of 400 training features" in str(axes)


@pytest.mark.parametrize("n", [12, 60])
def test_axes_are_those_of_the_covariance_with_fewer_rows_than_dimensions_too(n: int) -> None:
    training = gaussian(n, 20, 0) * np.linspace(3, 1, 20)
    axes = every_axis(training)
    energy, vectors = np.linalg.eigh(np.cov(training.T))
    assert axes.k == min(n - 1, 20)
    assert np.abs(axes.vectors.T @ vectors[:, ::-1][:, : axes.k]) == pytest.approx(np.eye(axes.k), abs=1e-6)
    assert axes.shares == pytest.approx(energy[::-1][: axes.k] / energy.sum())


def test_distance_along_all_axes_is_the_whole_distance() -> None:
    training, real, synthetic = (gaussian(120, 6, seed) for seed in range(3))
    axes = principal_axes(training, 6)
    assert frechet_along(axes, real, synthetic) == pytest.approx(frechet(real, synthetic), rel=1e-9)


def test_axes_show_a_halved_variance_that_the_full_dimension_hides() -> None:
    """The reason for them: with 200 images of 600 dimensions bias swallows a variance halved in all directions."""
    spread = 1 / np.sqrt(np.arange(1, 601))
    training, real, other = (gaussian(n, 600, seed) * spread for n, seed in ((1500, 0), (200, 1), (200, 2)))
    poor = gaussian(200, 600, 3) * spread * np.sqrt(0.5)
    axes = principal_axes(training, 20)
    full = frechet(real, poor) / frechet(real, other)
    along = frechet_along(axes, real, poor) / frechet_along(axes, real, other)
    assert full < 1.3
    assert along > 2


def test_too_many_axes_for_the_images_are_refused() -> None:
    axes = principal_axes(gaussian(100, 8, 0), 5)
    with pytest.raises(InputError, match="5 principal axes need 50 images a side, found 49; take at most 4"):
        frechet_along(axes, gaussian(60, 8, 1), gaussian(49, 8, 2))


@pytest.mark.parametrize("k", [0, 9, 100])
def test_axes_that_the_training_set_does_not_have_are_refused(k: int) -> None:
    with pytest.raises(InputError, match="principal axes were asked"):
        principal_axes(gaussian(100, 8, 0), k)


def test_a_flat_training_set_has_no_axes() -> None:
    with pytest.raises(InputError, match="fewer than 2 directions"):
        principal_axes(np.outer(np.arange(10.0), np.ones(4)), 2)


def test_extrapolation_comes_nearer_to_the_truth_than_any_finite_n() -> None:
    dim, scale = 10, 1.4
    truth = dim * (scale - 1) ** 2
    found = frechet_extrapolated(gaussian(600, dim, 0), gaussian(600, dim, 1, scale=scale), repeats=8)
    assert found.slope > 0
    assert found.sizes[-1] == 600
    assert abs(found.value - truth) < abs(found.distances[0] - truth)
    with pytest.raises(InputError, match="needs 40 images a side, found 30"):
        frechet_extrapolated(gaussian(30, dim, 0), gaussian(600, dim, 1))


@pytest.mark.parametrize(("n", "word"), [(64, "singular"), (65, "biased upward"), (639, "biased upward")])
def test_few_images_are_warned_of(n: int, word: str) -> None:
    assert word in frechet_warnings(n, 64)[0]
    assert frechet_warnings(640, 64) == ()


def broken(where: tuple[int, int], value: float) -> Array:
    rows = gaussian(20, 4, 0)
    rows[where] = value
    return rows


@pytest.mark.parametrize(
    ("real", "message"),
    [
        (broken((7, 2), np.nan), "1 of 20 rows hold NaN or infinity, the first is row 7"),
        (broken((0, 0), np.inf), "row 0"),
        (gaussian(1, 4, 0), "1 images are too few"),
        (np.zeros(4), "expected a matrix"),
        (np.zeros((4, 0)), "expected a matrix"),
    ],
)
def test_unusable_features_are_refused(real: NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        frechet(real, gaussian(20, 4, 1))


def test_unequal_dimensions_are_refused() -> None:
    with pytest.raises(MismatchError, match="4 dimensions, synthetic ones 5"):
        frechet(gaussian(20, 4, 0), gaussian(20, 5, 0))
    with pytest.raises(MismatchError, match="do not belong together"):
        frechet_of_gaussians(np.zeros(3), np.eye(3), np.zeros(4), np.eye(4))
    with pytest.raises(InputError, match="NaN"):
        frechet_of_gaussians(np.zeros(2), np.eye(2) * np.nan, np.zeros(2), np.eye(2))
    with pytest.raises(MismatchError, match="axes are of 4-d features"):
        principal_axes(gaussian(50, 4, 0), 2).project(gaussian(5, 3, 0))
