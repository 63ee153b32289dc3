"""Samplers against the exact flow and the exact law of Gaussian data."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from patchloom.diffusion.levels import Levels, karras, log_uniform
from patchloom.diffusion.samplers import (
    SAMPLERS,
    Sampler,
    ddim,
    ddpm,
    dpmpp_2m,
    dpmpp_2m_sde,
    euler,
    euler_ancestral,
    heun,
    plms,
    run,
    unipc,
)
from patchloom.diffusion.stage import Stage, State
from patchloom.errors import InputError
from patchloom.testing.gaussian import GaussianDenoiser, Means

MEAN, VARIANCE = 0.7, 0.3
DENOISER = GaussianDenoiser(VARIANCE)
every = pytest.mark.parametrize("name", sorted(SAMPLERS))


def start(sigma: float, count: int = 64, dtype: torch.dtype = torch.float64) -> Tensor:
    noise = torch.randn((1, 1, 1, count), generator=torch.Generator().manual_seed(5), dtype=dtype)
    return MEAN + math.sqrt(VARIANCE + sigma**2) * noise


def flow(x: Tensor, sigma: float, after: float) -> Tensor:
    """The probability flow of N(mean, variance) in closed form."""
    return MEAN + math.sqrt((VARIANCE + after**2) / (VARIANCE + sigma**2)) * (x - MEAN)


def error(sampler: Sampler, sigmas: Levels) -> float:
    x = start(sigmas[0])
    found = run(DENOISER, sampler(sigmas)[:-1], x, Means.of(MEAN))
    return float((found - flow(x, sigmas[0], sigmas[-1])).abs().max())


@pytest.mark.parametrize(
    ("sampler", "low", "high"),
    [
        (euler, 0.9, 1.15),
        (ddim, 0.9, 1.15),
        (heun, 1.85, 2.3),
        (dpmpp_2m, 1.85, 2.3),
        (unipc, 2.7, 3.3),
        (plms, 1.85, 2.3),  # its weights are those of even steps
    ],
)
def test_order_of_convergence(sampler: Sampler, low: float, high: float) -> None:
    steps = np.array([40, 80, 160])
    errors = [error(sampler, log_uniform(count + 1, 0.05, 20.0)) for count in steps]
    order = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert low < order < high, (order, errors)


def noises(seed: int, shape: tuple[int, ...]) -> Callable[[int], Tensor]:
    def noise_of(number: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed + number), dtype=torch.float64)

    return noise_of


def variance_after(stages: Sequence[Stage], sigma_max: float) -> float:
    """Exact variance of the final x for starts N(MEAN, VARIANCE + sigma_max²), by linearity.

    The updates themselves are driven, with a state that holds a coefficient for the start and for each stage's noise.
    """
    state: State = (torch.zeros(1 + len(stages), dtype=torch.float64),)
    state[0][0] = math.sqrt(VARIANCE + sigma_max**2)
    for number, stage in enumerate(stages):
        D = VARIANCE / (VARIANCE + stage.sigma**2) * state[0]
        unit = torch.zeros_like(D)
        unit[1 + number] = 1
        state = stage.update(state, D, unit if stage.noisy else None)
    return float(state[0].square().sum())


@pytest.mark.parametrize("sampler", [ddpm, euler_ancestral, dpmpp_2m_sde, partial(ddim, eta=0.5)])
def test_stochastic_samplers_converge_to_the_exact_variance(sampler: Sampler) -> None:
    wanted = VARIANCE + 0.05**2
    errors = []
    for count in (100, 400):
        variance = variance_after(sampler(log_uniform(count + 1, 0.05, 20.0))[:-1], 20.0)
        errors.append(abs(variance / wanted - 1))
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 3  # the error falls at least as 1 / steps, give or take


@pytest.mark.parametrize("sampler", [ddpm, dpmpp_2m_sde, partial(ddim, eta=0.5)])
def test_samples_have_the_exact_law_within_an_interval(sampler: Sampler) -> None:
    count, sigma_max = 40_000, 20.0
    sigmas = log_uniform(201, 0.02, sigma_max)
    x = MEAN + math.sqrt(VARIANCE + sigma_max**2) * noises(100, (1, 1, 200, 200))(0)
    found = run(DENOISER, sampler(sigmas), x, Means.of(MEAN), noises(1000, x.shape))
    predicted = variance_after(sampler(sigmas), sigma_max)
    half_width = 4 / math.sqrt(count)
    assert abs(float(found.mean()) - MEAN) < half_width * math.sqrt(VARIANCE)
    assert abs(float(found.var()) / predicted - 1) < half_width * math.sqrt(2)
    assert abs(float(found.var()) / VARIANCE - 1) < half_width * math.sqrt(2) + 0.02
    neighbours = float(((found[..., 1:] - MEAN) * (found[..., :-1] - MEAN)).mean())
    assert abs(neighbours) < half_width * VARIANCE  # independent latents stay independent


def test_ancestral_step_is_the_posterior_of_ddpm() -> None:
    """Ho et al. (2020), eq. 6 and 7, written in sigma: mean and variance of q(x' | x, x0 = D)."""
    sigma, after = 3.0, 1.2
    (stage, _) = ddpm([sigma, after])
    x, D, noise = (torch.tensor([value], dtype=torch.float64) for value in (2.0, 0.5, -1.3))
    share = after**2 / sigma**2
    expected = share * x + (1 - share) * D + after * math.sqrt(1 - share) * noise
    torch.testing.assert_close(stage.update((x,), D, noise)[0], expected)


@every
@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, 9))
def test_every_sampler_keeps_its_own_promises(name: str, count: int) -> None:
    sigmas = karras(count, 0.03, 30.0)
    stages = SAMPLERS[name](sigmas)
    assert {stage.sigma for stage in stages} == {float(sigma) for sigma in sigmas}
    x = start(sigmas[0], dtype=torch.float32)
    state: State = (x,)
    noise_of = noises(7, x.shape)
    for number, stage in enumerate(stages):
        D = DENOISER(state[0], torch.full((1,), stage.sigma), Means.of(MEAN))
        noise = noise_of(number).float() if stage.noisy else None
        whole = stage.update(state, D, noise)
        half = stage.update(
            tuple(plane[..., :20] for plane in state), D[..., :20], None if noise is None else noise[..., :20]
        )
        assert len(whole) == stage.planes
        assert all(torch.equal(a[..., :20], b) for a, b in zip(whole, half, strict=True))
        assert all(plane.dtype == torch.float32 for plane in whole)
        state = whole
    assert torch.equal(state[0], D)  # the jump to sigma 0 returns D bit for bit


