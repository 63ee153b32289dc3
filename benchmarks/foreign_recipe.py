"""What the official recipe's habits do to a picture: one region, one network, one noise, four ways.

    python benchmarks/foreign_recipe.py --out docs/images/recipe.jpg

`he-foundation` was told its noise level by its logarithm, not by a timestep, so the official loop is put around it
here: its levels, its noise, its averaged windows, and the level of the timestep after the one that belongs to the
image. Left to right: the section itself, the default for imported models, the official recipe, and the official
recipe at the default's guidance. On stdout, the deviation and the grain (mean difference of neighbours) of each.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.denoiser import Denoiser
from patchloom.diffusion.guidance import guided
from patchloom.diffusion.levels import ddpm_uniform
from patchloom.diffusion.official import SCALE, official_stages, start_deviation
from patchloom.diffusion.parametrisation import NoiseLabel, Preconditioned
from patchloom.diffusion.samplers import dpmpp_2m
from patchloom.fields.noise import Noise
from patchloom.fields.views import Scaled
from patchloom.geometry import Box, Frame
from patchloom.grids.file import read_grid
from patchloom.loom.decode import decode_field
from patchloom.loom.figures import guided_evaluations
from patchloom.loom.orders import weave_canvas
from patchloom.loom.plan import Plan
from patchloom.loom.run import Run, figures
from patchloom.machine import DTYPES
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.rasters.opening import open_raster
from patchloom.trials.demo import GRID, PIPELINE, REFERENCE

LABEL = NoiseLabel("ddpm")
WINDOW = 32  # latents: a patch of 256 px
GUIDANCE = 2.0  # of imported models where nothing else is said


def one_late(own: Preconditioned[GridCondition]) -> Denoiser[GridCondition]:
    """The denoiser that tells its network the level of the next timestep; there is none after the last."""
    levels = torch.from_numpy(LABEL.table)

    def denoiser(x: Tensor, sigma: Tensor, condition: GridCondition) -> Tensor:
        after = (torch.searchsorted(levels, sigma.double() * (1 - 1e-4)) + 1).clamp(max=len(levels) - 1)
        factors = (part[:, None, None, None] for part in own.parametrisation.scalings(sigma))
        skip, out, into = factors
        label = own.parametrisation.label(levels[after].to(sigma))
        weight = next(iter(own.parameters()))
        answer: Tensor = own.network((into * x).to(weight.dtype), label, condition)
        return skip * x + out * answer.to(x.dtype)

    return denoiser


def runs(pipeline: Pipeline, scene: Any, latents: Frame, seed: int) -> dict[str, Run[GridCondition]]:
    """The three ways of making the region."""
    stages = official_stages(LABEL)
    default: Run[GridCondition] = Run(
        denoiser=guided(pipeline.denoiser, GUIDANCE),
        stages=dpmpp_2m(ddpm_uniform(20, LABEL.table)),
        scene=scene,
        plan=Plan.of("halo", WINDOW, None),
        latents=latents,
        seed=seed,
        dtype=pipeline.dtype,
        evaluations=guided_evaluations(GUIDANCE),
    )
    official = replace(
        default,
        denoiser=guided(one_late(pipeline.denoiser), SCALE),
        stages=stages,
        plan=Plan.of("average", WINDOW, None),
        start=Scaled(Noise(seed, 0, latents), start_deviation(stages[0].sigma)),
    )
    gentle = replace(official, denoiser=guided(one_late(pipeline.denoiser), GUIDANCE))
    return {"default": default, "official": official, "official, guidance 2": gentle}


def grain(pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Deviation, and mean difference of neighbours, of the grey picture in levels."""
    grey = pixels.mean(0)
    steps = (np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1))
    return {"deviation": round(float(grey.std()), 2), "grain": round(float(np.mean(list(steps))), 2)}


def main() -> None:
    """Make the picture, and print one JSON object for each part of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--at", type=int, nargs=2, default=(1024, 1024), metavar=("X", "Y"), help="in pixels")
    parser.add_argument("--side", type=int, default=384, help="in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=list(DTYPES), default="bf16")
    asked = parser.parse_args()
    pipeline, grid = load_pipeline(PIPELINE, dtype=DTYPES[asked.dtype]), read_grid(GRID)
    factor, (x, y) = pipeline.record.factor, asked.at
    centre, step = grid.cell_px / 2 / factor, grid.stride_px / factor
    scene = pipeline.conditioning.over(
        grid.embeddings, grid.valid, (centre - y / factor, centre - x / factor), (step, step)
    )
    latents = Frame(asked.side // factor, asked.side // factor, pipeline.record.channels, "float32")
    with open_raster(REFERENCE, pipeline.pixel_size) as section:
        made = {"section": section.read(Box(y, x, asked.side, asked.side))}
    sys.stdout.write(json.dumps({"part": "section", **grain(made["section"])}) + "\n")
    for name, run in runs(pipeline, scene, latents, asked.seed).items():
        pixels = decode_field(weave_canvas(run), pipeline.autoencoder)
        made[name] = pixels.read(pixels.frame.box)
        told = {"part": name, "evaluations": figures(run, factor).network_evaluations, **grain(made[name])}
        sys.stdout.write(json.dumps(told) + "\n")
    gap = np.full((3, asked.side, 8), 255, np.uint8)
    parts = [part for pixels in made.values() for part in (pixels, gap)][:-1]
    Image.fromarray(np.concatenate(parts, axis=2).transpose(1, 2, 0)).save(asked.out, quality=88)


if __name__ == "__main__":
    main()
