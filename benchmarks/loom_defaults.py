"""The plan's parameters one at a time around the pipeline's default: evaluations, distance, likeness, seams, time.

    python benchmarks/loom_defaults.py --out FOLDER              # makes what is missing, then prints a table
    python benchmarks/loom_defaults.py --out FOLDER --only-make

On squares of 1024 px of the validation sections, on which defaults may be chosen; test sections are for figures. Every
row has the same weights, grids and noise. Distances are of crops of 256 px side by side to the real crops of the same
squares, and stand beside the paired difference to the default with its interval, canvases resampled; with few canvases
that interval is rough. Time is that of this process's CPU on one thread, and the cost counts a window by its area.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from loom_canvases import (
    TRAINING,
    Arm,
    Canvas,
    Distances,
    Made,
    canvases,
    crops_of,
    judge,
    kept,
    made,
    place,
    said,
    seam_figures,
    similarity_of,
    training_axes,
)
from numpy.typing import NDArray

from patchloom.encoders.encoder import Encoder
from patchloom.evaluation.estimates import Interval
from patchloom.grids.grid import EmbeddingGrid
from patchloom.machine import DTYPES
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.seams import EARLIER, LAST
from patchloom.pipelines.settings import Settings, settled

DEFAULT = "default"
BATCH = 9  # divides most of the numbers of windows at 1024 px: tails are padded
HEAD = (
    "| arm | cost per 256 px | CPU s per Mpx | kernel | less the default | frechet | less the default "
    "| similarity | AUC | seam, last stage | seam, earlier |\n" + "| --- " * 11 + "|\n"
)


def arms(pipeline: Pipeline) -> list[Arm]:
    """The default and its neighbours: one factor at a time, and the corners."""
    base = settled(pipeline, Settings(batch=BATCH))
    window = base.window or 0
    ways = [Arm(DEFAULT, base)]
    ways += [
        Arm(f"core {core} of {window}", replace(base, core=core)) for core in (window // 2, window * 3 // 4, window)
    ]
    ways += [Arm(f"{steps} stages", replace(base, steps=steps)) for steps in (6, 15, 20)]
    ways += [Arm(f"sync {sync}", replace(base, sync=sync)) for sync in (2, 4)]
    ways += [Arm(f"guidance {scale:g}", replace(base, guidance=scale)) for scale in (1.0, 2.0, 4.0)]
    ways += [Arm(f"core {core} of 32", replace(base, window=32, core=core)) for core in (24, 28)]
    ways += [
        Arm(f"core {window}, 6 stages", replace(base, core=window, steps=6)),
        Arm(f"core {window // 2}, 20 stages", replace(base, core=window // 2, steps=20)),
        Arm(f"core {window // 2}, sync 4", replace(base, core=window // 2, sync=4)),
    ]
    return ways


def row(
    pipeline: Pipeline,
    arm: Arm,
    some: list[Made],
    grids: list[EmbeddingGrid],
    distances: Distances,
    features: dict[str, NDArray[np.float32]],
    encoder: Encoder,
) -> str:
    """A line of the table."""
    own, base = features[arm.name], features[DEFAULT]
    chosen = settled(pipeline, arm.settings)
    likeness = [similarity_of(pipeline, grid, one.pixels, encoder) for grid, one in zip(grids, some, strict=True)]
    pixels = np.prod(some[0].pixels.shape[1:]) / 1e6
    seams = seam_figures(pipeline, [one.latents for one in some], arm)
    cells = [
        arm.name,
        f"{np.mean([one.facts['per_block'] for one in some]) * ((chosen.window or 0) / 32) ** 2:.1f}",
        f"{np.mean([one.facts['denoise_cpu_seconds'] for one in some]) / pixels:.1f}",
        f"{distances.kernel(own):.4f}",
        "" if arm.name == DEFAULT else _ends(distances.kernel_difference(own, base)),
        f"{distances.frechet(own):.2f}",
        "" if arm.name == DEFAULT else _ends(distances.frechet_difference(own, base)),
        f"{np.mean([one['similarity'] - one['floor'] for one in likeness]):.3f} above {likeness_floor(likeness):.3f}",
        f"{np.mean([one['auc'] for one in likeness]):.3f}",
        said(seams[LAST]),
        said(seams[EARLIER]),
    ]
    return f"| {' | '.join(cells)} |"


def likeness_floor(likeness: list[dict[str, float]]) -> float:
    """Mean similarity of shuffled cells."""
    return float(np.mean([one["floor"] for one in likeness]))


def _ends(found: Interval) -> str:
    return f"{(found.low + found.high) / 2:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def report(pipeline: Pipeline, chosen: list[Canvas], folder: Path) -> None:
    """Print the table, line by line."""
    encoder, own = judge(), pipeline.encoder()
    ways = [arm for arm in arms(pipeline) if all(place(folder, canvas, arm).is_file() for canvas in chosen)]
    found = {arm.name: [kept(place(folder, canvas, arm)) for canvas in chosen] for arm in ways}
    features = {name: crops_of([one.pixels for one in some], encoder) for name, some in found.items()}
    real = crops_of([canvas.pixels(pipeline) for canvas in chosen], encoder)
    axes = training_axes(TRAINING, pipeline, encoder, max(real.shape[0] * real.shape[1] // 10, 1), folder)
    grids = [canvas.grid(pipeline, own) for canvas in chosen]
    distances = Distances(real, axes)
    sys.stdout.write(f"{len(chosen)} canvases, {distances.n} crops, {axes}\n\n{HEAD}")
    for arm in ways:
        sys.stdout.write(row(pipeline, arm, found[arm.name], grids, distances, features, own) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Make, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="he-foundation")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is made; the same command goes on")
    parser.add_argument("--side", type=int, default=1024, help="of a canvas in px")
    parser.add_argument("--each", type=int, default=1, help="canvases of a section")
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    parser.add_argument("--only-make", action="store_true", help="do not report")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = load_pipeline(asked.pipeline, "cpu", DTYPES[asked.dtype])
    chosen = canvases(pipeline, TRAINING, "val", asked.side, asked.each)
    encoder = pipeline.encoder()
    for canvas in chosen:
        if not all(place(asked.out, canvas, arm).is_file() for arm in arms(pipeline)):
            grid = canvas.grid(pipeline, encoder)
            for arm in arms(pipeline):
                made(asked.out, pipeline, grid, canvas, arm)
    if not asked.only_make:
        report(pipeline, chosen, asked.out)


if __name__ == "__main__":
    main()
