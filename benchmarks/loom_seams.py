"""The seam meter over many canvases at once: undecoded latents and lossless pixels, each kind of line apart.

    python benchmarks/loom_seams.py --out FOLDER --make 12     # twelve more canvases, then the figures of all
    python benchmarks/loom_seams.py --out FOLDER --make 0      # the figures alone

Canvases of 1024 px from grids of validation and test sections, up to four squares of each, a seed to each canvas, with
the pipeline's default plan or the one named. All are laid side by side for the meter; the lines where they meet are
counted on neither side. `half` is half the interval's width, and `canvases_for_0.01` how many canvases would make it
0.01, as it falls with the root of their number. The same lines of the real sections stand beside each figure.

What widens those intervals is what the pictures show at the lines. `paired` takes it out: the same canvas from the same
noise is made in one window as well, where nothing meets, and its meter on the same lines divides that of the plan. For
decode tiles, the same latents are decoded as one tile; `decoded_alike` is the share of values that come out the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loom_canvases import (
    LEVEL,
    REPEATS,
    SEED,
    TEST,
    TRAINING,
    Arm,
    Canvas,
    canvases,
    kept,
    kinds_of,
    made,
    place,
    seam_figures,
)
from numpy.typing import NDArray

from patchloom.evaluation.estimates import Absent, Estimate
from patchloom.evaluation.intervals import centred
from patchloom.evaluation.seams import Borders
from patchloom.fields.field import ArrayField
from patchloom.loom.decode import decode_field
from patchloom.machine import DTYPES
from patchloom.pipelines.guidance import Guidance
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.settings import Settings, settled
from patchloom.trials.seams import DECODE

BATCH, WANTED = 9, 0.01
Pictures = Sequence[NDArray[Any]]


def told(found: Mapping[str, Estimate | Absent], canvases: int) -> dict[str, Any]:
    """Each kind's value, half-width, lines, and how many canvases would make the half-width 0.01."""
    answer: dict[str, Any] = {}
    for kind, one in found.items():
        if isinstance(one, Absent) or one.interval is None:
            answer[kind] = one.reason if isinstance(one, Absent) else round(one.value, 4)
            continue
        half = (one.interval.high - one.interval.low) / 2
        answer[kind] = {
            "value": round(one.value, 4),
            "low": round(one.interval.low, 4),
            "high": round(one.interval.high, 4),
            "half": round(half, 4),
            "other_and_border_lines": list(one.n),
            "canvases_for_0.01": ceil(canvases * (half / WANTED) ** 2),
        }
    return answer


