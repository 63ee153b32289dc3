"""A reference through the autoencoder alone: the best that any denoiser of its latents could do."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.errors import GeometryError
from patchloom.fields.field import ArrayField, Field
from patchloom.fields.weave import Weave
from patchloom.geometry import Box
from patchloom.loom.decode import decode_field
from patchloom.pipelines.pipeline import Pipeline

_TILE = 64  # latents on a side


def latents_of(pipeline: Pipeline, field: Field) -> NDArray[np.float32]:
    """The latents (channels, h, w) of a field of pixels, encoded in tiles whose halo makes them exact.

    What is left of a last, cut latent is dropped. Raises GeometryError where the field is smaller than a latent.
    """
    factor, reach = pipeline.record.factor, pipeline.autoencoder.encoder_reach
    height, width = field.frame.height // factor, field.frame.width // factor
    if min(height, width) < 1:
        raise GeometryError(f"{field.frame.height} x {field.frame.width} px are less than one latent of {factor} px")
    whole = Box(0, 0, height, width)
    out = np.empty((pipeline.record.channels, height, width), np.float32)
    for y in range(0, height, _TILE):
        for x in range(0, width, _TILE):
            tile = Box(y, x, _TILE, _TILE).meet(whole)
            seen = tile.grown(reach).meet(whole)
            pixels = torch.from_numpy(np.ascontiguousarray(field.read(seen.times(factor))))[None]
            with torch.no_grad():
                latents = pipeline.autoencoder.encode(pixels.to(pipeline.device))[0].cpu().numpy()
            out[:, *tile.inside(whole)] = latents[:, *tile.inside(seen)]
    return out


def reconstruct(pipeline: Pipeline, field: Field) -> Weave:
    """A field of pixels encoded and decoded."""
    return decode_field(
        ArrayField(latents_of(pipeline, field)),
        pipeline.autoencoder,
        device=pipeline.device,
        pixel_size=pipeline.pixel_size,
    )
