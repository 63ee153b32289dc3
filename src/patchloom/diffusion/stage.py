"""A sampler is a list of stages: each one call of the denoiser and a pointwise update of the state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

State: TypeAlias = tuple[Tensor, ...]
"""What a sampler carries from stage to stage: planes of the latents' shape, first the image that the next
stage's denoiser reads, then whatever the sampler keeps (a previous estimate, the image before a predictor)."""

Update: TypeAlias = Callable[[State, Tensor, Tensor | None], State]
"""(state, D, noise) -> state, pointwise in space: a latent of the answer depends on that latent alone."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One denoised estimate of the whole canvas and the update that follows it.

    The same list runs on one patch (`samplers.run`) and on a gigapixel (`loom`).
    """

    sigma: float  # the noise level at which the denoiser is asked
    update: Update
    planes: int  # planes of the state after the update
    noisy: bool  # whether the update reads noise; it is None where it does not
