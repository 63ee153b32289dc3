"""How strongly an image follows what it is told: what may be said of guidance, and the denoiser that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from patchloom.diffusion.condition import Condition
from patchloom.diffusion.denoiser import Denoiser
from patchloom.diffusion.guidance import Interval, autoguided, guided, thresholded
from patchloom.diffusion.guidance_pair import Both, told_apart
from patchloom.diffusion.guidance_sparse import Sparse
from patchloom.diffusion.stage import Stage
from patchloom.errors import InputError
from patchloom.loom.figures import guided_evaluations
from patchloom.pipelines.record import Defaults

K = TypeVar("K", bound=Condition)
L = TypeVar("L", bound=Condition)


@dataclass(frozen=True, slots=True)
class Guidance:
    """Guidance by the network without its condition, or by another pipeline. None stands for the pipeline's default.

    The methods are of settled values. Rescale and threshold look at one window at a time, with its halo; formulas are
    told at `diffusion.guidance`.
    """

    scale: float | None = None  # 1 is off
    interval: Interval | None = None  # noise levels (low, high): guidance acts where low < sigma <= high
    rescale: float | None = None  # share, 0 is off: how much of the deviation that guidance adds is taken back
    threshold: tuple[float, float] | None = None  # quantile and bound of dynamic thresholding; None is off
    null_every: int = 1  # steps from one at which the network is asked without its condition to the next

    def settled(self, own: Defaults, *, autoguided: bool = False) -> Guidance:
        """With a pipeline's defaults in the places left open. Raises InputError for what excludes one another.

        They are of its null branch: where another pipeline guides, the scale must be told.
        """
        if autoguided:
            self._check_autoguided()
            own = replace(own, guidance_interval=None, guidance_rescale=0.0)
        if self.null_every != 1 and self.threshold is not None:
            raise InputError(
                "dynamic thresholding looks at the guided estimate, which there is at every step only where the null "
                "branch is asked at every step; leave out --null-every, or --dynamic-threshold"
            )
        return replace(
            self,
            scale=own.guidance if self.scale is None else self.scale,
            interval=own.guidance_interval if self.interval is None else self.interval,
            rescale=own.guidance_rescale if self.rescale is None else self.rescale,
        )

    def denoiser(self, plain: Denoiser[K], stages: Sequence[Stage]) -> Denoiser[K]:
        """`plain` guided, for stages as `stages` gives them. Raises InputError for values that make no sense."""
        if self.null_every != 1:
            return self._sparse(stages).denoiser(plain)
        return self._limited(guided(plain, self._scale, interval=self.interval, rescale=self.rescale or 0.0))

    def autoguided(self, plain: Denoiser[K], worse: Denoiser[L]) -> Denoiser[Both[K, L]]:
        """`plain` guided by a worse denoiser. Raises InputError for values that make no sense."""
        own, other = told_apart(plain, worse)
        return self._limited(autoguided(own, other, self._scale, interval=self.interval, rescale=self.rescale or 0.0))

    def stages(self, stages: Sequence[Stage]) -> list[Stage]:
        """The stages of a sampler, which carry guidance from one to the next where the null branch is not asked."""
        return list(stages) if self.null_every == 1 else self._sparse(stages).stages(stages)

    def evaluations(self, stages: Sequence[Stage]) -> Callable[[float], int]:
        """What a window costs at a noise level."""
        if self.null_every == 1:
            return guided_evaluations(self._scale, self.interval)
        return self._sparse(stages).evaluations

    def _limited(self, denoiser: Denoiser[K]) -> Denoiser[K]:
        if self.threshold is None:
            return denoiser
        return thresholded(denoiser, quantile=self.threshold[0], bound=self.threshold[1])

    def _check_autoguided(self) -> None:
        if self.scale is None:
            raise InputError(
                "autoguidance has no scale of its own, and the pipeline's is of its null branch: give one, such as "
                "--guidance 2"
            )
        if self.null_every != 1:
            raise InputError(
                "autoguidance asks the other pipeline, and no null branch; leave out --null-every, or --autoguide"
            )

    @property
    def _scale(self) -> float:
        return 1.0 if self.scale is None else self.scale

    def _sparse(self, stages: Sequence[Stage]) -> Sparse:
        return Sparse.of(stages, self._scale, self.null_every, self.interval, rescale=self.rescale or 0.0)
