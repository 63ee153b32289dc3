"""Peak resident memory of whole commands on a slide of 20,000 x 20,000 px.

    python benchmarks/memory.py embed --out FOLDER
    python benchmarks/memory.py generate --out FOLDER

The slide is the sample section, repeated, written as a tiled pyramid once. `embed` reads it at the stride given;
`generate` makes an image of its size from the grid that `embed` left, or with `--random` from random embeddings
`--stride` px apart. Steps and guidance change the time, not the memory. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from loom_canvases import random_grid
from numpy.typing import NDArray

from patchloom.fields.field import ArrayField
from patchloom.geometry import Box, Frame, PixelSize
from patchloom.grids.file import write_grid
from patchloom.machine import resident_bytes
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pyramids.image import write_image
from patchloom.rasters.opening import open_raster
from patchloom.trials.demo import PIPELINE, REFERENCE

SIZE = PixelSize.parse("0.5um")


@dataclass(frozen=True, slots=True)
class Repeated:
    """A picture side by side with itself, as often as it takes."""

    source: ArrayField
    side: int

    @property
    def frame(self) -> Frame:
        """A square of three channels."""
        return Frame(self.side, self.side, 3, "uint8", SIZE)

    def read(self, box: Box) -> NDArray[Any]:
        """The pixels of a box."""
        height, width = self.source.array.shape[1:]
        rows = np.arange(box.y, box.stop_y) % height
        cols = np.arange(box.x, box.stop_x) % width
        pixels: NDArray[Any] = self.source.array[:, rows[:, None], cols]
        return pixels


def slide_of(folder: Path, side: int) -> Path:
    """The slide, made where it is not there yet."""
    path = folder / f"slide_{side}.tif"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with open_raster(REFERENCE, SIZE) as section:
            write_image(Repeated(ArrayField(section.read(section.frame.box)), side), path)
    return path


def run(arguments: list[str]) -> dict[str, float]:
    """Seconds and peak resident MiB of one `patchloom` command."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "patchloom", *arguments], check=True, stdout=subprocess.DEVNULL)
    used, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started
    cpu = used.ru_utime + used.ru_stime
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_resident_mib": round(resident_bytes(used.ru_maxrss) / (1 << 20)),
    }


def main() -> None:
    """Measure one verb."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["embed", "generate"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--stride", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--guidance", type=float, default=1.0, help="of generate; 1 is off")
    parser.add_argument("--random", action="store_true", help="generate from random embeddings, without a slide")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    grid, made = args.out / f"slide_{args.side}.grid", args.out / f"made_{args.side}.tif"
    if args.random:
        grid = args.out / f"random_{args.side}_{args.stride}.grid"
        if not grid.exists():
            write_grid(random_grid(load_pipeline(PIPELINE), args.side, args.stride), grid)
    slide = "" if args.random else str(slide_of(args.out, args.side))
    verbs = {
        "embed": ["embed", slide, "-o", str(grid), "--pipeline", PIPELINE, "--stride", str(args.stride)],
        "generate": ["generate", PIPELINE, "--grid", str(grid), "-o", str(made), "--steps", str(args.steps)],
    }
    verbs["generate"] += ["--guidance", str(args.guidance)]
    found = {"verb": args.verb, "side_px": args.side, **run(verbs[args.verb])}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
