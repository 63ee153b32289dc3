"""The official large-image method, to the letter, and what its mathematics says instead.

`official_run` keeps the official loop's habits, so that its published pictures can be made again:

- the network is asked for timestep + 1, of which the last was never trained;
- the noise added after a step has the variance of a single step of the beta table, though the jump is twenty;
- the table is a running product in float32;
- windows of a patch at a stride of a quarter, all averaged at each of 50 steps, guidance 4 (theirs is 1 + 3).

`default_run` asks for the timestep that belongs to the noise, takes the table in float64, a solver of second order and
windows with a halo on a moving lattice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from patchloom.diffusion.guidance import guided
from patchloom.diffusion.levels import Levels, ddpm_betas, ddpm_table, ddpm_uniform, official_canvas
from patchloom.diffusion.parametrisation import NoiseLabel, Preconditioned
from patchloom.diffusion.samplers import ddim, dpmpp_2m
from patchloom.fields.field import Field
from patchloom.fields.noise import Noise
from patchloom.fields.views import Scaled
from patchloom.geometry import Frame
from patchloom.importers.latent_diffusion import LatentDiffusion
from patchloom.loom.figures import guided_evaluations
from patchloom.loom.plan import Plan
from patchloom.loom.run import Run
from patchloom.loom.slerp import SlerpScene
from patchloom.networks.ldm_tokens import TokenCondition

STEPS, SCALE = 50, 4.0


@dataclass(frozen=True, slots=True)
class How:
    """What a run may be told; None stands for the recipe's own."""

    seed: int = 0
    steps: int | None = None
    scale: float | None = None  # of guidance; 1 is off
    window: int | None = None  # latents
    core: int | None = None  # latents; the stride of the official plan
    batch: int = 8


def float32_table(label: NoiseLabel) -> Levels:
    """Sigma at each timestep from a running product in float32, as the official loop keeps it."""
    betas = ddpm_betas(label.steps, label.beta_first, label.beta_last).astype(np.float32)
    kept = np.cumprod(1 - betas, dtype=np.float32).astype(np.float64)
    return np.asarray(np.sqrt((1 - kept) / kept), np.float64)


def off_by_one(model: LatentDiffusion) -> Preconditioned[TokenCondition]:
    """The denoiser that asks the network for the timestep after the one that belongs to the noise."""
    own = model.spec.parametrisation
    return Preconditioned(model.network, replace(own, label=replace(own.label, offset=1.0)))


def official_run(
    model: LatentDiffusion,
    scene: SlerpScene,
    canvas: tuple[int, int],
    how: How | None = None,
    start: Field | None = None,
) -> Run[TokenCondition]:
    """The official loop over a canvas (height, width) in latents.

    It starts from noise of deviation sqrt(1 + sigma²): theirs is noise where a clean picture should be, noised.
    """
    how = how or How()
    sigmas, etas = official_canvas(how.steps or STEPS, float32_table(model.spec.parametrisation.label))
    latents = _frame(model, canvas)
    window = how.window or patch(model)
    plan = Plan.of("average", window, how.core, multiple=model.network.shape.multiple)
    pure = Scaled(Noise(how.seed, 0, latents), float(np.sqrt(1 + sigmas[0] ** 2)))
    scale = SCALE if how.scale is None else how.scale
    return Run(
        denoiser=guided(off_by_one(model), scale),
        stages=ddim(sigmas, etas),
        scene=scene,
        plan=plan,
        latents=latents,
        seed=how.seed,
        batch=how.batch,
        device=_device(model),
        evaluations=guided_evaluations(scale),
        start=start or pure,
    )


def default_run(
    model: LatentDiffusion, scene: SlerpScene, canvas: tuple[int, int], how: How | None = None
) -> Run[TokenCondition]:
    """What Patchloom does with the same weights: 2M in 20 steps and a moving halo, over the levels of the table."""
    how = how or How()
    label = model.spec.parametrisation.label
    table = ddpm_table(label.steps, label.beta_first, label.beta_last)
    scale = 2.0 if how.scale is None else how.scale
    return Run(
        denoiser=guided(model.denoiser, scale),
        stages=dpmpp_2m(ddpm_uniform(how.steps or 20, table)),
        scene=scene,
        plan=Plan.of("halo", how.window or patch(model), how.core, multiple=model.network.shape.multiple),
        latents=_frame(model, canvas),
        seed=how.seed,
        batch=how.batch,
        device=_device(model),
        evaluations=guided_evaluations(scale),
    )


def patch(model: LatentDiffusion) -> int:
    """Side in latents of the windows that the model was trained on."""
    return model.spec.patch_px // model.autoencoder.factor


def _frame(model: LatentDiffusion, canvas: tuple[int, int]) -> Frame:
    return Frame(*canvas, model.spec.unet.channels, "float32")


def _device(model: LatentDiffusion) -> torch.device:
    return model.network.enter.weight.device
