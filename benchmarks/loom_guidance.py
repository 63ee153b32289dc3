"""What kinds of guidance do to seams and to the image: latents of a pipeline, each kind beside plain guidance.

    python benchmarks/loom_guidance.py he-foundation --cells 31 --seeds 2
    python benchmarks/loom_guidance.py he-foundation --kind null --cells 15 --seeds 2
    python benchmarks/loom_guidance.py he-foundation --kind similarity --cells 15 --window 64 --core 56

Statistics of dynamic thresholding and of guidance rescale are of one window, so neighbours are scaled differently: the
seam meter on the finished latents says whether it shows (`--kind window`). `--kind null` asks the null branch at some
steps alone, and at none. `--kind similarity` adds similarity guidance, whose cells must lie inside a window.
`difference` is the root mean square of the latents' difference from plain guidance of the same seed; `floor` is that
between two seeds. Small canvases are one window unless `--window` says otherwise, and then have no seams.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.diffusion.guidance_similarity import Pull
from patchloom.evaluation.estimates import Estimate
from patchloom.evaluation.seams import Borders, seams
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box
from patchloom.grids.file import read_grid
from patchloom.loom.orders import weave_canvas
from patchloom.loom.run import Run, figures
from patchloom.machine import choose_dtype
from patchloom.pipelines.guidance import Guidance
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.settings import Settings

GRID = Path(__file__).parent.parent / "src/patchloom/samples/gallbladder.grid"


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of guidance: its name, and the run that has it, of what plain guidance is told."""

    name: str
    run: Callable[[Pipeline, Any, Settings], Run[Any]]


PLAIN = Case("plain", plan_run)  # classifier-free guidance as `patchloom generate` has it


def led(name: str, change: Callable[[Guidance], Guidance]) -> Case:
    """Other guidance, of the same scale unless `change` says another."""

    def run(pipeline: Pipeline, grid: Any, told: Settings) -> Run[Any]:
        return plan_run(pipeline, grid, replace(told, guidance=change(told.guidance)))

    return Case(name, run)


def rescaled(share: float) -> Case:
    """Guidance rescale by a share."""
    return led(f"rescale {share}", lambda told: replace(told, rescale=share))


def limited(quantile: float, bound: float) -> Case:
    """Dynamic thresholding."""
    return led(f"thresholding {quantile}, bound {bound}", lambda told: replace(told, threshold=(quantile, bound)))


def seldom(every: int) -> Case:
    """The null branch asked at every so many steps."""
    return led(f"null every {every}", lambda told: replace(told, null_every=every))


def pulled(strength: float) -> Case:
    """Similarity guidance."""

    def run(pipeline: Pipeline, grid: Any, told: Settings) -> Run[Any]:
        return plan_run(pipeline, grid, replace(told, similarity=Pull(strength)))

    return Case(f"similarity {strength}", run)


CASES = {
    "window": [rescaled(0.0), rescaled(1.0), limited(0.995, 3.0), limited(0.95, 1.5)],
    "null": [seldom(2), seldom(3), led("unguided", lambda told: Guidance(1.0))],
    "similarity": [pulled(0.1), pulled(0.3)],
}


def meter(run: Run[Any], latents: NDArray[Any]) -> dict[str, Any]:
    """The seam meter on latents: the last meeting's borders, and those of earlier ones."""
    *before, last = (Borders.of(lattice) for lattice in run.lattices)
    rows = frozenset().union(*(one.rows for one in before))
    cols = frozenset().union(*(one.cols for one in before))
    kinds = {"last": last, "earlier": Borders(rows, cols).without(last)}
    return {kind: _told(one) for kind, one in seams(ArrayField(latents), kinds, 1).items()}


def _told(one: Any) -> Any:
    if not isinstance(one, Estimate):
        return one.reason
    return [round(one.value, 4), *([round(one.interval.low, 4), round(one.interval.high, 4)] if one.interval else [])]


def main() -> None:
    """Measure, and print one JSON object a line."""
    parser = argparse.ArgumentParser(description="What kinds of guidance do to seams and to the image.")
    parser.add_argument("pipeline")
    parser.add_argument("--cells", type=int, default=15, help="of the sample grid on a side: 15 are 1024 px, 31 2048")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kind", choices=list(CASES), default="window")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--window", type=int, help="in latents; default: by the canvas")
    parser.add_argument("--core", type=int, help="in latents")
    asked = parser.parse_args()
    device = torch.device("cpu")
    pipeline = load_pipeline(asked.pipeline, device, choose_dtype("auto", device))
    grid = read_grid(GRID).cropped(Box(0, 0, asked.cells, asked.cells))
    first: NDArray[Any] | None = None
    for seed in range(asked.seeds):
        usual: NDArray[Any] | None = None
        settings = Settings(seed, guidance=Guidance(asked.guidance), window=asked.window, core=asked.core)
        for case in (PLAIN, *CASES[asked.kind]):
            run = case.run(pipeline, grid, settings)
            started = time.perf_counter()
            latents = weave_canvas(run).read(run.latents.box)
            seconds = time.perf_counter() - started
            usual = latents if usual is None else usual
            first = latents if first is None else first
            facts = {
                "case": case.name,
                "seed": seed,
                "evaluations": figures(run, pipeline.record.factor).network_evaluations,
                "seconds": round(seconds, 1),
                "deviation": round(float(latents.std()), 4),
                "difference": round(_rms(latents - usual), 4),
                "floor": round(_rms(latents - first), 4),
                "seam": meter(run, latents),
            }
            sys.stdout.write(json.dumps(facts) + "\n")
            sys.stdout.flush()


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


if __name__ == "__main__":
    main()
