"""The exact denoisers against the posterior worked out by brute force, and under their own laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from patchloom.diffusion.denoiser import Denoiser
from patchloom.diffusion.parametrisation import Parametrisation, Preconditioned
from patchloom.testing.denoisers import ConditionLaws, DenoiserLaws
from patchloom.testing.gaussian import (
    Exponential,
    FieldDenoiser,
    GaussianDenoiser,
    Means,
    SquaredExponential,
    covariance,
    wiener,
    wiener_plane,
)


def means(count: int) -> Means:
    return Means.of(*(0.5 * k - 1 for k in range(count)))


class TestMeans(ConditionLaws[Means]):
    def condition(self, count: int) -> Means:
        return means(count)


class TestGaussianDenoiser(DenoiserLaws[Means]):
    def denoiser(self) -> Denoiser[Means]:
        return GaussianDenoiser(0.5, null_variance=2.0)

    def condition(self, count: int) -> Means:
        return means(count)


class TestFieldDenoiser(DenoiserLaws[Means]):
    channels, size = 2, (12, 9)

    def denoiser(self) -> Denoiser[Means]:
        return FieldDenoiser(Exponential(4.0), Exponential(6.0))

    def condition(self, count: int) -> Means:
        return means(count)


class TestPreconditioned(DenoiserLaws[Means]):
    def denoiser(self) -> Denoiser[Means]:
        def network(x: Tensor, label: Tensor, condition: Means) -> Tensor:
            return torch.tanh(x + label[:, None, None, None] + condition.values[:, None, None, None])

        return Preconditioned(network, Parametrisation("v"))

    def condition(self, count: int) -> Means:
        return means(count)


@pytest.mark.parametrize("fault", ["remembers", "mixes", "writes"])
def test_the_laws_catch_faults(fault: str) -> None:
    class Faulty(TestGaussianDenoiser):
        calls = 0

        def denoiser(self) -> Denoiser[Means]:
            def wrong(x: Tensor, sigma: Tensor, condition: Means) -> Tensor:
                Faulty.calls += fault == "remembers"
                if fault == "writes":
                    x *= 1.01
                shared = x.mean() if fault == "mixes" else 0.0
                return GaussianDenoiser(0.5)(x, sigma, condition) + Faulty.calls + shared

            return wrong

    case = Faulty()
    law = (
        "an_entry_does_not_depend_on_its_batch" if fault == "mixes" else "same_question_same_bits_and_inputs_untouched"
    )
    with pytest.raises(AssertionError):
        getattr(case, f"test_{law}")()


def test_gaussian_denoiser_by_quadrature() -> None:
    """E[x0 | x] from the integral over x0 itself."""
    sigma, mean, variance, seen = 0.9, -0.5, 0.3, 1.2
    x0 = np.linspace(-12, 12, 20_001)
    weight = np.exp(-((x0 - mean) ** 2) / (2 * variance) - (seen - x0) ** 2 / (2 * sigma**2))
    wanted = float((x0 * weight).sum() / weight.sum())
    x = torch.full((1, 1, 1, 1), seen, dtype=torch.float64)
    found = GaussianDenoiser(variance)(x, torch.tensor([sigma]), Means.of(mean))
    assert float(found) == pytest.approx(wanted, abs=1e-6)


def test_wiener_by_solving() -> None:
    kernel, sigma = Exponential(7.0), 0.6
    K = covariance(kernel, 10)
    np.testing.assert_allclose(wiener(kernel, 10, sigma), K @ np.linalg.inv(K + sigma**2 * np.eye(10)), atol=1e-12)


def test_field_denoiser_by_solving() -> None:
    ky, kx, sigma = Exponential(3.0), SquaredExponential(2.0), torch.tensor([0.3, 2.0], dtype=torch.float64)
    x = torch.randn((2, 1, 5, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    D = FieldDenoiser(ky, kx)(x, sigma, None)
    K = np.asarray(np.kron(covariance(ky, 5), covariance(kx, 6)), np.float64)
    for entry, level, answer in zip(x.numpy(), sigma.tolist(), D.numpy(), strict=True):
        W = K @ np.linalg.inv(K + level**2 * np.eye(30))
        np.testing.assert_allclose(answer.ravel(), W @ entry.ravel(), atol=1e-10)
        np.testing.assert_allclose(wiener_plane(ky, kx, (5, 6), level), W, atol=1e-10)
