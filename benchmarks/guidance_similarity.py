"""What similarity guidance gives and costs: likeness in the encoder that conditions and in others, crops, time.

    python benchmarks/guidance_similarity.py --out FOLDER --judge ENCODER   # makes what is missing, prints a table
    python benchmarks/guidance_similarity.py --out FOLDER --judge ENCODER --arm plain --arm "0.1 in 0.2 to 5"

On squares of the validation sections, on which defaults may be chosen. All rows have the same weights, grids and noise.
A gradient through an encoder may please that encoder alone, so likeness and crops are measured by `--judge` too: an
encoder that did not condition, such as a folder that `patchloom train` wrote. Shares are of the way from the floor
(other cells of the same image) to the ceiling (the real picture through the autoencoder). Distances are of crops of 256
px to the real ones, and rough with few canvases. Time is that of this process's CPU on one thread, of denoising alone.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from loom_canvases import (
    TRAINING,
    Arm,
    Canvas,
    Pixels,
    canvases,
    crops_of,
    judge,
    kept,
    made,
    place,
)
from numpy.typing import NDArray

from patchloom.diffusion.guidance_similarity import Pull
from patchloom.encoders.embed import embed
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.registry import load_encoder
from patchloom.evaluation.kernel import kernel
from patchloom.evaluation.similarity import grid_similarity
from patchloom.fields.field import ArrayField, Field
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.decode import decode_field
from patchloom.machine import DTYPES
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.reconstruct import reconstruct
from patchloom.pipelines.settings import Settings


def pulled(strength: float, low: float, high: float, steps: int = 2) -> Arm:
    """Similarity guidance of a strength, between two noise levels."""
    name = f"{strength:g} in {low:g} to {high:g}" + ("" if steps == 2 else f", {steps} steps")
    return Arm(name, Settings(similarity=Pull(strength, (low, high), steps)))


ARMS = [
    Arm("plain", Settings()),
    pulled(0.1, 0.2, 5),
    pulled(0.3, 0.2, 5),
    pulled(0.1, 1, 15),
    pulled(0.3, 1, 15),
    pulled(0.3, 1, 15, steps=4),
]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """An encoder, and what every row is compared with in it."""

    encoder: Encoder  # of cells
    crops: Encoder  # of crops; another input size where cells are small
    real: NDArray[np.float64]  # features of the real crops (n, dim)
    grids: list[EmbeddingGrid]  # of the real canvases
    ceilings: list[EmbeddingGrid]  # of the same through the autoencoder

    @classmethod
    def of(cls, encoder: Encoder, crops: Encoder, table: Table) -> View:
        """What is measured once."""
        pipeline = table.pipeline
        pictures = [canvas.pixels(pipeline) for canvas in table.canvases]
        grids = [canvas.grid(pipeline, encoder) for canvas in table.canvases]
        again = [reconstruct(pipeline, ArrayField(picture)) for picture in pictures]
        ceilings = [cells_of(field, grid, encoder) for field, grid in zip(again, grids, strict=True)]
        return cls(encoder, crops, _flat(crops_of(pictures, crops)), grids, ceilings)

    def likeness(self, pictures: list[Pixels]) -> list[str]:
        """How far pictures of the canvases follow them, averaged over canvases."""
        found = [
            grid_similarity(grid, cells_of(ArrayField(picture), grid, self.encoder), ceiling)
            for picture, grid, ceiling in zip(pictures, self.grids, self.ceilings, strict=True)
        ]
        value, floor, ceiling = (
            float(np.mean(values))
            for values in (
                [one.raw.value.value for one in found],
                [one.raw.floor for one in found],
                [one.raw.ceiling.value for one in found if one.raw.ceiling is not None],
            )
        )
        centred = float(np.mean([one.centred.value.value for one in found]))
        auc = float(np.mean([one.retrieval_auc.value for one in found]))
        share = f"{100 * (value - floor) / (ceiling - floor):.0f} %"
        return [f"{value:.3f}", f"{floor:.3f}", f"{ceiling:.3f}", share, f"{centred:.3f}", f"{auc:.3f}"]

    def away(self, pictures: list[Pixels]) -> str:
        """Unbiased kernel distance of crops."""
        return f"{kernel(self.real, _flat(crops_of(pictures, self.crops))):.3f}"


def _flat(features: NDArray[np.float32]) -> NDArray[np.float64]:
    return features.reshape(-1, features.shape[-1]).astype(np.float64)


def cells_of(field: Field, grid: EmbeddingGrid, encoder: Encoder) -> EmbeddingGrid:
    """The cells of a picture, where a grid has them."""
    return embed(
        field,
        encoder,
        cell_px=grid.cell_px,
        stride_px=grid.stride_px,
        valid=grid.valid,
        pixel_size=grid.pixel_size,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The canvases, and the ways they are made."""

    pipeline: Pipeline
    folder: Path
    canvases: list[Canvas]
    arms: list[Arm]

    def make(self) -> None:
        """What the folder lacks."""
        encoder = self.pipeline.encoder()
        for canvas in self.canvases:
            if not all(place(self.folder, canvas, arm).is_file() for arm in self.arms):
                grid = canvas.grid(self.pipeline, encoder)
                for arm in self.arms:
                    made(self.folder, self.pipeline, grid, canvas, arm)

    def pictures(self, arm: Arm) -> list[Pixels]:
        """Decoded anew from the latents, as `patchloom generate` decodes."""
        latents = [ArrayField(kept(place(self.folder, canvas, arm)).latents) for canvas in self.canvases]
        size = self.pipeline.pixel_size
        fields = [decode_field(one, self.pipeline.autoencoder, pixel_size=size, mirror=True) for one in latents]
        return [np.asarray(field.read(field.frame.box)) for field in fields]

    def row(self, arm: Arm, views: list[View]) -> str:
        """A line of the table."""
        pictures = self.pictures(arm)
        facts = [kept(place(self.folder, canvas, arm)).facts for canvas in self.canvases]
        area = sum(picture[0].size for picture in pictures) / 1e6
        cells = [arm.name, f"{sum(one['denoise_cpu_seconds'] for one in facts) / area:.1f}"]
        for view in views:
            cells += [*view.likeness(pictures), view.away(pictures)]
        return f"| {' | '.join(cells)} |"


