"""How to make an image: what may be told, the pipeline's defaults for the rest, and what follows from both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, lcm
from pathlib import Path
from typing import Any, Literal

from patchloom.diffusion.denoiser import Denoiser
from patchloom.diffusion.guidance_similarity import Pull
from patchloom.diffusion.levels import Levels, ddpm_uniform, karras
from patchloom.diffusion.official import SCALE, STEPS, off_by_one, official_stages
from patchloom.diffusion.samplers import SAMPLERS
from patchloom.diffusion.stage import Stage
from patchloom.errors import InputError
from patchloom.geometry import Lattice
from patchloom.loom.plan import Kind, Plan
from patchloom.loom.ring import Wrap
from patchloom.networks.unet import UNet
from patchloom.pipelines.conditioning import ByCellTokens
from patchloom.pipelines.guidance import Guidance
from patchloom.pipelines.kinds import Network
from patchloom.pipelines.pipeline import Pipeline

Norms = Literal["frozen", "exact", "own"]

BATCH_LATENTS = 16 * 64 * 64  # that a batch holds where its size is not told


@dataclass(frozen=True, slots=True)
class Settings:
    """How to make an image. None stands for the pipeline's own default.

    The official recipe makes an image as the code of the CVPR 2024 paper does, faults included, from an imported model
    of the paper; steps, guidance, window and core (the stride) may still be told.
    """

    seed: int = 0
    sampler: str | None = None
    steps: int | None = None
    guidance: Guidance = field(default_factory=Guidance)  # by the network without its condition
    similarity: Pull = field(default_factory=Pull)  # similarity guidance, in large images; off
    plan: Kind | None = None
    window: int | None = None  # latents
    core: int | None = None  # latents; the stride of `average`
    sync: int = 1
    batch: int | None = None  # windows at once
    recipe: Literal["official"] | None = None
    wrap: Literal["x", "y", "both"] | None = None  # which edges are joined: left and right, upper and lower
    norms: Norms | None = None  # what a foreign decoder's norms measure; None for decoders without any
    strength: float = 1.0  # share of the steps that are taken, the last ones; below 1 they begin at an image
    coarse: Path | None = None  # a picture that large images, downsampled, will show

    @property
    def joined(self) -> Wrap:
        """Whether the lower edge is joined to the upper one, and the right edge to the left one."""
        return self.wrap in ("y", "both"), self.wrap in ("x", "both")


def settled(pipeline: Pipeline, settings: Settings) -> Settings:
    """The settings with the pipeline's defaults in the places left open.

    Raises InputError for what does not go with the recipe that is asked for, and for a strength that is no share.
    """
    if not 0 < settings.strength <= 1:
        raise InputError(f"strength is a share of the steps, above 0 and at most 1, not {settings.strength}")
    if settings.recipe == "official":
        settings = _officially(settings, pipeline)
    own, plan = pipeline.record.defaults, settings.plan or "halo"
    window = settings.window or min(one.record.defaults.window for one in _asked(pipeline))
    usual = {"halo": own.core if window == own.window else window * 3 // 4, "shift": window, "average": window // 4}
    return replace(
        settings,
        sampler=settings.sampler or own.sampler,
        steps=settings.steps or own.steps,
        guidance=settings.guidance.settled(own, autoguided=pipeline.worse is not None),
        plan=plan,
        window=window,
        core=settings.core or usual[plan],
        norms=_norms(pipeline, settings),
    )


def sized(pipeline: Pipeline, settings: Settings, shape: tuple[int, int]) -> Settings:
    """Settled for a canvas (height, width) of latents: window, core and batch too.

    The pipeline's window is its largest. Of that and its halves, none smaller than a patch and all with the same halo,
    the one is taken that shows the network the fewest latents: a canvas that fits is one window, without neighbours.
    A window or a core that is told stays. A batch evens out what `BATCH_LATENTS` allows, since batches are filled up.
    """
    chosen = settled(pipeline, settings)
    if chosen.plan == "halo" and settings.window is None and settings.core is None:
        chosen = min(_halves(pipeline, chosen), key=lambda one: _latents(lattices_of(pipeline, one, shape)))
    if chosen.batch is not None:
        return chosen
    lattices = lattices_of(pipeline, chosen, shape)
    windows, area = max(map(len, lattices)), max(lattice.window(0).box.area for lattice in lattices)
    batches = ceil(windows / max(BATCH_LATENTS // area, 1))
    return replace(chosen, batch=ceil(windows / batches))


def _halves(pipeline: Pipeline, chosen: Settings) -> list[Settings]:
    window, core = chosen.window or 0, chosen.core or 0
    halo, found = window - core, [chosen]
    while (window := window // 2) >= max(pipeline.record.patch_px // pipeline.record.factor, 2 * halo):
        found.append(replace(chosen, window=window, core=window - halo))
    return found


def _latents(lattices: Sequence[Lattice]) -> int:
    """That the network is shown, over all meetings."""
    return sum(len(lattice) * lattice.window(0).box.area for lattice in lattices)


def lattices_of(pipeline: Pipeline, settings: Settings, shape: tuple[int, int]) -> list[Lattice]:
    """The lattice of every meeting on a canvas (height, width) of latents, by settled settings."""
    stages, plan = stages_of(pipeline, settings), plan_of(pipeline, settings)
    return plan.lattices(shape, [stages[number].sigma for number in range(0, len(stages), plan.sync)])


def _norms(pipeline: Pipeline, settings: Settings) -> Norms | None:
    if settings.recipe == "official" or pipeline.autoencoder.receptive_field is not None:
        return None
    return settings.norms or "frozen"


def _officially(settings: Settings, pipeline: Pipeline) -> Settings:
    if pipeline.worse is not None:
        raise InputError("the official recipe knows no autoguidance; leave out --autoguide, or leave the recipe out")
    if settings.sampler not in (None, "ddim") or settings.plan not in (None, "average"):
        raise InputError(
            "the official recipe is DDIM over averaged windows; leave out --sampler and --plan, or leave the recipe out"
        )
    if settings.wrap is not None:
        raise InputError("the official recipe makes images with edges; leave out --wrap, or leave the recipe out")
    if settings.norms is not None:
        raise InputError("the official recipe decodes each patch by itself; leave out --norms, or the recipe")
    if settings.strength != 1:
        raise InputError("the official recipe makes images from noise alone; leave out --strength, or the recipe")
    if settings.guidance.rescale or settings.guidance.threshold is not None:
        raise InputError("the official recipe guides by a scale alone; leave out rescale and threshold, or the recipe")
    scale = SCALE if settings.guidance.scale is None else settings.guidance.scale
    guidance = replace(settings.guidance, scale=scale, rescale=0.0)
    return replace(settings, sampler="ddim", plan="average", steps=settings.steps or STEPS, guidance=guidance)


def denoiser_of(pipeline: Pipeline, settings: Settings) -> Denoiser[Any]:
    """The guided denoiser of the settings. Raises InputError for similarity guidance, which needs a grid as well."""
    if settings.similarity.strength:
        raise InputError("similarity guidance follows the grid of a large image, and here is none; leave it out")
    chosen = settled(pipeline, settings)
    if pipeline.worse is not None:
        return chosen.guidance.autoguided(pipeline.denoiser, pipeline.worse.denoiser)
    own = off_by_one(pipeline.denoiser) if chosen.recipe == "official" else pipeline.denoiser
    return chosen.guidance.denoiser(own, _plain_stages(pipeline, chosen))


def stages_of(pipeline: Pipeline, settings: Settings) -> list[Stage]:
    """The stages of the settings, the pipeline's own where they leave them open."""
    chosen = settled(pipeline, settings)
    return chosen.guidance.stages(_plain_stages(pipeline, chosen))


