"""Windows that change with noise, on a network that was trained on two sizes: distances, likeness, seams, time.

    python benchmarks/loom_windows.py --out FOLDER      # makes what is missing, then prints a table

The exact oracle says that long-range structure is decided above sigma 1 and lost by small windows (loom_oracle.py).
Here are plans with large windows at high noise and small ones below, beside windows of one size, on squares of four
validation sections, from the same weights, grids and noise, with the pipeline's own sampler and guidance. Distances are
of crops of 256 px side by side to the real ones of the same places, and under `canvases` the kernel distance of whole
canvases as one picture each; four are few. Seams are of latents, on the last stage's lines, over the same lines of the
run in one window. The cost counts a window by its area, in windows of 32 latents; time is CPU time of one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from loom_canvases import (
    TRAINING,
    Canvas,
    Distances,
    Made,
    canvases,
    crops_of,
    judge,
    kept,
    similarity_of,
    training_axes,
)
from loom_seams import over_whole
from numpy.typing import NDArray

from patchloom.encoders.embed import encode
from patchloom.encoders.encoder import Encoder
from patchloom.evaluation.kernel import kernel
from patchloom.evaluation.seams import Borders
from patchloom.fields.field import ArrayField
from patchloom.geometry import Lattice
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.decode import decode_field
from patchloom.loom.orders import weave_canvas
from patchloom.loom.plan import Plan, Sizes
from patchloom.loom.run import figures
from patchloom.machine import DTYPES
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.settings import Settings

HALO = 8  # latents in all, a window less its core
HEAD = (
    "| windows | cost per 256 px | CPU s | kernel | frechet | canvases | similarity | its floor | AUC | seam |\n"
    + "| --- " * 10
    + "|\n"
)
SIZES: dict[str, tuple[tuple[float, int], ...]] = {
    "32": ((0.0, 32),),
    "64 above sigma 1, 32 below": ((1.0, 64), (0.0, 32)),
    "64 above sigma 0.3, 32 below": ((0.3, 64), (0.0, 32)),
    "128 above sigma 1, 32 below": ((1.0, 128), (0.0, 32)),
    "128 above sigma 1, 64 below": ((1.0, 128), (0.0, 64)),
    "64": ((0.0, 64),),
    "one": ((0.0, 0),),
}


def plan_of(name: str, side: int) -> Plan:
    """The plan of a row, on a canvas of `side` latents; a window that covers the canvas has no halo."""
    sizes = []
    for above, asked in SIZES[name]:
        window = min(asked or side, side)
        sizes.append(Sizes(above, window, window if window == side else window - HALO))
    return Plan("halo", tuple(sizes))


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What a plan made of every canvas, and the lattice of its last meeting."""

    name: str
    made: list[Made]
    last: Lattice


def make(pipeline: Pipeline, grid: EmbeddingGrid, canvas: Canvas, name: str, folder: Path) -> tuple[Made, Lattice]:
    """A canvas by a plan, or what lies in the folder."""
    plan = plan_of(name, canvas.box.height // pipeline.record.factor)
    run = replace(plan_run(pipeline, grid, Settings(batch=1)), plan=plan)
    path = folder / name.replace(" ", "-") / f"{canvas.name}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        started = time.process_time()
        field = weave_canvas(run)
        latents = np.asarray(field.read(field.frame.box), np.float32)
        seconds = time.process_time() - started
        decoded = decode_field(ArrayField(latents), pipeline.autoencoder, pixel_size=pipeline.pixel_size, mirror=True)
        shown = sum(lattice.window(0).box.area * len(lattice) for lattice in run.lattices) / latents[0].size
        branches = figures(run, pipeline.record.factor).network_evaluations / sum(map(len, run.lattices))
        facts = {"cost": shown * branches, "cpu_seconds": seconds}
        part = path.with_suffix(".part.npz")
        np.savez(part, latents=latents, pixels=decoded.read(decoded.frame.box), facts=np.array(json.dumps(facts)))
        part.replace(path)
    return kept(path), run.lattices[-1]


def seam(row: Row, whole: Row) -> str:
    """The meter on a row's last lines over that on the same lines of the run in one window, canvases drawn anew."""
    lines = Borders.of(row.last)
    if not lines.rows | lines.cols:
        return "-"
    latents = [[one.latents for one in made] for made in (row.made, whole.made)]
    found = over_whole(latents[0], latents[1], lines, lines, 1)
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def line(
    pipeline: Pipeline,
    row: Row,
    whole: Row,
    grids: Sequence[EmbeddingGrid],
    distances: Distances,
    large: NDArray[np.float32],
    judges: tuple[Encoder, Encoder],
) -> str:
    """A row of the table."""
    network, own = judges
    features = crops_of([one.pixels for one in row.made], network)
    canvas = encode(network, np.stack([one.pixels for one in row.made])).astype(np.float64)
    like = [similarity_of(pipeline, grid, one.pixels, own) for grid, one in zip(grids, row.made, strict=True)]
    cells = [
        row.name,
        f"{np.mean([one.facts['cost'] for one in row.made]):.1f}",
        f"{np.mean([one.facts['cpu_seconds'] for one in row.made]):.1f}",
        f"{distances.kernel(features):.4f}",
        f"{distances.frechet(features):.2f}",
        f"{kernel(large.astype(np.float64), canvas):.3f}",
        *(f"{np.mean([one[name] for one in like]):.3f}" for name in ("similarity", "floor", "auc")),
        seam(row, whole),
    ]
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Make, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="he-foundation")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is made; the same command goes on")
    parser.add_argument("--side", type=int, default=1024, help="of a canvas in px")
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = load_pipeline(asked.pipeline, "cpu", DTYPES[asked.dtype])
    own, network = pipeline.encoder(), judge()
    chosen = canvases(pipeline, TRAINING, "val", asked.side)
    grids = [canvas.grid(pipeline, own) for canvas in chosen]
    rows = []
    for name in SIZES:
        found = [make(pipeline, grid, canvas, name, asked.out) for canvas, grid in zip(chosen, grids, strict=True)]
        rows.append(Row(name, [one for one, _ in found], found[0][1]))
    pictures = [canvas.pixels(pipeline) for canvas in chosen]
    real = crops_of(pictures, network)
    axes = training_axes(TRAINING, pipeline, network, max(real.shape[0] * real.shape[1] // 10, 1), asked.out)
    distances, large = Distances(real, axes), encode(network, np.stack(pictures))
    sys.stdout.write(f"{len(chosen)} canvases, {distances.n} crops, {axes}\n\n{HEAD}")
    for row in rows:
        sys.stdout.write(line(pipeline, row, rows[-1], grids, distances, large, (network, own)))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