def main() -> None:
    """Make, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="he-foundation")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is made; the same command goes on")
    parser.add_argument("--judge", action="append", default=[], help="an encoder that did not condition, by name")
    parser.add_argument("--arm", action="append", choices=[arm.name for arm in ARMS], help="these rows alone")
    parser.add_argument("--side", type=int, default=512, help="of a canvas in px")
    parser.add_argument("--each", type=int, default=2, help="canvases of a section")
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    parser.add_argument("--only-make", action="store_true", help="do not report")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = load_pipeline(asked.pipeline, "cpu", DTYPES[asked.dtype])
    ways = [arm for arm in ARMS if asked.arm is None or arm.name in asked.arm]
    table = Table(pipeline, asked.out, canvases(pipeline, TRAINING, "val", asked.side, asked.each), ways)
    table.make()
    if asked.only_make:
        return
    others = [load_encoder(name, "cpu", DTYPES[asked.dtype]) for name in asked.judge]
    views = [View.of(pipeline.encoder(), judge(), table), *(View.of(one, one, table) for one in others)]
    sys.stdout.write(_head(table, views))
    for arm in ways:
        sys.stdout.write(table.row(arm, views) + "\n")
        sys.stdout.flush()


def _head(table: Table, views: list[View]) -> str:
    names = ["similarity", "floor", "ceiling", "share of the way", "centred", "AUC", "kernel"]
    cells = ["guidance", "CPU s per Mpx", *(f"{name}, {view.encoder.spec.name}" for view in views for name in names)]
    said = "; ".join(f"{len(view.real)} crops in {view.crops.spec.name}" for view in views)
    return f"{len(table.canvases)} canvases. {said}\n\n| {' | '.join(cells)} |\n{'| --- ' * len(cells)}|\n"


if __name__ == "__main__":
    main()
