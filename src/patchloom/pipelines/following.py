"""An image that follows a coarser picture of itself: a pipeline's run, held to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from patchloom.diffusion.measured import measured
from patchloom.errors import InputError, MismatchError
from patchloom.fields.views import around
from patchloom.loom.measured import MeasuredScene
from patchloom.loom.ring import periods
from patchloom.loom.run import Run
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.settings import Settings
from patchloom.rasters.opening import open_raster


def following(run: Run[Any], pipeline: Pipeline, settings: Settings) -> Run[Any]:
    """The run whose image, downsampled, is the picture of `settings.coarse`; the run itself where there is none.

    Raises MismatchError for a picture that is no whole number of times smaller than the image, InputError for settings
    that exclude it, and what `open_raster` raises.
    """
    if settings.coarse is None:
        return run
    _check(settings)
    factor, path = pipeline.record.factor, settings.coarse
    picture = open_raster(path)
    height, width = (side * factor for side in run.shape)
    smaller = height // picture.frame.height
    if smaller < 1 or (picture.frame.height * smaller, picture.frame.width * smaller) != (height, width):
        raise MismatchError(
            f"`{path}` is {picture.frame.width} x {picture.frame.height} px, and the image will be {width} x {height} "
            f"(width x height): it must be a whole number of times smaller, such as {width // 4} x {height // 4}"
        )
    coarse = around(picture, periods((picture.frame.height, picture.frame.width), settings.joined))
    scene = MeasuredScene(run.scene, coarse, run.shape, smaller, per_latent=factor)
    return replace(run, denoiser=measured(run.denoiser, through=pipeline.autoencoder), scene=scene)


def _check(settings: Settings) -> None:
    if settings.recipe == "official":
        raise InputError("the official recipe follows no coarser picture; leave out --coarse, or leave the recipe out")
    if settings.guidance.null_every != 1:
        raise InputError("a coarser picture is followed at every step; leave out --null-every, or --coarse")
