"""Autoguidance: a pipeline led away from a worse one of the same latents (Karras et al. 2024)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from patchloom.autoencoders import files as autoencoders
from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder
from patchloom.errors import MismatchError
from patchloom.pipelines.pipeline import WEIGHTS, Pipeline, load_pipeline
from patchloom.pipelines.record import AUTOENCODER
from patchloom.pipelines.reference import is_same


def autoguided(pipeline: Pipeline, worse: Pipeline) -> Pipeline:
    """`pipeline`, whose guidance leads away from `worse` in place of its own answer without a condition.

    Both are told the same grid, each in its own way. `Guidance.scale` must then be told: a pipeline's own is of its
    null branch. Raises MismatchError where the two do not speak of the same latents, or do not read the same grids.
    """
    own, other = pipeline.record, worse.record
    differing = [what for what, of_own, of_other in _compared(pipeline, worse) if of_own != of_other]
    if not is_same(own.encoder, other.encoder) and not is_same(other.encoder, own.encoder):
        differing.append(f"encoder (`{own.encoder.name}`, `{other.encoder.name}`)")
    if not pipeline.pixel_size.agrees(worse.pixel_size):
        differing.append(f"pixel size ({own.pixel_size}, {other.pixel_size})")
    if differing:
        raise MismatchError(
            f"`{other.name}` cannot guide `{own.name}`: they differ in {', '.join(differing)}. Autoguidance takes a "
            "smaller or less trained denoiser of the same autoencoder, told embeddings of the same encoder in the same "
            "cells"
        )
    return replace(pipeline, worse=worse)


def load_guided(
    name: str | Path,
    worse: str | Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Pipeline:
    """Load a pipeline, autoguided by another where one is named. Raises what `load_pipeline` and `autoguided` raise."""
    pipeline = load_pipeline(name, device, dtype)
    return pipeline if worse is None else autoguided(pipeline, load_pipeline(worse, device, dtype))


def _compared(one: Pipeline, other: Pipeline) -> list[tuple[str, Any, Any]]:
    """What must be equal: its name, and the value of each."""
    cells = f"field of view of cells ({one.record.condition.cell_px} px, {other.record.condition.cell_px} px)"
    return [
        ("autoencoder", _latents(one), _latents(other)),
        ("pixels a latent", one.record.factor, other.record.factor),
        ("channels", one.record.channels, other.record.channels),
        (cells, one.record.condition.cell_px, other.record.condition.cell_px),
    ]


def _latents(pipeline: Pipeline) -> Any:
    """What is equal for two autoencoders whose latents mean the same."""
    if isinstance(pipeline.autoencoder, ConvolutionalAutoencoder):
        return autoencoders.digest(pipeline.folder / AUTOENCODER)
    return pipeline.record.weights[WEIGHTS[0]], getattr(pipeline.autoencoder, "shape", None)
