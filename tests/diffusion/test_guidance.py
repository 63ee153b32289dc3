"""Guidance: off is off, nothing is asked in vain, and gradients give the exact posterior of Gaussian data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from patchloom.diffusion.guidance import autoguided, classified, guided, similarity, steered, thresholded
from patchloom.diffusion.levels import log_uniform
from patchloom.diffusion.samplers import dpmpp_2m, run
from patchloom.errors import InputError
from patchloom.testing.gaussian import GaussianDenoiser, Means

DENOISER = GaussianDenoiser(variance=0.4, null_variance=2.0)
CONDITION = Means.of(1.0, -2.0)


class Counting:
    """The exact denoiser, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[bool]] = []

    def __call__(self, x: Tensor, sigma: Tensor, condition: Means) -> Tensor:
        self.asked.append(condition.dropped.tolist())
        return DENOISER(x, sigma, condition)


def images(seed: int = 0, count: int = 2) -> Tensor:
    return torch.randn((count, 3, 8, 6), generator=torch.Generator().manual_seed(seed))


def level(*sigma: float) -> Tensor:
    return torch.tensor(sigma)


@pytest.mark.parametrize(
    "off",
    [
        lambda d: guided(d, 1.0, interval=(0.1, 2.0), rescale=0.7),
        lambda d: autoguided(d, d, 1.0),
        lambda d: steered(d, lambda D, _: D.sum((1, 2, 3)), 0.0),
        lambda d: classified(d, lambda x, s, _: x.sum((1, 2, 3)), 0.0),
    ],
)
def test_off_is_the_denoiser_itself(off: Callable[[Counting], object]) -> None:
    denoiser = Counting()
    assert off(denoiser) is denoiser


def test_classifier_free_formula_in_one_batch() -> None:
    denoiser, x, sigma = Counting(), images(), level(0.5, 3.0)
    found = guided(denoiser, 3.0)(x, sigma, CONDITION)
    D, null = DENOISER(x, sigma, CONDITION), DENOISER(x, sigma, CONDITION.null())
    torch.testing.assert_close(found, null + 3 * (D - null))
    assert denoiser.asked == [[False, False, True, True]]
    torch.testing.assert_close(guided(DENOISER, 0.0)(x, sigma, CONDITION), null)


def test_outside_the_interval_the_null_is_not_asked() -> None:
    denoiser, x = Counting(), images()
    acting = guided(denoiser, 3.0, interval=(0.3, 2.0))
    assert torch.equal(acting(x, level(0.3, 5.0), CONDITION), DENOISER(x, level(0.3, 5.0), CONDITION))
    assert denoiser.asked == [[False, False]]
    mixed = acting(x, level(2.0, 2.1), CONDITION)
    assert torch.equal(mixed[1], DENOISER(x, level(2.0, 2.1), CONDITION)[1])
    torch.testing.assert_close(mixed[0], guided(DENOISER, 3.0)(x, level(2.0, 2.1), CONDITION)[0])


def test_guided_flow_of_equal_variances_moves_the_mean_alone() -> None:
    """With one variance, guided D is the exact denoiser of N(scale * mean, variance): sample and see."""
    denoiser = GaussianDenoiser(0.4, null_variance=0.4)
    sigmas = log_uniform(60, 0.01, 40.0)
    x = 40 * images(1)
    found = run(guided(denoiser, 2.5), dpmpp_2m(sigmas), x, CONDITION)
    wanted = run(denoiser, dpmpp_2m(sigmas), x, Means.of(2.5, -5.0))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_rescale_restores_each_window_s_deviation_and_keeps_its_colours() -> None:
    x, sigma = 2 * images(), level(1.0, 1.0)
    plain = DENOISER(x, sigma, CONDITION)
    wild = guided(DENOISER, 6.0)(x, sigma, CONDITION)
    full = guided(DENOISER, 6.0, rescale=1.0)(x, sigma, CONDITION)
    half = guided(DENOISER, 6.0, rescale=0.5)(x, sigma, CONDITION)
    means = wild.mean((2, 3), keepdim=True)
    assert (means - plain.mean((2, 3), keepdim=True)).abs().max() > 0.1
    torch.testing.assert_close(full.mean((2, 3), keepdim=True), means)
    centred = plain - plain.mean((2, 3), keepdim=True)
    torch.testing.assert_close((full - means).flatten(1).std(1), centred.flatten(1).std(1))
    torch.testing.assert_close(half, (full + wild) / 2)
    alone = guided(DENOISER, 6.0, rescale=1.0)(x[:1], sigma[:1], Means.of(1.0))
    torch.testing.assert_close(alone[0], full[0])  # no other window has a say


def test_what_lies_far_away_has_no_say_in_the_rescale() -> None:
    x, sigma = torch.randn(1, 3, 8, 96, generator=torch.Generator().manual_seed(0)), level(1.0)
    other = torch.cat([x[..., :48], 9 + 5 * x[..., 48:]], dim=-1)
    one, two = (guided(DENOISER, 6.0, rescale=1.0)(each, sigma, Means.of(1.0)) for each in (x, other))
    assert torch.equal(one[..., :16], two[..., :16])
    assert not torch.equal(one[..., 40:48], two[..., 40:48])