@every
def test_known_data_is_returned_exactly(name: str) -> None:
    """Where D is the same constant at every level, every sampler ends on it."""

    def denoiser(x: Tensor, sigma: Tensor, condition: None) -> Tensor:
        return torch.full_like(x, 2.5)

    x = 80 * noises(1, (1, 2, 3, 4))(0)
    found = run(denoiser, SAMPLERS[name](karras(7)), x, None, noises(2, x.shape))
    assert torch.equal(found, torch.full_like(x, 2.5))


@every
def test_stages_travel_to_a_worker(name: str) -> None:
    stages = SAMPLERS[name](karras(5))
    x = start(80.0)
    found = run(DENOISER, pickle.loads(pickle.dumps(stages)), x, Means.of(MEAN), noises(3, x.shape))
    assert torch.equal(found, run(DENOISER, stages, x, Means.of(MEAN), noises(3, x.shape)))


def test_evaluations() -> None:
    counts = {name: len(sampler(karras(10))) for name, sampler in SAMPLERS.items()}
    assert counts.pop("heun") == 2 * 9 + 1
    assert counts.pop("plms") == 11
    assert set(counts.values()) == {10}


def test_bad_levels_and_options() -> None:
    for sigmas in ([], [1.0, 2.0], [1.0, 0.0], [math.inf, 1.0], [2.0, 2.0], [2.0, math.nan]):
        with pytest.raises(InputError, match="strictly decreasing"):
            ddim(sigmas)
    with pytest.raises(InputError, match="eta"):
        ddim([2.0, 1.0], eta=1.5)
    with pytest.raises(InputError, match="eta"):
        ddim([2.0, 1.0], eta=[0.1, 0.2])
    with pytest.raises(InputError, match="eta"):
        dpmpp_2m_sde([2.0, 1.0], eta=-1)
    with pytest.raises(InputError, match="pass noise_of"):
        run(DENOISER, ddpm([2.0, 1.0]), start(2.0), Means.of(MEAN))
