"""`halo` against the paper's plan, `average`, in its official proportions: evaluations, time, distances, seams.

    python benchmarks/loom_average.py --out FOLDER                       # makes what is missing, then reports
    python benchmarks/loom_average.py --out FOLDER --make 2              # makes two more canvases, all three arms
    python benchmarks/loom_average.py --out FOLDER --time --side 2048    # times alone, of a sample of the batches

For squares of held-out test sections, one of each patient: the same weights, grid, first noise, guidance, precision
and batch; the arms take turns canvas by canvas, in a process on one thread. The reference is DDIM over 50 levels in
windows of 32 latents 8 apart, decoded in the same windows and blended under the paper's bell; its latents decoded in
our tiles stand beside it, since that is the plan alone. Distances are of crops of 256 px side by side to the real crops
of the same squares; intervals are of the paired difference, canvases resampled.

With `--time` nothing is made: batches of windows and of decoded tiles of each arm are timed in turns, and each arm's
median times the number of its batches, padding included, is its time. What is outside networks is left out of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loom_canvases import (
    TEST,
    TRAINING,
    Arm,
    Canvas,
    Distances,
    Made,
    canvases,
    crops_of,
    decode_lattice,
    decoded,
    judge,
    kept,
    made,
    place,
    random_grid,
    said,
    seam_figures,
    similarity_of,
    training_axes,
)
from numpy.typing import NDArray
from PIL import Image

from patchloom.fields.weave import Work
from patchloom.geometry import Window
from patchloom.loom.decode import BATCH as DECODE_BATCH
from patchloom.loom.decode import Decode
from patchloom.loom.run import works
from patchloom.machine import DTYPES
from patchloom.pipelines.guidance import Guidance
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.settings import Settings

REFERENCE = "average 8 of 32, 50"
REFERENCE_OURS = "average 8 of 32, 50, decoded in our tiles"  # the plan alone
BATCH = 9  # of windows, the same for all; it divides what all three have at 1024 px, or nearly: tails are padded
CLOCKS = ("denoise_seconds", "decode_seconds", "denoise_cpu_seconds", "decode_cpu_seconds")


def arms(guidance: float, side: int) -> list[Arm]:
    """The reference and ours, for a canvas of `side` latents; the first of ours is what shipped pipelines do."""
    led = Guidance(guidance)
    whole = Settings(guidance=led, window=side, core=side, steps=11, batch=1)
    paper = Settings(guidance=led, sampler="ddim", plan="average", window=32, core=8, steps=50, batch=BATCH)
    return [
        Arm(REFERENCE, paper, decode_windows=True),
        Arm("one window, 11", whole),
        Arm("halo 56 of 64, 11", Settings(guidance=led, window=64, core=56, steps=11, batch=BATCH)),
        Arm("halo 24 of 32, 14", Settings(guidance=led, window=32, core=24, steps=14, batch=BATCH)),
    ]


def make_some(
    pipeline: Pipeline, chosen: list[Canvas], ways: list[Arm], folder: Path, most: int | None
) -> list[Canvas]:
    """Make what is missing, `most` canvases at most, and say which canvases are whole."""
    encoder, whole, new = pipeline.encoder(), [], 0
    for number, canvas in enumerate(chosen):
        paths = [place(folder, canvas, arm) for arm in ways]
        if not all(path.is_file() for path in paths):
            if most is not None and new >= most:
                continue
            new += 1
            grid = canvas.grid(pipeline, encoder)
            turn = number % len(ways)  # no arm is always the first
            for arm in ways[turn:] + ways[:turn]:
                facts = made(folder, pipeline, grid, canvas, arm).facts
                sys.stderr.write(json.dumps({"canvas": canvas.name, "arm": arm.name, **facts}) + "\n")
        whole.append(canvas)
    return whole


def report(pipeline: Pipeline, chosen: list[Canvas], ways: list[Arm], folder: Path) -> dict[str, Any]:
    """Every figure of every arm, over the canvases that all arms have."""
    encoder = judge()
    latents = {arm.name: [kept(place(folder, canvas, arm)) for canvas in chosen] for arm in ways}
    ours = Arm(REFERENCE_OURS, ways[0].settings)
    latents[ours.name] = latents[REFERENCE]
    ways = [*ways, ours]
    found = {arm.name: [_decoded_again(pipeline, one, arm) for one in latents[arm.name]] for arm in ways}
    real = [canvas.pixels(pipeline) for canvas in chosen]
    features = {name: crops_of([one.pixels for one in some], encoder) for name, some in found.items()}
    n = len(chosen) * features[REFERENCE].shape[1]
    axes = training_axes(TRAINING, pipeline, encoder, max(n // 10, 1), folder)
    distances = Distances(crops_of(real, encoder), axes)
    _show(folder, real, found)
    grids = [canvas.grid(pipeline, pipeline.encoder()) for canvas in chosen]
    told: dict[str, Any] = {"canvases": len(chosen), "crops": n, "axes": str(axes), "arms": {}}
    for arm in ways:
        some = found[arm.name]
        likeness = [similarity_of(pipeline, g, m.pixels, pipeline.encoder()) for g, m in zip(grids, some, strict=True)]
        told["arms"][arm.name] = {
            "evaluations_per_block": _mean([one.facts["per_block"] for one in some]),
            "background_windows": sum(one.facts["background_windows"] for one in some),
            **{clock: round(_mean([one.facts[clock] for one in some]), 2) for clock in CLOCKS},
            **_ratios(found[REFERENCE], some),
            **{key: round(_mean([one[key] for one in likeness]), 3) for key in likeness[0]},
            "kernel": round(distances.kernel(features[arm.name]), 5),
            "frechet": round(distances.frechet(features[arm.name]), 3),
            "less": {
                other: {
                    name: _ends(distances, name, features[arm.name], features[other]) for name in ("kernel", "frechet")
                }
                for other in (REFERENCE, REFERENCE_OURS)
                if other != arm.name
            },
            "seams_latents": {k: said(e) for k, e in seam_figures(pipeline, [m.latents for m in some], arm).items()},
            "seams_pixels": {k: said(e) for k, e in seam_figures(pipeline, [m.pixels for m in some], arm).items()},
            "seams_of_the_real": {k: said(e) for k, e in seam_figures(pipeline, real, arm).items()},
        }
    return told


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A batch of an arm that is evaluated again and again, and how many like it the arm has."""

    work: Work
    windows: list[Window]
    arrays: NDArray[np.float32]
    number: int

    def cpu_seconds(self) -> float:
        """Of evaluating it once."""
        started = time.process_time()
        self.work(self.windows, self.arrays)
        return time.process_time() - started


