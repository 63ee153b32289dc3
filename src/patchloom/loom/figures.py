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
    evaluations_per_block: float  # of windows of whatever size
    evaluations_per_latent: float  # how often the network sees one, halos included: compares windows of all sizes


def one_evaluation(sigma: float) -> int:
    """What a window costs at a noise level without guidance."""
    return 1


def no_gradient(sigma: float) -> int:
    """How many gradients guidance climbs in a window at a noise level, where it climbs none."""
    return 0


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
    canvas: Box,
    factor: int,
) -> Figures:
    """Figures of the windows of each meeting, where a window of meeting k costs `costs[k]` evaluations or none.

    `canvas` is what is made, in latents of `factor` px.
    """
    asked = [[window.box.area for window in some if not idle(window)] for some in windows]
    number = sum(map(len, asked))
    evaluations = sum(len(areas) * cost for areas, cost in zip(asked, costs, strict=True))
    latents = sum(sum(areas) * cost for areas, cost in zip(asked, costs, strict=True))
    return Figures(
        (canvas.height * factor, canvas.width * factor),
        number,
        sum(map(len, windows)) - number,
        evaluations,
        evaluations * BLOCK_PX**2 / (canvas.area * factor**2),
        latents / canvas.area,
    )
