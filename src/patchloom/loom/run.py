"""A run: everything that decides the latents of a canvas, and the chain of fields that leads from noise to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from patchloom.fields.weave import Weave, weave
from patchloom.geometry import Box, Frame, Lattice
from patchloom.loom.denoise import Background, Denoise
from patchloom.loom.figures import Figures, cone, count, one_evaluation
from patchloom.loom.plan import Plan

C = TypeVar("C", bound=Condition)
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Run(Generic[C]):
    """Everything that decides what the latents will be. Two runs with equal parts make equal bytes.

    The promise holds for the same weights, kind of device and build; the batch size counts among the parts.
    Raises InputError where there is no stage, or where the starting field is not of the run's frame.
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
    start: Field | None = None  # an image at the noise level of the first stage; pure noise where there is none

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError("a run needs at least one stage")
        if self.batch < 1:
            raise InputError(f"a batch holds at least one window, not {self.batch}")
        given = self.start.frame if self.start is not None else self.latents
        if (given.height, given.width, given.channels) != (*self.shape, self.latents.channels):
            raise GeometryError(f"the run starts from {given}, but its canvas is {self.latents}")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the canvas in latents."""
        return self.latents.height, self.latents.width

    @property
    def meetings(self) -> list[Sequence[Stage]]:
        """The stages that a window runs alone between two meetings with its neighbours."""
        sync = self.plan.sync
        return [self.stages[first : first + sync] for first in range(0, len(self.stages), sync)]

    @property
    def lattices(self) -> list[Lattice]:
        """The lattice of each meeting."""
        return self.plan.lattices(self.shape, [stages[0].sigma for stages in self.meetings])


def figures(run: Run[C], factor: int, region: Box | None = None) -> Figures:
    """What the run costs, without running it; with `region` (in latents), what that region alone costs."""
    costs = [sum(run.evaluations(stage.sigma) for stage in stages) for stages in run.meetings]
    box = region or run.latents.box
    return count(cone(run.lattices, box), costs, run.background, (box.height * factor, box.width * factor))


def chain(run: Run[C], store: Store, progress: Progress | None = None) -> list[Weave]:
    """The fields of the run, one a meeting, each woven from the one before; nothing is evaluated yet."""
    below: Field = run.start or Scaled(Noise(run.seed, 0, replace(run.latents, dtype="float32")), run.stages[0].sigma)
    fields: list[Weave] = []
    for number, (stages, lattice) in enumerate(zip(run.meetings, run.lattices, strict=True)):
        work = Denoise(
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
            report=progress,
        )
        fields.append(weave(below, lattice, work, store, f"meeting-{number:04d}"))
        below = fields[-1]
    return fields
