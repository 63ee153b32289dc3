"""What verbs that make pictures share: how pictures are drawn from noise, and the pipeline that draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from patchloom.cli import options
from patchloom.cli.output import note
from patchloom.errors import InputError

if TYPE_CHECKING:  # torch
    from patchloom.pipelines.pipeline import Pipeline
    from patchloom.pipelines.settings import Settings

Two = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Drawing:
    """How pictures are drawn; None is the pipeline's own way."""

    seed: int
    steps: int | None
    sampler: str | None
    guidance: float | None
    guidance_interval: Two | None
    guidance_rescale: float | None
    dynamic_threshold: Two | None
    null_every: int
    autoguide: str | None

    def settings(self) -> Settings:
        """What the pipeline is told."""
        from patchloom.pipelines.guidance import Guidance
        from patchloom.pipelines.settings import Settings

        guidance = Guidance(
            self.guidance, self.guidance_interval, self.guidance_rescale, self.dynamic_threshold, self.null_every
        )
        return Settings(self.seed, self.sampler, self.steps, guidance)

    def pipeline(self, name: str, device: str, dtype: str) -> Pipeline:
        """The pipeline that draws, loaded, with the one that guides it."""
        return load(name, device, dtype, self.autoguide)


def load(name: str, device: str, dtype: str, autoguide: str | None = None) -> Pipeline:
    """Load a pipeline where the machine runs it best; what cannot be checked about its grids is said on stderr."""
    from patchloom.machine import choose_device, choose_dtype
    from patchloom.pipelines.autoguidance import load_guided

    place = choose_device(device)
    loaded = load_guided(name, autoguide, place, choose_dtype(dtype, place))
    note(loaded.doubts)
    return loaded


def _two(text: str) -> Two:
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"`{text}` is not two numbers with a comma between them, as in 0.2,5") from None
    return first, second


drawing = options.gathered(
    Drawing,
    "drawing",
    options.seed,
    click.option("--steps", type=options.Whole(1), help="Denoising steps; default: the pipeline's."),
    click.option("--sampler", metavar="NAME", help="Such as dpmpp-2m, ddim, heun; default: the pipeline's."),
    click.option(
        "--guidance", type=float, metavar="SCALE", help="Classifier-free guidance, 1 is off; default: the pipeline's."
    ),
    click.option(
        "--guidance-interval",
        metavar="LOW,HIGH",
        callback=options.parsed(_two),
        help="Guide where the noise level lies between these two alone, as in 0.2,5; default: the pipeline's.",
    ),
    click.option(
        "--guidance-rescale",
        metavar="SHARE",
        type=options.Number(0, 1),
        help="Take back this share of the contrast that guidance adds, 0 is none; default: the pipeline's.",
    ),
    click.option(
        "--dynamic-threshold",
        metavar="QUANTILE,BOUND",
        callback=options.parsed(_two),
        help="Shrink estimates whose quantile of absolute latents exceeds the bound, as in 0.995,3; default: off.",
    ),
    click.option(
        "--null-every",
        metavar="N",
        type=options.Whole(1),
        default=1,
        show_default=True,
        help="With guidance: ask the network without its condition at every N-th step alone, and guide alike in "
        "between.",
    ),
    click.option(
        "--autoguide",
        metavar="NAME|FOLDER",
        help="With --guidance SCALE: guide away from this pipeline, a worse one of the same autoencoder, in place of "
        "the network without its condition.",
    ),
)
