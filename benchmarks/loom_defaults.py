"""The plan's parameters one at a time around one of windows: evaluations, distance, likeness, seams, time.

    python benchmarks/loom_defaults.py --out FOLDER              # makes what is missing, then prints a table
    python benchmarks/loom_defaults.py --out FOLDER --only-make

On squares of validation sections, on which defaults may be chosen; test sections are for figures. The base is stated
here, since the pipeline itself makes such a canvas in one window; levels and guidance are the pipeline's. Every row has
the same weights, grids and noise. Distances are of crops of 256 px side by side to the real crops of the same
squares, and stand beside the paired difference to the default with its interval, canvases resampled; with few canvases
that interval is rough. Seams are of undecoded latents, over those of the same run in one window (see loom_seams.py).
Time is that of this process's CPU on one thread, window by window, so that no batch is filled up, and the cost counts a
window by its area, in windows of 32 latents.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
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
    similarity_of,
    training_axes,
)
from loom_seams import in_one_window, paired
from numpy.typing import NDArray

from patchloom.encoders.encoder import Encoder
from patchloom.evaluation.estimates import Interval
from patchloom.grids.grid import EmbeddingGrid
from patchloom.machine import DTYPES
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.settings import Settings, settled
from patchloom.trials.seams import EARLIER, LAST

WINDOW, CORE, STEPS = 64, 56, 10  # latents, latents, stages: what the arms go away from, one factor at a time
HEAD = (
    "| arm | cost per 256 px | CPU s per Mpx | kernel | less the base | frechet | less the base "
    "| similarity | its floor | AUC | seam, last stage | seam, earlier |\n" + "| --- " * 12 + "|\n"
)


def arms(pipeline: Pipeline, few: bool) -> list[Arm]:
    """The base and its neighbours, one factor at a time; then smaller windows and the corners, unless `few` will do."""
    base = settled(pipeline, Settings(window=WINDOW, core=CORE, steps=STEPS, batch=1))
    half, most = WINDOW // 2, WINDOW * 3 // 4
    ways = [
        Arm(f"core {CORE} of {WINDOW}, {STEPS} stages", base),
        *(Arm(f"core {core} of {WINDOW}", replace(base, core=core)) for core in (half, most, WINDOW)),
        *(Arm(f"{steps} stages", replace(base, steps=steps)) for steps in (6, 15, 20)),
        *(Arm(f"sync {sync}", replace(base, sync=sync)) for sync in (2, 4)),
    ]
    more = [
        *(Arm(f"core {core} of {half}", replace(base, window=half, core=core)) for core in (16, 24, 32)),
        Arm(f"core {WINDOW}, 6 stages", replace(base, core=WINDOW, steps=6)),
        Arm(f"core {half}, 20 stages", replace(base, core=half, steps=20)),
        Arm(f"core {half}, sync 4", replace(base, core=half, sync=4)),
    ]
    return ways if few else [*ways, *more]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What every line needs."""

    pipeline: Pipeline
    folder: Path
    canvases: list[Canvas]
    grids: list[EmbeddingGrid]
    distances: Distances
    base: NDArray[np.float32]  # features of the base's crops
    judge: Encoder
    own: Encoder

    def made(self, arm: Arm) -> list[Made]:
        """What an arm made of every canvas."""
        return [kept(place(self.folder, canvas, arm)) for canvas in self.canvases]

    def row(self, arm: Arm) -> str:
        """A line of the table."""
        some, chosen = self.made(arm), settled(self.pipeline, arm.settings)
        alone = self.made(in_one_window(chosen, _side(self.pipeline, self.canvases[0])))
        seams = paired(self.pipeline, [one.latents for one in some], [one.latents for one in alone], arm)
        features = crops_of([one.pixels for one in some], self.judge)
        pairs = zip(self.grids, some, strict=True)
        likeness = [similarity_of(self.pipeline, grid, one.pixels, self.own) for grid, one in pairs]
        pixels = np.prod(some[0].pixels.shape[1:]) / 1e6
        away, base = self.distances, self.base
        cells = [
            arm.name,
            f"{np.mean([one.facts['per_block'] for one in some]) * ((chosen.window or 0) / 32) ** 2:.1f}",
            f"{np.mean([one.facts['denoise_cpu_seconds'] for one in some]) / pixels:.1f}",
            f"{away.kernel(features):.4f}",
            _ends(away.kernel(features) - away.kernel(base), away.kernel_difference(features, base)),
            f"{away.frechet(features):.2f}",
            _ends(away.frechet(features) - away.frechet(base), away.frechet_difference(features, base)),
            f"{np.mean([one['similarity'] for one in likeness]):.3f}",
            f"{np.mean([one['floor'] for one in likeness]):.3f}",
            f"{np.mean([one['auc'] for one in likeness]):.3f}",
            _seam(seams.get(LAST)),
            _seam(seams.get(EARLIER)),
        ]
        return f"| {' | '.join(cells)} |"


def _side(pipeline: Pipeline, canvas: Canvas) -> int:
    """Of a canvas in latents."""
    return canvas.box.height // pipeline.record.factor


def _seam(found: dict[str, float] | None) -> str:
    return "-" if found is None else f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _ends(value: float, found: Interval) -> str:
    return f"{value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def report(pipeline: Pipeline, ways: list[Arm], chosen: list[Canvas], folder: Path) -> None:
    """Print the table, line by line."""
    encoder, own = judge(), pipeline.encoder()
    ways = [ways[0], in_one_window(ways[0].settings, _side(pipeline, chosen[0])), *ways[1:]]
    base = crops_of([kept(place(folder, canvas, ways[0])).pixels for canvas in chosen], encoder)
    real = crops_of([canvas.pixels(pipeline) for canvas in chosen], encoder)
    axes = training_axes(TRAINING, pipeline, encoder, max(real.shape[0] * real.shape[1] // 10, 1), folder)
    grids = [canvas.grid(pipeline, own) for canvas in chosen]
    table = Table(pipeline, folder, chosen, grids, Distances(real, axes), base, encoder, own)
    sys.stdout.write(f"{len(chosen)} canvases, {table.distances.n} crops, {axes}\n\n{HEAD}")
    for arm in ways:
        sys.stdout.write(table.row(arm) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Make, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="he-foundation")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is made; the same command goes on")
    parser.add_argument("--side", type=int, default=768, help="of a canvas in px")
    parser.add_argument("--each", type=int, default=1, help="canvases of a section")
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    parser.add_argument("--canvases", type=int, help="at most")
    parser.add_argument("--few", action="store_true", help="one factor at a time, no smaller windows and no corners")
    parser.add_argument("--no-more", action="store_true", help="report the canvases that are whole, and make none")
    parser.add_argument("--only-make", action="store_true", help="do not report")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = load_pipeline(asked.pipeline, "cpu", DTYPES[asked.dtype])
    chosen = canvases(pipeline, TRAINING, "val", asked.side, asked.each)
    encoder = pipeline.encoder()
    whole = []
    for canvas in chosen[: asked.canvases]:
        ways = arms(pipeline, asked.few)
        ways += [in_one_window(arm.settings, _side(pipeline, canvas)) for arm in ways]
        if not all(place(asked.out, canvas, arm).is_file() for arm in ways):
            if asked.no_more:
                continue
            grid = canvas.grid(pipeline, encoder)
            for arm in ways:
                made(asked.out, pipeline, grid, canvas, arm)
        whole.append(canvas)
    if not asked.only_make:
        report(pipeline, arms(pipeline, asked.few), whole, asked.out)


if __name__ == "__main__":
    main()
