"""Patches from embeddings: one each, variations of one, or the way from one to another, as a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.diffusion.samplers import run
from patchloom.errors import InputError
from patchloom.fields.noise import Noise
from patchloom.geometry import Box, Frame
from patchloom.grids.grid import EmbeddingGrid
from patchloom.pipelines.margin import decoded_inside, margin_of
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.settings import BATCH_LATENTS, Settings, denoiser_of, stages_of
from patchloom.rasters.opening import open_raster
from patchloom.rasters.rescaled import Rescaled

UInt8 = NDArray[np.uint8]
Cell = tuple[int, int]
_GAP = 4  # px between pictures of a sheet


def sample(
    pipeline: Pipeline, embeddings: NDArray[np.floating[Any]], settings: Settings, *, same_noise: bool = False
) -> UInt8:
    """One patch (n, 3, patch_px, patch_px) for each of n embeddings (n, dim), told to the whole patch.

    Patch k starts from noise of its own place, or all from one noise with `same_noise`, with a margin that is cut off.
    Raises InputError for a strength below 1, for which there is no image.
    """
    if settings.strength < 1:
        raise InputError("a strength below 1 begins at an image, and an embedding is none; leave it out")
    record = pipeline.record
    side = record.patch_px // record.factor + 2 * margin_of(pipeline)
    denoiser, stages = denoiser_of(pipeline, settings), stages_of(pipeline, settings)
    patches: list[UInt8] = []
    batch = settings.batch or max(BATCH_LATENTS // side**2, 1)
    for start in range(0, len(embeddings), batch):
        some = embeddings[start : start + batch]
        places = [0 if same_noise else start + k for k in range(len(some))]
        noise = partial(_noise, pipeline, settings.seed, places=places, side=side)
        with torch.no_grad():
            x = noise(0) * stages[0].sigma
            latents = run(denoiser, stages, x, pipeline.told.patches(some), lambda number: noise(1 + number))  # noqa: B023
            patches.append(decoded_inside(pipeline, latents).cpu().numpy())
    return np.concatenate(patches)


def slerp(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]], steps: int) -> NDArray[np.float32]:
    """The way (steps, dim) between two embeddings (dim,): the direction by the great circle, the length linearly.

    Shoemake (1985). Where the two point (nearly) the same way or opposite ways it goes straight, as no circle is told.
    Raises InputError for fewer than 2 steps.
    """
    if steps < 2:
        raise InputError(f"a way has two ends: at least 2 steps, not {steps}")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    t = np.linspace(0, 1, steps)[:, None]
    cosine = float(np.clip(a @ b / (lengths[0] * lengths[1]), -1, 1)) if min(lengths) > 0 else 1.0
    if abs(cosine) > 0.9995:
        return ((1 - t) * a + t * b).astype(np.float32)
    angle = np.arccos(cosine)
    direction = (np.sin((1 - t) * angle) * a / lengths[0] + np.sin(t * angle) * b / lengths[1]) / np.sin(angle)
    way: NDArray[np.float32] = (direction * ((1 - t) * lengths[0] + t * lengths[1])).astype(np.float32)
    return way


def pick_cells(grid: EmbeddingGrid, count: int, seed: int) -> list[Cell]:
    """`count` valid cells drawn without repetition, or all of them where there are fewer."""
    valid = np.argwhere(grid.valid)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(valid))[:count]
    return [(int(row), int(col)) for row, col in valid[np.sort(order)]]


def embeddings_of(grid: EmbeddingGrid, cells: Sequence[Cell]) -> NDArray[np.float32]:
    """The embeddings (n, dim) of named cells. Raises InputError for one that is not there or not valid."""
    for row, col in cells:
        if not (0 <= row < grid.rows and 0 <= col < grid.cols) or not grid.valid[row, col]:
            raise InputError(
                f"cell {row},{col} is background or outside the grid of {grid.rows} x {grid.cols} cells (rows x cols)"
            )
    return np.stack([np.asarray(grid.embeddings[cell], np.float32) for cell in cells])


def references_of(grid: EmbeddingGrid, slide: Path, cells: Sequence[Cell]) -> UInt8:
    """The pixels (n, 3, cell_px, cell_px) under named cells of the slide that the grid was embedded from."""
    own = grid.reference.pixel_size if grid.reference else None
    with open_raster(slide, own) as raster:
        scaled = Rescaled(raster, grid.pixel_size)
        top, left = (round(place) for place in grid.origin)
        return np.stack([scaled.read(grid.cell_box(*cell).moved(top, left)) for cell in cells])


def sheet(rows: Sequence[UInt8]) -> UInt8:
    """Rows of pictures (n, 3, h, w) as one picture (3, H, W) with white gaps.

    Pictures smaller than those of another row, as cells are beside patches, lie in the middle of their places.
    """
    height, width = (max(row.shape[axis] for row in rows) for axis in (2, 3))
    return _joined([_joined([_centred(one, height, width) for one in row], axis=2) for row in rows], axis=1)


def _centred(picture: UInt8, height: int, width: int) -> UInt8:
    """A picture (3, h, w) on white."""
    top, left = (height - picture.shape[1]) // 2, (width - picture.shape[2]) // 2
    place = np.full((3, height, width), 255, np.uint8)
    place[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    return place


def _joined(parts: Sequence[UInt8], axis: int) -> UInt8:
    gap = [(0, 0), (0, 0), (0, 0)]
    gap[axis] = (0, _GAP)
    padded = [np.pad(part, gap, constant_values=255) for part in parts[:-1]]
    return np.concatenate([*padded, parts[-1]], axis=axis)


def _noise(pipeline: Pipeline, seed: int, stream: int, *, places: Sequence[int], side: int) -> torch.Tensor:
    """Noise of `side` x `side` latents for patches that lie, far apart, in one row of the plane."""
    field = Noise(seed, stream, Frame(side, (max(places) + 1) * side, pipeline.record.channels, "float32"))
    drawn = np.stack([field.read(Box(0, place * side, side, side)) for place in places])
    return torch.from_numpy(drawn).to(pipeline.device)
