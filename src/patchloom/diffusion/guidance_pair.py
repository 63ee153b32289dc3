"""Two denoisers beside one another, each told in its own way: what autoguidance by another network needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from patchloom.diffusion.condition import Condition
from patchloom.diffusion.denoiser import Denoiser

K = TypeVar("K", bound=Condition)
L = TypeVar("L", bound=Condition)


@dataclass(frozen=True, slots=True)
class Both(Generic[K, L]):
    """What a denoiser is told about a batch, and what a worse one is."""

    own: K
    worse: L

    def __len__(self) -> int:
        return len(self.own)

    def null(self) -> Both[K, L]:
        """Nothing said to either."""
        return Both(self.own.null(), self.worse.null())

    def join(self, other: Both[K, L]) -> Both[K, L]:
        """This batch followed by another."""
        return Both(self.own.join(other.own), self.worse.join(other.worse))

    def to(self, device: torch.device, dtype: torch.dtype) -> Both[K, L]:
        """The batch on a device, its floating values in a dtype."""
        return Both(self.own.to(device, dtype), self.worse.to(device, dtype))


def told_apart(own: Denoiser[K], worse: Denoiser[L]) -> tuple[Denoiser[Both[K, L]], Denoiser[Both[K, L]]]:
    """The same two denoisers, each of which takes its part of what both are told."""

    def first(x: Tensor, sigma: Tensor, condition: Both[K, L]) -> Tensor:
        return own(x, sigma, condition.own)

    def second(x: Tensor, sigma: Tensor, condition: Both[K, L]) -> Tensor:
        return worse(x, sigma, condition.worse)

    return first, second
