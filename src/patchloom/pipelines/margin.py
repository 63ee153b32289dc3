"""Latents around a picture that are made with it and cut off."""

from __future__ import annotations

import torch
from torch import Tensor

from patchloom.loom.decode import decode_windows
from patchloom.pipelines.conditioning import ByCells
from patchloom.pipelines.pipeline import Pipeline

_MARGIN = 4  # latents


def margin_of(pipeline: Pipeline) -> int:
    """Latents around an image that are made with it and cut off.

    Convolutions put zeros around what they see, so the outermost latents of a picture are unlike all others, and pixels
    decoded beside them are dotted. Denoisers that are told tokens know windows of one size, and are given no more.
    """
    every = [one.conditioning for one in (pipeline, pipeline.worse) if one is not None]
    return _MARGIN if all(isinstance(one, ByCells) for one in every) else 0


def decoded_inside(pipeline: Pipeline, latents: Tensor) -> Tensor:
    """Pictures (n, 3, h, w), uint8, of latents (n, channels, ...) that were made with the margin around them."""
    cut = margin_of(pipeline) * pipeline.record.factor
    with torch.no_grad():
        pixels = decode_windows(latents, pipeline.autoencoder)
    return pixels[..., cut : pixels.shape[-2] - cut, cut : pixels.shape[-1] - cut]
