"""Does a denser grid follow the layout more closely? One region, several strides, one judge.

    python benchmarks/stride.py PIPELINE SLIDE --region 0,0,1024,1024 --slide-pixel-size 0.5um

The region's own embeddings at each stride make an image; every image is judged on the cells of one grid, the densest,
which no image was made to please more than another. All else (seed, plan, steps, guidance) is the pipeline's default.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from patchloom.encoders.slide import embed_slide
from patchloom.fields.field import ArrayField, Cropped
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.pipelines.generate import generate
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.request import Request
from patchloom.trials.fidelity import fidelity


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--region", type=Box.parse)
    parser.add_argument("--slide-pixel-size", type=PixelSize.parse)
    parser.add_argument("--strides", type=int, nargs="+", default=[128, 64, 32])
    return parser.parse_args()


def grid_at(pipeline: Pipeline, said: argparse.Namespace, stride_px: int) -> EmbeddingGrid:
    """The region's grid in cells of the pipeline, `stride_px` apart."""
    return embed_slide(
        said.slide,
        pipeline.encoder(),
        pixel_size=pipeline.pixel_size,
        slide_pixel_size=said.slide_pixel_size,
        cell_px=pipeline.record.condition.cell_px,
        stride_px=stride_px,
        region=said.region,
    )


def main() -> None:
    """Print one JSON object a stride."""
    said = arguments()
    pipeline = load_pipeline(said.pipeline)
    judge = grid_at(pipeline, said, min(said.strides))
    for stride_px in said.strides:
        grid = judge if stride_px == judge.stride_px else grid_at(pipeline, said, stride_px)
        image = generate(Request(pipeline, grid))
        pixels = ArrayField(image.pixels.read(image.pixels.frame.box), pipeline.pixel_size)
        found = fidelity(pipeline, judge, Cropped(pixels, pixels.frame.box))
        row = {
            "stride_px": stride_px,
            "similarity": round(found.raw.value.value, 4),
            "floor": round(found.raw.floor, 4),
            "centred": round(found.centred.value.value, 4),
            "retrieval_auc": round(found.retrieval_auc.value, 4),
            "judged_cells": found.n,
        }
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
