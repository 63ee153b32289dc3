"""Patches of a grid made one by one: what a denoiser was trained to do, without any neighbour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchloom.diffusion.samplers import run as run_stages
from patchloom.evaluation.patches import UInt8
from patchloom.geometry import Box
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.run import Run
from patchloom.pipelines.margin import decoded_inside, margin_of
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.settings import BATCH_LATENTS, Settings


def patches_at(pipeline: Pipeline, grid: EmbeddingGrid, boxes: Sequence[Box], settings: Settings) -> UInt8:
    """The pictures (n, 3, h, w) of boxes of one shape of a grid's canvas, each made as one window.

    Each box sees the cells of the grid as a window of a large image would, starts from the noise of its place, and is
    made with a margin that is cut off.
    Raises GeometryError for a box that does not lie on whole latents, and what `plan_run` raises.
    """
    run = plan_run(pipeline, grid, settings)
    margin = margin_of(pipeline)
    windows = [box.over(pipeline.record.factor).grown(margin) for box in boxes]
    batch = settings.batch or min(max(BATCH_LATENTS // windows[0].area, 1), len(windows))
    run = replace(run, batch=batch)
    parts = [_made(pipeline, run, windows[start : start + batch]) for start in range(0, len(windows), batch)]
    return np.concatenate(parts)


def _made(pipeline: Pipeline, run: Run[Any], windows: Sequence[Box]) -> UInt8:
    # Filled up with the last window: convolution libraries give other bits for another batch size.
    full = [*windows, *[windows[-1]] * (run.batch - len(windows))]
    condition = run.scene.condition(full).to(run.device, run.dtype)
    with torch.no_grad():
        start = _noise(run, full, 0) * run.stages[0].sigma
        latents = run_stages(run.denoiser, run.stages, start, condition, lambda k: _noise(run, full, 1 + k))
        pictures: UInt8 = decoded_inside(pipeline, latents[: len(windows)]).cpu().numpy()
    return pictures


def _noise(run: Run[Any], windows: Sequence[Box], stream: int) -> Tensor:
    noise = run.noise(run.seed, stream, run.latents)
    return torch.from_numpy(np.stack([noise.read(window) for window in windows])).to(run.device)
