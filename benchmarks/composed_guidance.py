"""Scales of guidance beside one another on validation images that are too small for a canvas each.

    python benchmarks/composed_guidance.py aerial-foundation configs/aerial/training.csv --out work/bench/guidance

The val images of a table (never test) are halved as `patchloom evaluate pipeline` halves small slides: canvases are
composed of A's embeddings, their crops held against B in efficientnet-lite0, and their cells against their own grid in
the conditioning encoder and in any `--encoder`. Axes are those of the table's train images. Canvases are kept as PNG,
to be looked at; the table goes to stdout, every figure with its interval to the end of OUT/figures.jsonl, so that
scales may be measured one at a time (`--scales 3`), with `--rescale` and `--steps` too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchloom.datasets.manifest import Entry, read_manifest
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.registry import load_encoder
from patchloom.evaluation.comparison import compare
from patchloom.evaluation.estimates import Figure, Side
from patchloom.evaluation.features import features
from patchloom.evaluation.patches import UInt8, from_arrays
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box
from patchloom.grids.grid import EmbeddingGrid
from patchloom.machine import choose_dtype
from patchloom.pipelines.generate import generate
from patchloom.pipelines.guidance import Guidance
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.reconstruct import reconstruct
from patchloom.pipelines.request import Request
from patchloom.pipelines.settings import Settings
from patchloom.pyramids.image import write_image
from patchloom.rasters.mosaic import Mosaic
from patchloom.rasters.opening import open_raster
from patchloom.rasters.rescaled import Rescaled
from patchloom.trials.composed import cells_side_by_side
from patchloom.trials.evaluate import others, space_of
from patchloom.trials.fidelity import fidelity
from patchloom.trials.held_out import turn
from patchloom.trials.over_slides import similarity_of_slides
from patchloom.trials.sides import Cut, open_side

JUDGE = "efficientnet-lite0"
DISTANCES = ("frechet_axes", "kernel")
ALIKE = ("similarity_raw", "similarity_raw_share_of_way", "retrieval_auc")


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """A mosaic of real images, its grid, what the autoencoder keeps of it, and where its images' middles lie."""

    grid: EmbeddingGrid
    real: ArrayField
    through: ArrayField
    places: tuple[Box, ...]


