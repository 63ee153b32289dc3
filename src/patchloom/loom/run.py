"""A run: everything that decides the latents of a canvas, and the chain of fields that leads from noise to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

import torch

from patchloom.diffusion.condition import Condition
from patchloom.diffusion.denoiser import Denoiser
from patchloom.diffusion.stage import Stage
from patchloom.diffusion.windows import Scene
from patchloom.errors import GeometryError, InputError
from patchloom.fields.field import Field
from patchloom.fields.noise import Noise
from patchloom.fields.stores import Store
from patchloom.fields.views import Scaled
from patchloom.fields.weave import Crew, Weave, alone, weave
from patchloom.geometry import Box, Frame, Lattice, Period
from patchloom.loom.denoise import Background, Denoise, NoiseOf, is_idle
from patchloom.loom.figures import Figures, cone, count, no_gradient, one_evaluation
from patchloom.loom.keep import Kept, Noised
from patchloom.loom.plan import Plan
from patchloom.loom.ring import periods

C = TypeVar("C", bound=Condition)
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Run(Generic[C]):
    """Everything that decides what the latents will be. Two runs with equal parts make equal bytes.

    The promise holds for the same weights, kind of device and build; the batch size counts among the parts.
    Raises InputError where there is no stage, or where what it starts from or keeps is not of the run's frame.
    """

    denoiser: Denoiser[C]
    stages: Sequence[Stage]
    scene: Scene[C]
    plan: Plan
    latents: Frame  # extent and channels of the canvas in latents
    seed: int
    batch: int = 8
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - a value, though torch does not say so
    dtype: torch.dtype = torch.float32
    background: Background | None = None
    evaluations: Callable[[float], int] = one_evaluation  # that the denoiser makes for a window at a noise level
    gradients: Callable[[float], int] = no_gradient  # that its guidance climbs there, which takes time too
    start: Field | None = None  # an image at the noise level of the first stage; pure noise where there is none
    kept: Kept | None = None  # an earlier canvas of which a region alone is made anew
    noise: NoiseOf = Noise  # by place; others where recorded draws are to be repeated

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError("a run needs at least one stage")
        if self.batch < 1:
            raise InputError(f"a batch holds at least one window, not {self.batch}")
        kept = None if self.kept is None else self.kept.latents
        for what, given in (("starts from", self.start), ("keeps", kept)):
            if given is not None and _extent(given.frame) != _extent(self.latents):
                raise GeometryError(f"the run {what} {given.frame}, but its canvas is {self.latents}")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the canvas in latents."""
        return self.latents.height, self.latents.width

    @property
    def period(self) -> Period:
        """After how many latents the canvas begins anew."""
        return periods(self.shape, self.plan.wrap)

    @property
    def meetings(self) -> list[Sequence[Stage]]:
        """The stages that a window runs alone between two meetings with its neighbours."""
        sync = self.plan.sync
        return [self.stages[first : first + sync] for first in range(0, len(self.stages), sync)]

    @property
    def lattices(self) -> list[Lattice]:
        """The lattice of each meeting."""
        return self.plan.lattices(self.shape, [stages[0].sigma for stages in self.meetings])


def figures(run: Run[C], factor: int, region: Box | None = None, also: Sequence[Box] = ()) -> Figures:
    """What the run costs, without running it; with `region` (in latents), what that region alone costs.

    `also` are latents that are read beside the region.
    """
    costs = [sum(run.evaluations(stage.sigma) for stage in stages) for stages in run.meetings]
    box = region or run.latents.box
    idle = partial(is_idle, background=run.background, kept=run.kept, period=run.period)
    return count(cone(run.lattices, box, *also), costs, idle, box, factor)


def chain(run: Run[C], store: Store, progress: Progress | None = None, crew: Crew = alone) -> list[Weave]:
    """The fields of the run, one a meeting, each woven from the one before; nothing is evaluated yet."""
    below: Field = first_field(run)
    fields: list[Weave] = []
    for lattice, (key, work) in zip(run.lattices, works(run).items(), strict=True):
        fields.append(weave(below, lattice, work, store, key, crew=crew, report=progress))
        below = fields[-1]
    return fields


def works(run: Run[C]) -> dict[str, Denoise[C]]:
    """What is done at each meeting, by the key of the meeting's field."""
    return {
        f"meeting-{number:04d}": Denoise(
            run.denoiser,
            stages,
            first=number * run.plan.sync,
            scene=run.scene,
            latents=run.latents,
            seed=run.seed,
            batch=run.batch,
            device=run.device,
            dtype=run.dtype,
            background=run.background,
            kept=run.kept,
            planes=run.stages[number * run.plan.sync - 1].planes if number else 1,
            noise=run.noise,
            period=run.period,
        )
        for number, stages in enumerate(run.meetings)
    }


def first_field(run: Run[C]) -> Field:
    """What the first meeting's windows see: noise of the first stage's level, over what is kept where something is."""
    if run.start is not None:
        return run.start
    noise = Scaled(run.noise(run.seed, 0, replace(run.latents, dtype="float32")), run.stages[0].sigma)
    return noise if run.kept is None else Noised(noise, run.kept)


def _extent(frame: Frame) -> tuple[int, int, int]:
    return frame.height, frame.width, frame.channels
