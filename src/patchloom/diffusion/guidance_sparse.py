"""Classifier-free guidance whose null branch is asked at some steps alone.

What guidance adds to D_cond changes slowly from one noise level to the next. Between two levels at which the null
branch is asked, what it added at the last one stands in: a plane that travels with the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from patchloom.diffusion.condition import Condition
from patchloom.diffusion.denoiser import Denoiser
from patchloom.diffusion.guidance import Interval, away, branches, check
from patchloom.diffusion.stage import Stage, State
from patchloom.errors import InputError

K = TypeVar("K", bound=Condition)


@dataclass(frozen=True, slots=True)
class Sparse:
    """At which noise levels guidance acts, and at which of them the null branch is asked. Both are float32 values."""

    scale: float
    asked: frozenset[float]
    acting: frozenset[float]
    rescale: float = 0.0

    @classmethod
    def of(
        cls,
        stages: Sequence[Stage],
        scale: float,
        every: int,
        interval: Interval | None = None,
        *,
        rescale: float = 0.0,
    ) -> Sparse:
        """Every `every`-th level of those inside the interval, from the first on. Raises InputError for every < 1."""
        check(scale, interval, rescale)
        if every < 1:
            raise InputError(f"the null branch is asked at every step, or every N-th: at least 1, not {every}")
        low, high = interval or (0.0, float("inf"))
        levels = dict.fromkeys(_level(stage.sigma) for stage in stages if low < stage.sigma <= high)
        acting = [] if scale == 1 else list(levels)
        return cls(scale, frozenset(acting[::every]), frozenset(acting), rescale)

    def evaluations(self, sigma: float) -> int:
        """What a window costs at a noise level: 2 where the null branch is asked, else 1."""
        return 2 if _level(sigma) in self.asked else 1

    def denoiser(self, denoiser: Denoiser[K]) -> Denoiser[K]:
        """D_cond; where the null branch is asked, followed by what guidance adds as further channels, for `stages`."""

        def answer(x: Tensor, sigma: Tensor, condition: K) -> Tensor:
            if float(sigma[0].float()) not in self.asked:
                return denoiser(x, sigma, condition)
            D, null = branches(denoiser, x, sigma, condition)
            return torch.cat([D, away(D, null, self.scale, self.rescale) - D], dim=1)

        return answer

    def stages(self, stages: Sequence[Stage]) -> list[Stage]:
        """The stages with guidance, each handing what was added on where the next one needs it."""
        takes = [_level(stage.sigma) in self.acting - self.asked for stage in stages]
        ends = [*pairwise(takes), (takes[-1], False)] if takes else []
        return [self._guided(stage, *end) for stage, end in zip(stages, ends, strict=True)]

    def _guided(self, stage: Stage, takes: bool, gives: bool) -> Stage:
        def update(state: State, D: Tensor, noise: Tensor | None) -> State:
            own = state[:-1] if takes else state
            plain, asked = D[:, : own[0].shape[1]], D[:, own[0].shape[1] :]
            if not takes and not asked.shape[1]:  # outside the interval, or of background or kept latents alone
                after = stage.update(own, plain, noise)
                return (*after, torch.zeros_like(plain)) if gives else after
            added = state[-1] if takes else asked
            after = stage.update(own, plain + added, noise)
            return (*after, added) if gives else after

        return replace(stage, update=update, planes=stage.planes + gives)


def _level(sigma: float) -> float:
    return float(np.float32(sigma))