def paired(pipeline: Pipeline, some: Pictures, whole: Pictures, arm: Arm) -> dict[str, Any]:
    """The meter over that of the same canvases made in one window, with canvases drawn anew."""
    is_pixels = some[0].dtype == np.uint8
    factor = pipeline.record.factor if is_pixels else 1
    kinds = kinds_of(pipeline, (some[0].shape[1] // factor, some[0].shape[2] // factor), arm, is_pixels)
    lines = {kind: borders.times(factor) for kind, borders in kinds.items()}
    every = Borders(*(frozenset().union(*(getattr(b, axis) for b in lines.values())) for axis in ("rows", "cols")))
    return {
        kind: over_whole(some, whole, borders, every, factor)
        for kind, borders in lines.items()
        if borders.rows | borders.cols
    }


def over_whole(some: Pictures, whole: Pictures, borders: Borders, every: Borders, factor: int) -> dict[str, float]:
    """The same on given lines; those of `every` are not among the others that they are held against."""
    pairs = zip(some, whole, strict=True)
    rows = ([_means(one, borders, every, factor) for one in pair] for pair in pairs)
    sums = np.array([[*own, *other] for own, other in rows])
    rng = np.random.default_rng(SEED)
    draws = [_ratio(sums[rng.integers(len(sums), size=len(sums))]) for _ in range(REPEATS)]
    value = _ratio(sums)
    ends = centred(value, draws, LEVEL, "bootstrap of canvases")
    told = {"value": value, "low": ends.low, "high": ends.high, "half": (ends.high - ends.low) / 2}
    return {key: round(number, 4) for key, number in told.items()}


def _ratio(sums: NDArray[np.float64]) -> float:
    border, other, border_whole, other_whole = sums.sum(axis=0)
    return float(border / other / (border_whole / other_whole))


def _means(picture: NDArray[Any], borders: Borders, every: Borders, factor: int) -> tuple[float, float]:
    """Mean absolute difference across border lines, and across the others that lie where latents meet."""
    border, other = [], []
    for axis, (own, all_own) in enumerate(((borders.rows, every.rows), (borders.cols, every.cols)), start=1):
        steps = np.abs(np.diff(picture.astype(np.float32), axis=axis)).mean(axis=(0, 3 - axis))
        border += [steps[line - 1] for line in own]
        other += [steps[line - 1] for line in range(factor, len(steps) + 1, factor) if line not in all_own]
    return float(np.mean(border)), float(np.mean(other))


def in_one_window(how: Settings, side: int) -> Arm:
    """The same run of a canvas of `side` latents in a single window, where nothing meets."""
    return Arm(
        f"in one window, {how.steps}, guidance {how.guidance.scale:g}", replace(how, window=side, core=side, batch=1)
    )


def decoded_at_once(pipeline: Pipeline, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pixels of latents, decoded as one tile."""
    pixels = decode_field(ArrayField(latents), pipeline.autoencoder, tile=max(latents.shape), batch=1)
    found: NDArray[np.uint8] = pixels.read(pixels.frame.box)
    return found


def report(pipeline: Pipeline, chosen: list[Canvas], arm: Arm, folder: Path) -> dict[str, Any]:
    """The figures of all canvases that are made."""
    some = [kept(place(folder, canvas, arm)) for canvas in chosen]
    side = chosen[0].box.height // pipeline.record.factor
    whole = [kept(place(folder, canvas, in_one_window(arm.settings, side))) for canvas in chosen]
    at_once = [decoded_at_once(pipeline, one.latents) for one in some]
    real = [canvas.pixels(pipeline) for canvas in chosen]
    apart = np.subtract([one.pixels for one in some], at_once, dtype=np.int16)
    n = len(chosen)
    return {
        "canvases": n,
        "arm": arm.name,
        "cpu_seconds_a_canvas": round(sum(one.facts["denoise_cpu_seconds"] for one in some) / n, 1),
        "latents": told(seam_figures(pipeline, [one.latents for one in some], arm), n),
        "pixels": told(seam_figures(pipeline, [one.pixels for one in some], arm), n),
        "paired": {
            "latents": paired(pipeline, [one.latents for one in some], [one.latents for one in whole], arm),
            "pixels": paired(pipeline, [one.pixels for one in some], [one.pixels for one in whole], arm)
            | {DECODE: paired(pipeline, [one.pixels for one in some], at_once, arm).get(DECODE)},
        },
        "decoded_alike": round(float(np.mean(apart == 0)), 6),
        "decoded_apart_levels": int(np.abs(apart).max()),
        "real": told(seam_figures(pipeline, real, arm), n),
    }


def main() -> None:
    """Make, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="he-foundation")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is made; the same command goes on")
    parser.add_argument("--make", type=int, default=4, help="canvases more")
    parser.add_argument("--side", type=int, default=1024, help="of a canvas in px")
    parser.add_argument("--window", type=int, help="in latents; default: the pipeline's")
    parser.add_argument("--core", type=int, help="in latents")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = load_pipeline(asked.pipeline, "cpu", DTYPES[asked.dtype])
    wish = Settings(
        window=asked.window, core=asked.core, steps=asked.steps, guidance=Guidance(asked.guidance), batch=BATCH
    )
    how = settled(pipeline, wish)
    name = f"halo {how.core} of {how.window}, {how.steps}, guidance {how.guidance.scale:g}"
    tables = ((TRAINING, "val"), (TEST, "test"))
    by_section = [canvases(pipeline, table, split, asked.side, each=4) for table, split in tables]
    chosen = _in_turns([canvas for some in by_section for canvas in some])
    done, new, encoder = [], 0, pipeline.encoder()
    for number, canvas in enumerate(chosen):
        own = replace(how, seed=number)
        both = Arm(name, own), in_one_window(own, canvas.box.height // pipeline.record.factor)
        if not all(place(asked.out, canvas, arm).is_file() for arm in both):
            if new >= asked.make:
                continue
            new += 1
            grid = canvas.grid(pipeline, encoder)
            for arm in both:
                made(asked.out, pipeline, grid, canvas, arm)
        done.append(canvas)
    sys.stdout.write(json.dumps(report(pipeline, done, Arm(name, how), asked.out), indent=1) + "\n")


def _in_turns(some: list[Canvas]) -> list[Canvas]:
    """One square of each section, then a second of each."""
    count: dict[str, int] = {}
    keyed: list[tuple[int, int, Canvas]] = []
    for canvas in some:
        count[canvas.entry.key] = count.get(canvas.entry.key, -1) + 1
        keyed.append((count[canvas.entry.key], len(keyed), canvas))
    return [canvas for _, _, canvas in sorted(keyed, key=lambda one: one[:2])]


if __name__ == "__main__":
    main()