def calls(pipeline: Pipeline, arm: Arm, side: int) -> list[Call]:
    """One batch of windows and one of tiles."""
    run = plan_run(pipeline, random_grid(pipeline, side), arm.settings)
    decoding = decode_lattice(pipeline, run.shape, arm)
    found = []
    for work, lattices in (
        (next(iter(works(run).values())), run.lattices),
        (Decode(pipeline.autoencoder, DECODE_BATCH, pipeline.device), [decoding]),
    ):
        windows = [lattices[0].window(0)] * work.batch
        shape = (work.batch, run.latents.channels, *windows[0].box.shape)
        arrays = np.random.default_rng(0).standard_normal(shape, np.float32)
        found.append(Call(work, windows, arrays, sum(ceil(len(one) / work.batch) for one in lattices)))
    return found


def times(pipeline: Pipeline, ways: list[Arm], side: int, rounds: int) -> dict[str, Any]:
    """CPU seconds of every arm at a size, from some batches in turns."""
    every = {arm.name: calls(pipeline, arm, side) for arm in ways}
    taken: dict[str, list[list[float]]] = {name: [] for name in every}
    for _ in range(rounds + 1):
        for name, some in every.items():
            taken[name].append([call.cpu_seconds() for call in some])
    told: dict[str, Any] = {}
    for name, some in every.items():
        window, tile = np.median(taken[name][1:], axis=0)  # the first round finds kernels
        told[name] = {
            "batches_of_windows": some[0].number,
            "cpu_seconds_a_batch": round(float(window), 3),
            "batches_of_tiles": some[1].number,
            "cpu_seconds_a_batch_of_tiles": round(float(tile), 3),
            "cpu_seconds": round(float(window * some[0].number + tile * some[1].number), 1),
        }
    for one in told.values():
        one["times_faster_cpu"] = round(told[REFERENCE]["cpu_seconds"] / one["cpu_seconds"], 2)
    return told


