"""The official code's recorded numbers (tiny models; shared/fixtures/ldm), as far as they go without its U-Net.

Official x is ours over sqrt(1 + sigma²).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchloom.diffusion.levels import (
    Levels,
    ddpm_betas,
    ddpm_spaced,
    ddpm_table,
    ddpm_timesteps,
    official_canvas,
)
from patchloom.diffusion.samplers import ddim, plms
from patchloom.diffusion.stage import State

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "ldm"
pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the recorded outputs (shared/fixtures/ldm) are not here")
models = pytest.mark.parametrize("model", ["tiny_patch", "tiny_ssl"])
Arrays = dict[str, NDArray[Any]]


def recorded(model: str, name: str) -> Arrays:
    with np.load(FIXTURES / model / "arrays" / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def ours(official: NDArray[Any], sigma: float) -> Tensor:
    return torch.from_numpy(official.astype(np.float64)) * float(np.sqrt(1 + sigma**2))


def close(found: Tensor, official: NDArray[Any], sigma: float) -> None:
    wanted = torch.from_numpy(official.astype(np.float64))
    assert float(wanted.std()) > 0
    error = (found / np.sqrt(1 + sigma**2) - wanted).abs().max() / wanted.std()
    assert float(error) < 5e-5


def test_the_table() -> None:
    arrays = recorded("tiny_patch", "schedule")
    np.testing.assert_allclose(ddpm_betas(), arrays["betas_float64"], rtol=1e-12)
    kept = 1 / (1 + ddpm_table() ** 2)
    np.testing.assert_allclose(np.sqrt(kept), arrays["buf_sqrt_alphas_cumprod"], rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(1 - kept), arrays["buf_sqrt_one_minus_alphas_cumprod"], rtol=1e-6)


@pytest.mark.parametrize("count", [5, 10, 20, 30, 50, 64, 100, 200, 250])
def test_spaced_timesteps(count: int) -> None:
    wanted = recorded("tiny_patch", "schedule")[f"ddim_timesteps_S{count}"]
    assert ddpm_timesteps(count)[::-1].tolist() == wanted.tolist()


@pytest.mark.parametrize("count", [10, 50])
def test_ddim_noise(count: int) -> None:
    """The deviation that a stage adds, in official units, against the official table for eta 1."""
    wanted = recorded("tiny_patch", "schedule")[f"ddim_S{count}_eta1_sigmas"][::-1]
    sigmas = ddpm_spaced(count)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    stages = ddim(sigmas, eta=1.0)[:-1]
    added = [stage.update((zero,), zero, one)[0].item() for stage in stages]
    np.testing.assert_allclose(np.array(added) / np.sqrt(1 + sigmas[1:] ** 2), wanted, rtol=3e-6)  # from float32


@models
def test_a_ddim_step_from_recorded_predictions(model: str) -> None:
    arrays = recorded(model, "ddim")
    number = 9 - int(arrays["step_index"])
    sigmas = ddpm_spaced(10)
    assert set(arrays["step_t"].tolist()) == {int(ddpm_timesteps(10)[number])}
    sigma, after = sigmas[number], sigmas[number + 1]
    eps = arrays["step_eps_uncond"] + 2 * (arrays["step_eps_cond"] - arrays["step_eps_uncond"])
    x = ours(arrays["step_x"], sigma)
    D = x - sigma * torch.from_numpy(eps.astype(np.float64))
    close(D, arrays["step_pred_x0"], 0.0)
    close(ddim(sigmas)[number].update((x,), D, None)[0], arrays["step_x_prev"], after)


def test_plms_first_step_from_the_recorded_ddim_run() -> None:
    """The two evaluations of PLMS's first step are DDIM's first two: same start, and DDIM's x at the second."""
    run = recorded("tiny_patch", "ddim")["ddim_S10_eta0_s2_x"]
    official = recorded("tiny_patch", "plms")["plms_S10_s2_x"]
    sigmas = ddpm_spaced(10)
    stages = plms(sigmas)
    first = stages[0].update((ours(run[0], sigmas[0]),), estimate(run, sigmas, 0), None)
    close(first[0], run[1], sigmas[1])
    second = stages[1].update(first, estimate(run, sigmas, 1), None)
    close(second[0], official[1], sigmas[1])


def estimate(run: NDArray[Any], sigmas: Levels, k: int) -> Tensor:
    """D at step k of a deterministic run, from the images before and after it."""
    x, after = ours(run[k], sigmas[k]), ours(run[k + 1], sigmas[k + 1])
    return x - float(sigmas[k] / (sigmas[k + 1] - sigmas[k])) * (after - x)


@models
def test_the_large_image_loop_from_its_recorded_estimates(model: str) -> None:
    """Every recorded canvas whose predecessor is recorded, with the loop's own noise; the last lands on x0."""
    arrays = recorded(model, "panorama")
    sigmas, etas = official_canvas(50)
    stages = ddim(sigmas, etas)
    kept = {int(k): x0 for k, x0 in zip(arrays["kept_index"], arrays["x0_kept"], strict=True)}
    after = {int(k): x for k, x in zip(arrays["x_after_index"], arrays["x_after_steps"], strict=True)}
    before = {0: arrays["x_init"][0], **{k + 1: x for k, x in after.items()}}
    checked = sorted(kept.keys() & before.keys())
    assert {0, 1} <= set(checked)
    noise_of = loop_noise(arrays["x_init"].shape)
    for k in checked:
        x0 = torch.from_numpy(kept[k].astype(np.float64))
        noise = noise_of(k) if stages[k].noisy else None
        state: State = stages[k].update((ours(before[k], sigmas[k]),), x0, noise)
        close(state[0], after[k], sigmas[k + 1] if k < 49 else 0.0)


def loop_noise(shape: tuple[int, ...]) -> Callable[[int], Tensor]:
    """Draw k of the fixtures' portable noise, after the two that make the first canvas."""
    generator = np.random.RandomState(1234)  # the recorded runs drew from it
    draws = [generator.standard_normal(shape).astype(np.float32)[0] for _ in range(51)]
    return lambda k: torch.from_numpy(draws[2 + k].astype(np.float64))
