"""The habits of the official large-image loop (Graikos et al. 2024), kept so that its pictures can be made again.

- The network is asked for timestep + 1, of which the last was never trained.
- The noise added after a step has the variance of a single step of the beta table, though the jump is twenty.
- The table is a running product in float32.
- The loop starts from noise where a clean picture should be, noised: its deviation is sqrt(1 + sigma²).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from patchloom.diffusion.levels import Levels, ddpm_betas, official_canvas
from patchloom.diffusion.parametrisation import NoiseLabel, Preconditioned
from patchloom.diffusion.samplers import ddim
from patchloom.diffusion.stage import Stage
from patchloom.errors import InputError

C = TypeVar("C")
STEPS, SCALE = 50, 4.0
"""Steps, and the scale of guidance, which is written as 1 + 3 there."""


def float32_table(label: NoiseLabel) -> Levels:
    """Sigma at each timestep from a running product in float32, as the official loop keeps it.

    Raises InputError for a network that was told its noise level by no table of betas.
    """
    if label.kind != "ddpm":
        raise InputError(
            "the official recipe runs over a table of betas, but this network was told its noise level otherwise "
            f"(`{label.kind}`); leave the recipe out"
        )
    betas = ddpm_betas(label.steps, label.beta_first, label.beta_last, label.spacing).astype(np.float32)
    kept = np.cumprod(1 - betas, dtype=np.float32).astype(np.float64)
    return np.asarray(np.sqrt((1 - kept) / kept), np.float64)


def official_stages(label: NoiseLabel, steps: int = STEPS) -> list[Stage]:
    """The stages of the loop, first-order and noisy."""
    sigmas, etas = official_canvas(steps, float32_table(label))
    return ddim(sigmas, etas)


def off_by_one(denoiser: Preconditioned[C]) -> Preconditioned[C]:
    """The denoiser that asks its network for the timestep after the one that belongs to the noise."""
    own = denoiser.parametrisation
    return Preconditioned(denoiser.network, replace(own, label=replace(own.label, offset=1.0)))


def start_deviation(sigma: float) -> float:
    """The deviation of what the loop starts from, where the first stage's noise has sigma."""
    return float(np.sqrt(1 + sigma**2))
