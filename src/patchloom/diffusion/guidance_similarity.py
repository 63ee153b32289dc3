"""Similarity guidance: D is moved so that its cells, decoded and embedded, come nearer to the grid's embeddings.

As the backward steps of universal guidance (Bansal et al. 2023): D is the variable, the gradient goes through decoder
and encoder alone, and the denoiser is asked no more often than without. A step sees cells that do not overlap, the next
one others. A cell moves the latents that it covers, by a length of its own: no statistic is of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from patchloom.diffusion.condition import Condition, GridCondition
from patchloom.diffusion.denoiser import Denoiser
from patchloom.diffusion.guidance import Interval
from patchloom.diffusion.guidance_cells import Sight, aims, climb
from patchloom.errors import InputError

K = TypeVar("K", bound=Condition)


@dataclass(frozen=True, slots=True)
class Pull:
    """How similarity guidance acts. Raises InputError for what makes no sense."""

    strength: float = (
        0.0  # root mean square of a step's move over a cell, of the spread that sigma leaves open; 0 is off
    )
    interval: Interval = (0.2, 5.0)  # noise levels (low, high): it acts where low < sigma <= high
    steps: int = 2  # at each of them

    def __post_init__(self) -> None:
        low, high = self.interval
        if not 0 <= self.strength < float("inf") or not 0 <= low < high or self.steps < 1:
            raise InputError(
                "similarity guidance has a strength of at least 0, noise levels (low, high) with low < high, and at "
                f"least 1 step, not {self.strength:g}, {self.interval} and {self.steps}"
            )

    def acts(self, sigma: float) -> bool:
        """Whether it acts at a noise level."""
        return self.strength > 0 and self.interval[0] < sigma <= self.interval[1]

    def length(self, sigma: float) -> float:
        """The root mean square of a step's move, for latents of deviation 1."""
        return self.strength * sigma / sqrt(1 + sigma**2)


@dataclass(frozen=True, slots=True)
class Aimed(Generic[K]):
    """What windows are told, and the cells that their pixels should look like."""

    told: K
    cells: GridCondition

    def __len__(self) -> int:
        return len(self.told)

    def null(self) -> Aimed[K]:
        """The same aims, with nothing told."""
        return Aimed(self.told.null(), self.cells)

    def join(self, other: Aimed[K]) -> Aimed[K]:
        """This batch followed by another."""
        return Aimed(self.told.join(other.told), self.cells.join(other.cells))

    def to(self, device: torch.device, dtype: torch.dtype) -> Aimed[K]:
        """The batch on a device; aims stay float32."""
        return Aimed(self.told.to(device, dtype), self.cells.to(device, torch.float32))


def resembling(denoiser: Denoiser[K], sight: Sight, pull: Pull, levels: Sequence[float]) -> Denoiser[Aimed[K]]:
    """`denoiser`, whose D is pulled towards its windows' cells.

    `levels` are the noise levels of all of a run's stages, in order: they say which cells have their turn. A step adds
    to D, over each of them, `pull.length(sigma)` times the gradient of cos(embed(decode(D)), cell), of deviation 1.
    Windows are moved one by one, so the bits of one do not depend on its batch.
    """
    acting = dict.fromkeys(_level(sigma) for sigma in levels if pull.acts(sigma))
    first = {level: number * pull.steps for number, level in enumerate(acting)}

    def moved(window: Tensor, level: float, place: int, cells: GridCondition) -> Tensor:
        shape = window.shape[2], window.shape[3]
        for turn in range(first[level], first[level] + pull.steps):
            before, window = window, window.clone()
            for block in aims(cells, place, shape, turn, sight):
                for part, slope in climb(before, block, sight):
                    window[:, :, part.y : part.stop_y, part.x : part.stop_x] += pull.length(level) * slope
        return window

    def pulled(x: Tensor, sigma: Tensor, condition: Aimed[K]) -> Tensor:
        D = denoiser(x, sigma, condition.told)
        levels = sigma.float().tolist()
        if first.keys().isdisjoint(levels):
            return D
        windows = enumerate(zip(D.chunk(len(D)), levels, strict=True))
        return torch.cat([moved(one, at, n, condition.cells) if at in first else one for n, (one, at) in windows])

    return pulled


def _level(sigma: float) -> float:
    return float(np.float32(sigma))
