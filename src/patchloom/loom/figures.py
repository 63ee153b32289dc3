"""What a run will cost, counted before it starts: exact, and the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from patchloom.diffusion.guidance import Interval
from patchloom.fields.cores import meeting
from patchloom.geometry import Box, Lattice, Window

BLOCK_PX = 256


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of `--dry-run`. A block is 256 x 256 px of output."""

    canvas_px: tuple[int, int]  # height, width
    windows: int  # that a network is asked about, over all meetings
    background_windows: int  # that are background, or kept, and cost nothing
    network_evaluations: int  # of one window, whatever the batch
    evaluations_per_block: float


def one_evaluation(sigma: float) -> int:
    """What a window costs at a noise level without guidance."""
    return 1


def guided_evaluations(scale: float, interval: Interval | None = None) -> Callable[[float], int]:
    """What a window costs at a noise level under `guidance.guided`: 2 inside the interval, 1 outside and at scale 1."""

    def evaluations(sigma: float) -> int:
        acts = interval is None or interval[0] < sigma <= interval[1]
        return 2 if acts and scale != 1 else 1

    return evaluations


def cone(lattices: Sequence[Lattice], *of: Box) -> list[list[Window]]:
    """The windows that boxes of the last field depend on, for each lattice of a chain."""
    found: list[list[Window]] = []
    boxes = list(of)
    for lattice in reversed(lattices):
        found.append([lattice.window(int(index)) for index in np.flatnonzero(meeting(lattice, boxes))])
        boxes = [window.box for window in found[-1]]
    return found[::-1]


def count(
    windows: Sequence[Sequence[Window]],
    costs: Sequence[int],
    idle: Callable[[Window], bool],
    canvas_px: tuple[int, int],
) -> Figures:
    """Figures of the windows of each meeting, where a window of meeting k costs `costs[k]` evaluations or none."""
    everything = sum(len(some) for some in windows)
    asked = [sum(not idle(window) for window in some) for some in windows]
    evaluations = sum(number * cost for number, cost in zip(asked, costs, strict=True))
    blocks = canvas_px[0] * canvas_px[1] / BLOCK_PX**2
    return Figures(canvas_px, sum(asked), everything - sum(asked), evaluations, evaluations / blocks)