def halves(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The images that canvases are composed of, and those that their crops are held against."""
    counts, before = Counter(one.group for one in entries), list[str]()
    sides: tuple[list[Entry], list[Entry]] = ([], [])
    for one in entries:
        sides[turn(one.group, before, counts[one.group])].append(one)
        before.append(one.group)
    return sides


def canvases(pipeline: Pipeline, encoder: Encoder, some: Sequence[Entry], count: int, columns: int) -> list[Canvas]:
    """Square mosaics of images drawn without repetition."""
    cell, patch = pipeline.record.condition.cell_px, pipeline.record.patch_px
    side = 2 * cell
    order, found = np.random.default_rng(0).permutation(len(some)), []
    for k in range(count):
        part = [some[int(place)].path for place in order[k * columns**2 :][: columns**2]]
        mosaic = Mosaic(tuple(part), columns, side, pipeline.pixel_size, some[0].pixel_size)
        real = held(mosaic)
        margin = (side - patch) // 2 // pipeline.record.factor * pipeline.record.factor
        corners = [(k // columns * side + margin, k % columns * side + margin) for k in range(columns**2)]
        places = tuple(Box(y, x, patch, patch) for y, x in corners)
        grid = cells_side_by_side(real, encoder, cell)
        found.append(Canvas(grid, real, held(reconstruct(pipeline, real)), places))
    return found


def is_whole(pipeline: Pipeline, one: Entry) -> bool:
    """Whether an image holds a square of the canvas."""
    with open_raster(one.path, one.pixel_size) as raster:
        return min(Rescaled(raster, pipeline.pixel_size).frame.box.shape) >= 2 * pipeline.record.condition.cell_px


def held(field: Any) -> ArrayField:
    """All of a field in memory."""
    return ArrayField(field.read(field.frame.box), field.frame.pixel_size)


def cut(canvas: Canvas, field: ArrayField) -> list[UInt8]:
    """The pictures at a canvas's places."""
    return [np.ascontiguousarray(field.read(box)) for box in canvas.places]


def measured(
    pipeline: Pipeline, every: Sequence[Canvas], made: Sequence[ArrayField], judges: Sequence[Encoder], sides: Any
) -> list[Figure]:
    """Distances of the crops, and similarity in each judge."""
    network, reference, source, axes = sides
    crops = [one for canvas, image in zip(every, made, strict=True) for one in cut(canvas, image)]
    seen = features(from_arrays(crops, "crops", groups=source.groups), network)
    found = list(compare(reference, seen, source=source, training=axes))
    for judge in judges:
        alike = [
            fidelity(pipeline, canvas.grid, image, canvas.real, through=canvas.through, encoder=judge)
            for canvas, image in zip(every, made, strict=True)
        ]
        found += similarity_of_slides(alike, space_of(judge), ())
    return [one for one in found if isinstance(one, Figure)]


def sides_of(pipeline: Pipeline, table: Path, every: Sequence[Canvas], others: Sequence[Entry], out: Path) -> Any:
    """The judge, and its features of B, of A's crops and of training images, which `out` keeps."""
    network = load_encoder(JUDGE, "cpu", pipeline.dtype)
    patch, size = pipeline.record.patch_px, pipeline.pixel_size
    real = [one for canvas in every for one in cut(canvas, canvas.real)]
    names = np.array([f"A {k}" for k in range(len(real))], dtype=object)
    source = features(from_arrays(real, "half A", groups=names), network)
    middles = [held(Mosaic((one.path,), 1, patch, size, one.pixel_size)).array for one in others]
    names = np.array([f"B {k}" for k in range(len(middles))], dtype=object)
    reference = features(from_arrays(middles, "half B", groups=names), network)
    seen, kept = open_side(table, Cut(patch, None, size, 500), "train").patches, out / "training.npy"
    if not kept.is_file():
        np.save(kept, features(seen, network).rows)
    training = replace(reference, rows=np.load(kept), side=Side(seen.name, seen.n, seen.codec), groups=seen.groups)
    return network, reference, source, training


def columns_of(judges: Sequence[Encoder]) -> list[tuple[str, str]]:
    """Figure and network of each column of the table."""
    return [*((name, JUDGE) for name in DISTANCES), *((name, one.spec.name) for one in judges for name in ALIKE)]


def row(scale: float, found: Sequence[Figure], judges: Sequence[Encoder]) -> str:
    """A line of the table."""
    by_name = {(one.name, one.space.network): one.estimate for one in found if one.space is not None}
    cells = [f"{scale:g}"]
    for column in columns_of(judges):
        if column not in by_name:
            cells.append("absent")
            continue
        estimate = by_name[column]
        interval, floor = estimate.interval, estimate.floor
        told = f"{estimate.value:.3g}" + (f" ({interval.low:.3g} to {interval.high:.3g})" if interval else "")
        cells.append(told + (f", floor {floor.value:.3g}" if floor else ""))
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Scales of guidance on canvases composed of validation images.")
    parser.add_argument("pipeline")
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scales", type=float, nargs="+", default=[1, 2, 3, 4, 5, 7])
    parser.add_argument("--rescale", type=float, default=0.0, help="share of the added deviation that is taken back")
    parser.add_argument("--steps", type=int, help="default: the pipeline's")
    parser.add_argument("--canvases", type=int, default=4)
    parser.add_argument("--columns", type=int, default=4, help="images along a canvas")
    parser.add_argument("--encoder", action="append", default=[], help="another judge of similarity, by name or folder")
    asked = parser.parse_args()
    device = torch.device("cpu")
    pipeline = load_pipeline(asked.pipeline, device, choose_dtype("auto", device))
    own = pipeline.encoder()
    judges = [own, *others(own, [load_encoder(name, device, pipeline.dtype) for name in asked.encoder])]
    val = [one for one in read_manifest(asked.table) if one.split == "val"]
    usual = Counter(one.pixel_size for one in val).most_common(1)[0][0]
    a, b = halves([one for one in val if one.pixel_size == usual and is_whole(pipeline, one)])
    every = canvases(pipeline, own, a, asked.canvases, asked.columns)
    asked.out.mkdir(parents=True, exist_ok=True)
    sides = sides_of(pipeline, asked.table, every, b, asked.out)
    heads = ["guidance", *(f"{name}, {network}" for name, network in columns_of(judges))]
    sys.stdout.write("| " + " | ".join(heads) + " |\n" + "| --- " * len(heads) + "|\n")
    with (asked.out / "figures.jsonl").open("a") as log:
        for scale in asked.scales:
            how = Settings(steps=asked.steps, guidance=Guidance(scale, rescale=asked.rescale))
            images = [generate(Request(pipeline, one.grid, how)) for one in every]
            made = [held(image.pixels) for image in images]
            for number, (image, pixels) in enumerate(zip(images, made, strict=True)):
                name = f"g{scale:g}-r{asked.rescale:g}-{number}.png"
                write_image(pixels, asked.out / name, provenance=image.provenance)
            found = measured(pipeline, every, made, judges, sides)
            for one in found:
                interval, floor = one.estimate.interval, one.estimate.floor
                told = {
                    "guidance": scale,
                    "rescale": asked.rescale,
                    "steps": asked.steps,
                    "name": one.name,
                    "network": one.space.network if one.space else None,
                }
                told |= {"value": one.estimate.value, "n": one.estimate.n, "floor": floor.value if floor else None}
                told |= {"interval": [interval.low, interval.high] if interval else None, "how": one.estimate.how}
                log.write(json.dumps(told) + "\n")
            sys.stdout.write(row(scale, found, judges) + "\n")
            sys.stdout.flush()
            log.flush()


if __name__ == "__main__":
    main()
