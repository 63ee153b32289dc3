"""The main job, from end to end: a region of a real section made anew from its embedding grid.

What it needs comes with Patchloom: a pipeline, the grid of a section that the pipeline never saw, and that region's
own pixels, which only the ceiling of the similarity looks at.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from patchloom.evaluation.similarity import Cosines, Similarity
from patchloom.fields.field import Cropped
from patchloom.grids.file import read_grid
from patchloom.machine import choose_device, choose_dtype
from patchloom.pipelines.generate import Image, generate, write
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pipelines.progress import Bars, counted
from patchloom.pipelines.request import Request
from patchloom.pipelines.settings import Settings
from patchloom.pyramids.image import write_image
from patchloom.rasters.opening import open_raster
from patchloom.trials.fidelity import fidelity
from patchloom.whole import write_text

SAMPLES = Path(__file__).parent.parent / "samples"
GRID, REFERENCE = SAMPLES / "gallbladder.grid", SAMPLES / "gallbladder.jpg"
PIPELINE = "he-foundation"


def demo(out: Path, bars: Bars, *, seed: int = 0, device: str = "auto", dtype: str = "auto") -> dict[str, Any]:
    """Write `demo.tif`, `demo.png` and `demo.json` into a folder, and return what the last one holds."""
    started = time.monotonic()
    place = choose_device(device)
    pipeline = load_pipeline(PIPELINE, place, choose_dtype(dtype, place))
    grid = read_grid(GRID)
    request = Request(pipeline, grid, Settings(seed=seed))
    windows = counted(bars("generate"), request.figures.windows + request.figures.background_windows)
    image = generate(request, progress=windows)
    out.mkdir(parents=True, exist_ok=True)
    pyramid, picture, figures = (out / name for name in ("demo.tif", "demo.png", "demo.json"))
    write(image, pyramid, compression="deflate", progress=counted(bars("write"), request.size_px[0]))
    with open_raster(pyramid) as made, open_raster(REFERENCE, pipeline.pixel_size) as reference:
        write_image(made, picture, provenance=image.provenance)
        found = fidelity(pipeline, grid, made, Cropped(reference, made.frame.box), progress=bars("compare"))
    facts = {
        "size_px": [made.frame.height, made.frame.width],
        "pipeline": PIPELINE,
        "reference": grid.reference.name if grid.reference else None,
        **likeness(found),
        **_effort(image),
        "seconds": round(time.monotonic() - started, 1),
        "threads": torch.get_num_threads(),
        "dtype": image.provenance["dtype"],
        "paths": [str(path) for path in (pyramid, picture, figures)],
    }
    write_text(figures, json.dumps(facts, indent=2) + "\n")
    return facts


def _effort(image: Image) -> dict[str, float]:
    names = ("network_evaluations", "evaluations_per_block", "evaluations_per_latent")
    return {name: getattr(image.figures, name) for name in names}


def likeness(found: Similarity) -> dict[str, Any]:
    """The figures of a similarity by their names in reports: plain cosines, and those centred by the grid's mean."""
    return {
        **_standing(found.raw),
        "centred": _standing(found.centred),
        "retrieval_auc": round(found.retrieval_auc.value, 4),
        "cells": found.n,
    }


def _standing(cosines: Cosines) -> dict[str, float | None]:
    ceiling, share = cosines.ceiling, cosines.share
    return {
        "embedding_similarity": round(cosines.value.value, 4),
        "floor_shuffled": round(cosines.floor, 4),
        "ceiling_autoencoder": round(ceiling.value, 4) if ceiling else None,
        "share_of_the_way": round(share.value, 4) if share else None,
    }