def _decoded_again(pipeline: Pipeline, one: Made, arm: Arm) -> Made:
    pixels = decoded(pipeline, one.latents, arm)
    return replace(one, pixels=pixels.read(pixels.frame.box))


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 5)


def _ratios(reference: list[Made], some: list[Made]) -> dict[str, float]:
    """How many times the reference's time, over all canvases: denoising and decoding together."""
    ratios = {}
    for clock, name in (("cpu_seconds", "times_faster_cpu"), ("seconds", "times_faster_wall")):
        total, own = (
            sum(m.facts[f"denoise_{clock}"] + m.facts[f"decode_{clock}"] for m in g) for g in (reference, some)
        )
        ratios[name] = round(total / own, 2)
    return ratios


def _ends(distances: Distances, name: str, one: Any, other: Any) -> list[float]:
    if len(one) < 2:
        return []
    ends = getattr(distances, f"{name}_difference")(one, other)
    value = getattr(distances, name)(one) - getattr(distances, name)(other)
    return [round(float(number), 5) for number in (value, ends.low, ends.high)]


def _show(folder: Path, real: list[Any], found: dict[str, list[Made]]) -> None:
    """A sheet to look at: a row a canvas, the real one and then the arms."""
    columns = [real, *([one.pixels for one in some] for some in found.values())]
    rows = [np.concatenate([column[k] for column in columns], axis=2) for k in range(len(real))]
    sheet = Image.fromarray(np.moveaxis(np.concatenate(rows, axis=1), 0, -1))
    sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS).save(folder / "sheet.png")


def main() -> None:
    """Make, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="he-foundation")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is made; the same command goes on")
    parser.add_argument("--side", type=int, default=1024, help="of a canvas in px")
    parser.add_argument("--guidance", type=float, default=3.0, help="of every arm; 1 is off")
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES), help="of every arm")
    parser.add_argument("--canvases", type=int, default=8, help="at most")
    parser.add_argument("--make", type=int, help="make so many canvases in this call, then report")
    parser.add_argument("--time", action="store_true", help="time a sample of batches, and make nothing")
    parser.add_argument("--rounds", type=int, default=5, help="with --time")
    parser.add_argument("--only-make", action="store_true", help="do not report")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = load_pipeline(asked.pipeline, "cpu", DTYPES[asked.dtype])
    ways = arms(asked.guidance, asked.side // pipeline.record.factor)
    if asked.time:
        found = times(pipeline, ways, asked.side, asked.rounds)
        sys.stdout.write(json.dumps({"side_px": asked.side, "guidance": asked.guidance} | found, indent=1) + "\n")
        return
    folder = asked.out / f"{asked.side}_{asked.guidance:g}"
    chosen = canvases(pipeline, TEST, "test", asked.side)[: asked.canvases]
    whole = make_some(pipeline, chosen, ways, folder, asked.make)
    if not asked.only_make:
        told = {"side_px": asked.side, "guidance": asked.guidance, "dtype": asked.dtype}
        sys.stdout.write(json.dumps(told | report(pipeline, whole, ways, folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
