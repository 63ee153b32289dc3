"""What a cold tile of 32 x 32 latents (256 px) deep inside a large canvas asks of the network, by meetings.

python benchmarks/loom_cold.py
"""

from __future__ import annotations

import sys

import numpy as np

from patchloom.geometry import Box
from patchloom.loom.figures import cone
from patchloom.loom.plan import Plan

CANVAS, TILES = 4096, 30


def evaluations(window: int, core: int, meetings: int) -> list[int]:
    """Windows in the cone of each of some tiles drawn over the canvas."""
    lattices = Plan.of("halo", window, core).lattices((CANVAS, CANVAS), [1.0] * meetings)
    places = np.random.default_rng(0).integers(1000, 3000, (TILES, 2))
    return [sum(map(len, cone(lattices, Box(int(y), int(x), 32, 32)))) for y, x in places]


def main() -> None:
    """Print the table."""
    sys.stdout.write("| window, core | meetings | mean | least | most |\n| --- | --- | --- | --- | --- |\n")
    for window, core in ((32, 24), (64, 48), (64, 56)):
        for meetings in (1, 2, 4, 8):
            found = evaluations(window, core, meetings)
            mean = sum(found) / len(found)
            sys.stdout.write(f"| {window}, {core} | {meetings} | {mean:.1f} | {min(found)} | {max(found)} |\n")


if __name__ == "__main__":
    main()
