"""What a cold tile of 256 px deep inside a large canvas asks of the network, by meetings, without guidance.

    python benchmarks/loom_cold.py                             # 32 x 32 latents alone
    python benchmarks/loom_cold.py --pipeline he-foundation    # as `generate --only` makes it: pixels, so more latents

How many windows depends on how the tile lies to the lattices, whose borders come again after a core, so every place in
a core is counted: the mean, and the least and the most with a place where that is so, in pixels down and right of a
multiple of the core. Tiles lie on whole latents; one that begins in between takes a latent more. The aim is 9 windows
at the last meeting, 25 at the one before, then 49, 81 ...: what the latents alone take with windows of 32 where they
lie worst. With a pipeline the places of the least and the most are counted once more by what `--dry-run` says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from loom_canvases import random_grid
from numpy.typing import NDArray

from patchloom.geometry import Box, Lattice, Window
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.figures import cone
from patchloom.loom.plan import Plan
from patchloom.pipelines.decoding import needed
from patchloom.pipelines.guidance import Guidance
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.request import Request
from patchloom.pipelines.settings import Settings, lattices_of

CANVAS, SIDE = 1024, 32  # latents: so far from the edges that they play no part
MEETINGS = (1, 2, 4, 8)
ENOUGH = {n: sum((2 * k + 1) ** 2 for k in range(1, n + 1)) for n in MEETINGS}  # 9, 34, 164: 3 windows a side, 5, 7 ...
SIZES = ((32, 24), (64, 48), (64, 56))


def windows_by_place(lattices: Sequence[Lattice], core: int, under: Callable[[Box], Box]) -> NDArray[np.int_]:
    """Windows in the cone of a tile at each place (down, right) in a core in the middle of the canvas.

    A cone is as many rows as columns of windows allow, and both follow from the place along their axis alone.
    """
    first = CANVAS // 2 // core * core
    total = np.zeros((core, core), int)
    cones = [cone(lattices, under(Box(first + k, first + k, SIDE, SIDE))) for k in range(core)]
    for number, lattice in enumerate(lattices):
        met = [extent(one[number], len(lattice.cols)) for one in cones]
        total += np.outer([rows for rows, _ in met], [cols for _, cols in met])
    return total


def extent(windows: Sequence[Window], width: int) -> tuple[int, int]:
    """Of how many rows and columns windows are."""
    return len({one.index // width for one in windows}), len({one.index % width for one in windows})


@dataclass(frozen=True, slots=True, eq=False)
class Real:
    """A pipeline and a grid for it, over the whole canvas."""

    pipeline: Pipeline
    grid: EmbeddingGrid

    def lattices(self, settings: Settings) -> list[Lattice]:
        """Of every meeting."""
        return lattices_of(self.pipeline, settings, (CANVAS, CANVAS))

    def under(self, settings: Settings) -> Callable[[Box], Box]:
        """What latents the pixels of a box of latents take."""
        factor = self.pipeline.record.factor
        return lambda box: needed(self.pipeline, settings, (CANVAS, CANVAS), box.times(factor))

    def said(self, settings: Settings, box: Box) -> int:
        """What `--dry-run` says that they cost."""
        only = box.times(self.pipeline.record.factor)
        return Request(self.pipeline, self.grid, settings, only=only).figures.network_evaluations


def row(window: int, core: int, meetings: int, real: Real | None) -> str:
    """A line of the table. Raises RuntimeError where `--dry-run` says something else."""
    settings = Settings(window=window, core=core, steps=meetings, guidance=Guidance(1.0))
    lattices = Plan.of("halo", window, core).lattices((CANVAS, CANVAS), [1.0] * meetings)
    under: Callable[[Box], Box] = _same
    if real is not None:
        lattices, under = real.lattices(settings), real.under(settings)
    found = windows_by_place(lattices, core, under)
    ends = [np.unravel_index(place, found.shape) for place in (found.argmin(), found.argmax())]
    first = CANVAS // 2 // core * core
    for y, x in ends:
        said = None if real is None else real.said(settings, Box(first + int(y), first + int(x), SIDE, SIDE))
        if said not in (None, found[y, x]):
            raise RuntimeError(f"{found[y, x]} windows were counted at {y}, {x}, but --dry-run says {said}")
    factor = 8 if real is None else real.pipeline.record.factor
    least, most = (f"{found[y, x]} ({int(y) * factor}, {int(x) * factor})" for y, x in ends)
    few = (found <= ENOUGH[meetings]).mean()
    return f"| {window}, {core} | {meetings} | {found.mean():.1f} | {least} | {most} | {few:.0%} |"


def _same(box: Box) -> Box:
    return box


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", help="count what `generate --only` with this pipeline asks")
    asked = parser.parse_args()
    real = None
    if asked.pipeline:
        pipeline = load_pipeline(asked.pipeline)
        real = Real(pipeline, random_grid(pipeline, CANVAS * pipeline.record.factor, SIDE * pipeline.record.factor))
    sys.stdout.write(
        "| window, core | meetings | mean | least, at | most, at | places within the aim |\n" + "| --- " * 6 + "|\n"
    )
    for window, core in SIZES:
        for meetings in MEETINGS:
            sys.stdout.write(row(window, core, meetings, real) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
