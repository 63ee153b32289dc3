"""The official large-image method, to the letter, and what its mathematics says instead, for a model in memory.

`official_run` keeps the official loop's habits (`diffusion/official.py`), so that its published pictures can be made
again: windows of a patch at a stride of a quarter, all averaged at each of 50 steps, guidance 4.

`default_run` asks for the timestep that belongs to the noise, takes the table in float64, a solver of second order and
windows with a halo on a moving lattice.

A folder that `patchloom import` wrote runs either by `patchloom generate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.diffusion.guidance import guided
from patchloom.diffusion.levels import ddpm_uniform
from patchloom.diffusion.official import SCALE, STEPS, off_by_one, official_stages, start_deviation
from patchloom.diffusion.parametrisation import Preconditioned
from patchloom.diffusion.samplers import dpmpp_2m
from patchloom.diffusion.windows import Scene
from patchloom.fields.field import Field
from patchloom.fields.noise import Noise
from patchloom.fields.views import Scaled
from patchloom.geometry import Frame
from patchloom.importers.ldm_config import ModelSpec
from patchloom.loom.figures import guided_evaluations
from patchloom.loom.plan import Plan
from patchloom.loom.run import Run
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.ldm_unet import LatentUNet


class Model(Protocol):
    """A model of the official layout, whatever it is told by."""

    @property
    def spec(self) -> ModelSpec[Any]:
        """What its config says."""
        ...

    @property
    def network(self) -> LatentUNet:
        """What predicts the noise."""
        ...

    @property
    def autoencoder(self) -> FirstStage:
        """Pixels to latents and back."""
        ...

    @property
    def denoiser(self) -> Preconditioned[TokenCondition]:
        """Expected clean latents."""
        ...


@dataclass(frozen=True, slots=True)
class How:
    """What a run may be told; None stands for the recipe's own."""

    seed: int = 0
    steps: int | None = None
    scale: float | None = None  # of guidance; 1 is off
    window: int | None = None  # latents
    core: int | None = None  # latents; the stride of the official plan
    batch: int = 8


def official_run(
    model: Model,
    scene: Scene[TokenCondition],
    canvas: tuple[int, int],
    how: How | None = None,
    start: Field | None = None,
) -> Run[TokenCondition]:
    """The official loop over a canvas (height, width) in latents.

    It starts from noise of deviation sqrt(1 + sigma²): theirs is noise where a clean picture should be, noised.
    """
    how = how or How()
    stages = official_stages(model.spec.parametrisation.label, how.steps or STEPS)
    latents = _frame(model, canvas)
    window = how.window or patch(model)
    plan = Plan.of("average", window, how.core, multiple=model.network.shape.multiple)
    pure = Scaled(Noise(how.seed, 0, latents), start_deviation(stages[0].sigma))
    scale = SCALE if how.scale is None else how.scale
    return Run(
        denoiser=guided(off_by_one(model.denoiser), scale),
        stages=stages,
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
    model: Model, scene: Scene[TokenCondition], canvas: tuple[int, int], how: How | None = None
) -> Run[TokenCondition]:
    """What Patchloom does with the same weights: 2M in 20 steps and a moving halo, over the levels of the table."""
    how = how or How()
    label = model.spec.parametrisation.label
    scale = 2.0 if how.scale is None else how.scale
    return Run(
        denoiser=guided(model.denoiser, scale),
        stages=dpmpp_2m(ddpm_uniform(how.steps or 20, label.table)),
        scene=scene,
        plan=Plan.of("halo", how.window or patch(model), how.core, multiple=model.network.shape.multiple),
        latents=_frame(model, canvas),
        seed=how.seed,
        batch=how.batch,
        device=_device(model),
        evaluations=guided_evaluations(scale),
    )


def patch(model: Model) -> int:
    """Side in latents of the windows that the model was trained on."""
    return model.spec.patch_px // model.autoencoder.factor


def _frame(model: Model, canvas: tuple[int, int]) -> Frame:
    return Frame(*canvas, model.spec.unet.channels, "float32")


def _device(model: Model) -> torch.device:
    return model.network.enter.weight.device