def evaluations_of(pipeline: Pipeline, settings: Settings) -> Callable[[float], int]:
    """What a window costs at a noise level by the settings."""
    chosen = settled(pipeline, settings)
    return chosen.guidance.evaluations(_plain_stages(pipeline, chosen))


def _check_windows(pipeline: Pipeline, chosen: Settings, window: int) -> None:
    """Transformers know places in the windows that they were trained on, and in no others."""
    name, trained = pipeline.record.name, pipeline.record.patch_px // pipeline.record.factor
    if chosen.recipe == "official":
        raise InputError(f"the official recipe is of latent diffusion's models, and `{name}` is none; leave it out")
    if window != trained:
        raise InputError(
            f"`{name}` knows its way in windows of {trained} latents alone, those that it was trained on, not of "
            f"{window}; leave the window out"
        )


def _plain_stages(pipeline: Pipeline, chosen: Settings) -> list[Stage]:
    own = pipeline.record.defaults
    name, steps = chosen.sampler or "", chosen.steps or own.steps
    if chosen.recipe == "official":
        return official_stages(pipeline.denoiser.parametrisation.label, steps)
    if name not in SAMPLERS:
        raise InputError(f"there is no sampler `{name}`; there are {', '.join(SAMPLERS)}")
    taken = max(round(chosen.strength * steps), 1)
    return SAMPLERS[name](_levels(pipeline, steps)[-taken:])


def plan_of(pipeline: Pipeline, settings: Settings) -> Plan:
    """The plan of the settings, the pipeline's own where they leave it open."""
    chosen = settled(pipeline, settings)
    window = chosen.window or pipeline.record.defaults.window
    for asked in _asked(pipeline):
        if isinstance(asked.conditioning, ByCellTokens):
            _check_windows(asked, chosen, window)
    multiple = lcm(*(_multiple(asked.network) for asked in _asked(pipeline)))
    return Plan.of(chosen.plan or "halo", window, chosen.core, multiple=multiple, sync=chosen.sync, wrap=chosen.joined)


def _asked(pipeline: Pipeline) -> list[Pipeline]:
    """Whose networks see a window."""
    return [pipeline] if pipeline.worse is None else [pipeline, pipeline.worse]


def _multiple(network: Network) -> int:
    """Of how many latents the sides of a window must be; ours fill windows up."""
    return 1 if isinstance(network, UNet) else network.shape.multiple


def _levels(pipeline: Pipeline, steps: int) -> Levels:
    own, label = pipeline.record.defaults, pipeline.denoiser.parametrisation.label
    if own.levels == "karras":
        return karras(steps, own.sigma_min, own.sigma_max)
    return ddpm_uniform(steps, label.table)
