"""Each sampler against diffusers' scheduler of the same method, step by step, on one small non-linear denoiser.

diffusers keeps x in DDPM's scale (ours over sqrt(1 + sigma²)), or in ours for its Euler and Heun; the levels are one
table's. Runs where diffusers is installed, and is skipped where it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from patchloom.diffusion.levels import Levels, ddpm_table
from patchloom.diffusion.samplers import (
    Sampler,
    ddim,
    ddpm,
    dpmpp_2m,
    dpmpp_2m_sde,
    euler,
    euler_ancestral,
    heun,
    plms,
    unipc,
)
from patchloom.diffusion.stage import State

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, from numpy
diffusers: Any = pytest.importorskip("diffusers")

TABLE = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195}
STEPS = 10


def denoiser(x: Tensor, sigma: float) -> Tensor:
    """Smooth, non-linear, and no schedule's friend."""
    return 0.8 * torch.tanh(x / (1 + sigma)) + 0.1 * torch.sin(x / (1 + sigma))


@dataclass(frozen=True)
class Case:
    """One scheduler, our sampler of the same method, and what a step of the scheduler is."""

    name: str
    options: dict[str, Any]
    sampler: Sampler
    shrunk: bool  # whether x is kept in DDPM's scale
    spacing: str = "linspace"
    lands: bool = True  # whether its last jump returns D


CASES = {
    "ddim": Case("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True}, ddim, True, "trailing"),
    "ddpm": Case("DDPMScheduler", {"clip_sample": False}, ddpm, True),
    "euler": Case("EulerDiscreteScheduler", {}, euler, False),
    "euler-ancestral": Case("EulerAncestralDiscreteScheduler", {}, euler_ancestral, False),
    "heun": Case("HeunDiscreteScheduler", {}, heun, False),
    "dpmpp-2m": Case("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}, dpmpp_2m, True),
    "dpmpp-2m-sde": Case("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, dpmpp_2m_sde, True),
    "unipc": Case("UniPCMultistepScheduler", {"solver_order": 2, "solver_type": "bh2"}, unipc, True),
    "plms": Case("PNDMScheduler", {"skip_prk_steps": True}, plms, True, "leading", lands=False),
}


def levels_of(scheduler: Any) -> Levels:
    """The levels that a scheduler walks, without repeats and without its zero."""
    table = ddpm_table()
    times = np.array([float(t) for t in scheduler.timesteps])
    sigmas = np.exp(np.interp(times, np.arange(1000), np.log(table)))
    return np.asarray(sorted(set(sigmas), reverse=True), np.float64)


@pytest.mark.parametrize("key", sorted(CASES))
def test_step_by_step(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[key]
    scheduler = getattr(diffusers, case.name)(**TABLE, **case.options, timestep_spacing=case.spacing)
    scheduler.set_timesteps(STEPS)
    sigmas = levels_of(scheduler)
    stages = case.sampler(sigmas)
    assert len(stages) == len(scheduler.timesteps)
    noise_of = drawn((1, 2, 4, 4))
    patch_noise(monkeypatch, scheduler, noise_of)

    theirs = sigmas[0] * noise_of(-1)
    state: State = (theirs,)
    if case.shrunk:
        theirs = theirs / np.sqrt(1 + sigmas[0] ** 2)
    for number, (stage, time) in enumerate(zip(stages, scheduler.timesteps, strict=True)):
        if number + 1 == len(stages) and not case.lands:
            break
        scale = float(np.sqrt(1 + stage.sigma**2)) if case.shrunk else 1.0
        D = denoiser(theirs * scale, stage.sigma)
        eps = (theirs * scale - D) / stage.sigma
        theirs = scheduler.step(eps, time, theirs).prev_sample
        state = stage.update(state, denoiser(state[0], stage.sigma), noise_of(number) if stage.noisy else None)
        after = stages[number + 1].sigma if number + 1 < len(stages) else 0.0
        wanted = theirs * (float(np.sqrt(1 + after**2)) if case.shrunk else 1.0)
        error = float((state[0] - wanted).abs().max() / wanted.std())
        assert error < 2e-5, (number, error)


def drawn(shape: tuple[int, ...]) -> Callable[[int], Tensor]:
    def noise_of(number: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(50 + number), dtype=torch.float64)

    return noise_of


def patch_noise(monkeypatch: pytest.MonkeyPatch, scheduler: Any, noise_of: Callable[[int], Tensor]) -> None:
    """Let the scheduler draw stage k's noise at its k-th draw."""
    module = __import__(type(scheduler).__module__, fromlist=["randn_tensor"])
    if hasattr(module, "randn_tensor"):
        numbers = iter(range(10_000))
        monkeypatch.setattr(module, "randn_tensor", lambda *args, **kwargs: noise_of(next(numbers)))
