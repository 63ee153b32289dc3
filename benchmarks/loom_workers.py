"""Two workers of one thread against one worker of one thread, and one worker of two threads, on the same canvas.

    python benchmarks/loom_workers.py                          # needs two free cores
    python benchmarks/loom_workers.py --side 1024 --steps 2 --rounds 1

The crews take turns, `--rounds` times each; a turn denoises and decodes the canvas, timed by the wall after every
worker has loaded its weights and answered once. A canvas is given out batch by batch, and meetings wait for their last
batch: `--batch` is small by default so that two workers have equal shares, and `bound` is what the shares allow.
Times of a machine that does other work mean nothing: `load` is how many processes wanted to run at the start.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from loom_canvases import random_grid

from patchloom.fields.field import ArrayField
from patchloom.fields.weave import Work
from patchloom.geometry import Box
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.decode import BATCH, decode_field, tiles
from patchloom.loom.orders import weave_canvas, weave_region
from patchloom.loom.run import Run
from patchloom.loom.workers import Workers
from patchloom.machine import DTYPES
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.settings import Settings
from patchloom.pipelines.workers import Recipe

CREWS = {"one worker, one thread": (1, 1), "two workers, one thread": (2, 1), "one worker, two threads": (1, 2)}
WARM = Box(0, 0, 8, 8)  # latents that are made first: every worker answers before the clock starts


@dataclass(frozen=True, slots=True)
class Threaded:
    """A recipe whose worker computes on so many threads, whatever its share of the machine would be."""

    recipe: Recipe
    threads: int

    def __call__(self, number: int) -> Mapping[str, Work]:
        """The works of the run."""
        torch.set_num_threads(self.threads)
        return self.recipe(number)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What every crew makes."""

    pipeline: Pipeline
    grid: EmbeddingGrid
    settings: Settings
    name: str

    @property
    def run(self) -> Run[Any]:
        """The run, which the first process reads and keeps."""
        return plan_run(self.pipeline, self.grid, self.settings)

    def seconds(self, workers: int, threads: int) -> float:
        """Of the wall, for the canvas and its pixels, by a crew that has already answered."""
        made = Recipe(
            self.name, self.pipeline.identity, self.grid, self.settings, self.pipeline.device, self.pipeline.dtype
        )
        with Workers(workers, Threaded(made, threads)) as crew:
            warm = weave_region(self.run, WARM, crew=crew).read(WARM)
            decode_field(ArrayField(warm), self.pipeline.autoencoder, crew=crew).read(Box(0, 0, 8, 8))
            started = time.perf_counter()
            latents = weave_canvas(self.run, crew=crew)
            pixels = decode_field(latents, self.pipeline.autoencoder, crew=crew)
            for top in range(0, pixels.frame.height, 512):  # as a writer reads
                pixels.read(Box(top, 0, min(512, pixels.frame.height - top), pixels.frame.width))
            return time.perf_counter() - started

    def bound(self, workers: int) -> float:
        """How many times faster so many workers could be, since every meeting waits for its last batch.

        Batches of tiles are counted too, as if they took as long as batches of windows.
        """
        run = self.run
        decoding = tiles(run.shape, self.pipeline.autoencoder.receptive_field)
        counts = [ceil(len(lattice) / run.batch) for lattice in run.lattices]
        counts.append(ceil(len(decoding) / BATCH))
        return sum(counts) / sum(ceil(count / workers) for count in counts)


def measure(job: Job, rounds: int) -> dict[str, Any]:
    """Seconds of every crew in turns, and ratios of their medians to that of one worker of one thread."""
    found: dict[str, list[float]] = {name: [] for name in CREWS}
    for _ in range(rounds):
        for name, (workers, threads) in CREWS.items():
            found[name].append(round(job.seconds(workers, threads), 2))
            sys.stderr.write(json.dumps({name: found[name][-1]}) + "\n")
    alone = float(np.median(found[next(iter(CREWS))]))
    ratios = {name: round(alone / float(np.median(seconds)), 3) for name, seconds in found.items()}
    return {"seconds": found, "times_faster": ratios, "bound_of_two_workers": round(job.bound(2), 3)}


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="he-foundation")
    parser.add_argument("--side", type=int, default=4096, help="of the canvas in px")
    parser.add_argument("--steps", type=int, default=3, help="the ratio hardly depends on it")
    parser.add_argument("--batch", type=int, default=4, help="windows given out at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    pipeline = load_pipeline(asked.pipeline, "cpu", DTYPES[asked.dtype])
    settings = Settings(steps=asked.steps, batch=asked.batch)
    job = Job(pipeline, random_grid(pipeline, asked.side), settings, asked.pipeline)
    told = {"side_px": asked.side, "steps": asked.steps, "batch": asked.batch, "dtype": asked.dtype}
    machine = {"cores": len(os.sched_getaffinity(0)), "load": round(load, 2)}
    sys.stdout.write(json.dumps(told | machine | measure(job, asked.rounds)) + "\n")


if __name__ == "__main__":
    main()
