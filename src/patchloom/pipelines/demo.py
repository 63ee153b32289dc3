"""The main job, from end to end: a region of a real section made anew from its embedding grid.

What it needs comes with Patchloom: a pipeline, the grid of a section that the pipeline never saw, and that region's
own pixels, which only the ceiling of the similarity looks at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from patchloom.evaluation.similarity import Cosines, Similarity
from patchloom.fields.field import Cropped
from patchloom.grids.file import read_grid
from patchloom.machine import choose_device, choose_dtype
from patchloom.pipelines.fidelity import fidelity
from patchloom.pipelines.generate import generate, write
from patchloom.pipelines.image_file import estimate
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pipelines.settings import Settings
from patchloom.pyramids.image import write_image
from patchloom.rasters.opening import open_raster

SAMPLES = Path(__file__).parent.parent / "samples"
GRID, REFERENCE = SAMPLES / "gallbladder.grid", SAMPLES / "gallbladder.jpg"
PIPELINE = "he-foundation"

Bars = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""A label to a progress bar, which is a function of (done, total)."""


def demo(out: Path, bars: Bars, *, seed: int = 0, device: str = "auto", dtype: str = "auto") -> dict[str, Any]:
    """Write `demo.tif`, `demo.png` and `demo.json` into a folder, and return what the last one holds."""
    started = time.monotonic()
    place = choose_device(device)
    pipeline = load_pipeline(PIPELINE, place, choose_dtype(dtype, place))
    grid = read_grid(GRID)
    cost = estimate(pipeline, grid, Settings(seed=seed))
    with bars("generate") as advance:
        told = _counted(advance, cost.windows + cost.background_windows)
        image = generate(pipeline, grid, Settings(seed=seed), progress=told)
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / name for name in ("demo.tif", "demo.png", "demo.json")]
    with bars("write") as advance:
        write(image, paths[0], compression="deflate", progress=_counted(advance, cost.canvas_px[0]))
    with open_raster(paths[0]) as made, open_raster(REFERENCE, pipeline.pixel_size) as reference:
        write_image(made, paths[1], provenance=image.provenance)
        with bars("compare") as advance:
            found = fidelity(pipeline, grid, made, Cropped(reference, made.frame.box), progress=advance)
    facts = {
        "size_px": [made.frame.height, made.frame.width],
        "pipeline": PIPELINE,
        "reference": grid.reference.name if grid.reference else None,
        **likeness(found),
        "network_evaluations": image.figures.network_evaluations,
        "evaluations_per_block": image.figures.evaluations_per_block,
        "evaluations_per_latent": image.figures.evaluations_per_latent,
        "seconds": round(time.monotonic() - started, 1),
        "threads": torch.get_num_threads(),
        "dtype": image.provenance["dtype"],
        "paths": [str(path) for path in paths],
    }
    paths[2].write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def _counted(advance: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """A bar told (done, total) as a function of how many were finished since the last call."""
    done = 0

    def add(more: int) -> None:
        nonlocal done
        done += more
        advance(done, total)

    return add


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
