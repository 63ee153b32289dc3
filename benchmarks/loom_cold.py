"""What a cold tile of 256 px deep inside a large canvas asks of the network, by meetings, without guidance.

    python benchmarks/loom_cold.py                             # 32 x 32 latents alone
    python benchmarks/loom_cold.py --pipeline he-foundation    # as `generate --only` makes it: pixels, so more latents

Pixels equal those of the whole image to the last bit, so the second decodes the whole image's tiles that the box lies
in, and makes all latents that those tiles see.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

import numpy as np
from loom_canvases import random_grid

from patchloom.geometry import Box
from patchloom.loom.figures import cone
from patchloom.loom.plan import Plan
from patchloom.pipelines.image_file import estimate
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pipelines.settings import Settings

CANVAS, TILES, SIDE = 4096, 30, 32  # latents
GRID_CANVAS, CELL_STRIDE = 1024, 32  # latents, for a real pipeline
Count = Callable[[int, int, int, Box], int]


def places(canvas: int) -> Iterator[Box]:
    """Tiles drawn over the inner half of a canvas, in latents."""
    for y, x in np.random.default_rng(0).integers(canvas // 4, 3 * canvas // 4, (TILES, 2)):
        yield Box(int(y), int(x), SIDE, SIDE)


def latents_alone(window: int, core: int, meetings: int, box: Box) -> int:
    """Windows in the cone of a box of latents."""
    lattices = Plan.of("halo", window, core).lattices((CANVAS, CANVAS), [1.0] * meetings)
    return sum(map(len, cone(lattices, box)))


def with_pixels(name: str) -> Count:
    """Evaluations that `generate --only` counts before it makes the box's pixels."""
    pipeline = load_pipeline(name)
    factor = pipeline.record.factor
    grid = random_grid(pipeline, GRID_CANVAS * factor, CELL_STRIDE * factor)

    def count(window: int, core: int, meetings: int, box: Box) -> int:
        settings = Settings(window=window, core=core, steps=meetings, guidance=1.0)
        return estimate(pipeline, grid, settings, only=box.times(factor)).network_evaluations

    return count


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", help="count what `generate --only` with this pipeline asks")
    asked = parser.parse_args()
    count, canvas = (with_pixels(asked.pipeline), GRID_CANVAS) if asked.pipeline else (latents_alone, CANVAS)
    sys.stdout.write("| window, core | meetings | mean | least | most |\n| --- | --- | --- | --- | --- |\n")
    for window, core in ((32, 24), (64, 48), (64, 56)):
        for meetings in (1, 2, 4, 8):
            found = [count(window, core, meetings, box) for box in places(canvas)]
            mean = sum(found) / len(found)
            sys.stdout.write(f"| {window}, {core} | {meetings} | {mean:.1f} | {min(found)} | {max(found)} |\n")


if __name__ == "__main__":
    main()