def test_thresholding_limits_windows_one_by_one() -> None:
    D = torch.stack([torch.linspace(-2, 2, 48).reshape(3, 4, 4), torch.linspace(-9, 9, 48).reshape(3, 4, 4)])
    limited = thresholded(lambda x, sigma, condition: x, quantile=0.9, bound=3.0)(D, level(1, 1), None)
    assert torch.equal(limited[0], D[0])
    assert float(limited[1].abs().max()) == pytest.approx(3.0)
    reach = float(torch.quantile(D[1].abs(), 0.9))
    inner = D[1].abs() < reach
    torch.testing.assert_close(limited[1][inner], D[1][inner] * 3 / reach)


def test_autoguidance_extrapolates_from_the_worse_model() -> None:
    x, sigma, worse = images(), level(0.5, 3.0), GaussianDenoiser(1.5)
    good, bad = DENOISER(x, sigma, CONDITION), worse(x, sigma, CONDITION)
    torch.testing.assert_close(autoguided(DENOISER, worse, 2.0)(x, sigma, CONDITION), 2 * good - bad)
    part = autoguided(DENOISER, worse, 2.0, interval=(1.0, 4.0))(x, sigma, CONDITION)
    assert torch.equal(part[0], good[0])
    torch.testing.assert_close(part[1], (2 * good - bad)[1])


OBSERVED, SPREAD = 0.8, 0.25


def posterior_mean(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x0 | x, y] of x0 ~ N(mean, v) seen twice: x = x0 + sigma n, y = x0 + sqrt(SPREAD) n'."""
    s2, v = (sigma**2)[:, None, None, None], DENOISER.variance
    mean = CONDITION.values[:, None, None, None]
    return (mean / v + x / s2 + OBSERVED / SPREAD) / (1 / v + 1 / s2 + 1 / SPREAD)


def left_open(sigma: Tensor) -> Tensor:
    """The variance of x0 that x leaves open."""
    return (DENOISER.variance * sigma**2 / (DENOISER.variance + sigma**2))[:, None, None, None]


def test_classifier_gradient_gives_the_exact_posterior() -> None:
    x, sigma = images(), level(0.5, 3.0)

    def log_likelihood(noisy: Tensor, s: Tensor, condition: Means) -> Tensor:
        D = DENOISER(noisy, s, condition)
        return -((OBSERVED - D) ** 2 / (2 * (SPREAD + left_open(s)))).sum((1, 2, 3))

    found = classified(DENOISER, log_likelihood, 1.0)(x, sigma, CONDITION)
    torch.testing.assert_close(found, posterior_mean(x, sigma))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_score_of_the_estimate_through_the_denoiser_is_exact_too(mode: Callable[[], torch.no_grad]) -> None:
    sigma = level(0.5, 3.0)

    def score(D: Tensor, condition: Means) -> Tensor:
        return -((OBSERVED - D) ** 2 / (2 * (SPREAD + left_open(sigma)))).sum((1, 2, 3))

    x = images()
    with mode():  # what a loop makes on its way is an inference tensor
        found = steered(DENOISER, score, 1.0, through=True)(x.clone(), sigma.clone(), CONDITION)
    torch.testing.assert_close(found, posterior_mean(x, sigma))


def test_score_at_the_estimate_is_exact_for_unit_data() -> None:
    denoiser, x, sigma = GaussianDenoiser(1.0), images(), level(0.5, 3.0)
    spread = (sigma**2 / (1 + sigma**2))[:, None, None, None]

    def score(D: Tensor, condition: Means) -> Tensor:
        return -((OBSERVED - D) ** 2 / (2 * (SPREAD + spread))).sum((1, 2, 3))

    found = steered(denoiser, score, 1.0)(x, sigma, CONDITION)
    exact = steered(denoiser, score, 1.0, through=True)(x, sigma, CONDITION)
    torch.testing.assert_close(found, exact)


def test_steering_by_similarity_raises_similarity() -> None:
    towards = torch.tensor([[1.0, 0.0, 0.5], [0.0, -1.0, 0.0]])
    score = similarity(lambda D: D.mean((2, 3)), lambda condition: towards)
    x, sigma = images(), level(1.0, 1.0)
    before = score(DENOISER(x, sigma, CONDITION), CONDITION)
    after = score(steered(DENOISER, score, 5.0)(x, sigma, CONDITION), CONDITION)
    assert (after > before).all()


def test_bad_options() -> None:
    with pytest.raises(InputError, match="interval"):
        guided(DENOISER, 2.0, interval=(2.0, 1.0))
    with pytest.raises(InputError, match="rescale"):
        guided(DENOISER, 2.0, rescale=1.5)
    with pytest.raises(InputError, match="quantile"):
        thresholded(DENOISER, quantile=0.0)
