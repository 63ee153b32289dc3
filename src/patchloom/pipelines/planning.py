"""What decides an image, in the loom's terms: the run that a pipeline, a grid and settings come to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from patchloom.diffusion.guidance_similarity import Pull
from patchloom.diffusion.official import start_deviation
from patchloom.errors import InputError
from patchloom.fields.field import Field
from patchloom.fields.views import Added, Scaled
from patchloom.geometry import Frame
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.denoise import Background
from patchloom.loom.run import Run
from patchloom.pipelines.conditioning import CellScene
from patchloom.pipelines.edit import Edit
from patchloom.pipelines.following import following
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.settings import Settings, denoiser_of, evaluations_of, plan_of, sized, stages_of
from patchloom.pipelines.similarity_guidance import towards


def plan_run(pipeline: Pipeline, grid: EmbeddingGrid, settings: Settings, edit: Edit | None = None) -> Run[Any]:
    """Everything that decides the image. Raises MismatchError for another pipeline's grid, InputError for settings."""
    pipeline.check(grid)
    frame, factor = canvas(pipeline, grid), pipeline.record.factor
    run = run_of(pipeline, pipeline.told.scene(grid), frame, replace(settings, similarity=Pull()))
    run = towards(run, pipeline, grid, settings)
    run = following(run, pipeline, settings)
    return run if edit is None else replace(run, kept=edit.kept(frame, factor, pipeline.digest))


def run_of(
    pipeline: Pipeline, scene: CellScene[Any], latents: Frame, settings: Settings, image: Field | None = None
) -> Run[Any]:
    """The same for a scene that is known to fit the pipeline, over a canvas of latents.

    `image` are the latents that a strength below 1 begins at, noised to where its steps begin: SDEdit, Meng et al.
    (2022). Raises InputError where it is asked for and there are none.
    """
    chosen = sized(pipeline, settings, (latents.height, latents.width))
    official = chosen.recipe == "official"
    flat = None if official else pipeline.background()
    run = Run(
        denoiser=denoiser_of(pipeline, chosen),
        stages=stages_of(pipeline, chosen),
        scene=scene.joined(chosen.joined, (latents.height, latents.width)),
        plan=plan_of(pipeline, chosen),
        latents=latents,
        seed=chosen.seed,
        batch=chosen.batch or 1,
        device=pipeline.device,
        background=None if flat is None else Background(flat, scene.covers),
        evaluations=evaluations_of(pipeline, chosen),
    )
    if chosen.strength < 1:
        return replace(run, start=_noised(run, image))
    if not official:
        return run
    return replace(run, start=Scaled(run.noise(run.seed, 0, latents), start_deviation(run.stages[0].sigma)))


def _noised(run: Run[Any], image: Field | None) -> Field:
    """An image at the level of the run's first stage."""
    if image is None:
        raise InputError("a strength below 1 begins at an image, and here is none: `patchloom vary` has originals")
    noise = run.noise(run.seed, 0, replace(run.latents, dtype="float32"))
    return Added(image, Scaled(noise, run.stages[0].sigma))


def canvas(pipeline: Pipeline, grid: EmbeddingGrid) -> Frame:
    """The grid's canvas in latents; what is left of a last, cut latent is dropped."""
    height, width = (side // pipeline.record.factor for side in grid.canvas)
    return Frame(height, width, pipeline.record.channels, "float32")
