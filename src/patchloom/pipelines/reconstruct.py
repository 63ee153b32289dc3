"""A reference through the autoencoder alone: the best that any denoiser of its latents could do."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder
from patchloom.errors import GeometryError
from patchloom.fields.field import ArrayField, Field
from patchloom.fields.weave import Weave
from patchloom.geometry import Box, Lattice
from patchloom.loom.decode import decode_field
from patchloom.loom.plan import halo
from patchloom.pipelines.pipeline import Pipeline

_TILE = 64  # latents on a side


def latents_of(pipeline: Pipeline, field: Field) -> NDArray[np.float32]:
    """The latents (channels, h, w) of a field of pixels, encoded in tiles whose halo makes them exact.

    Encoders that see the whole of a tile cannot be exact: they are shown patches, as in training, of which three
    quarters of a side are kept. What is left of a last, cut latent is dropped. Raises GeometryError where the field is
    smaller than a latent.
    """
    factor = pipeline.record.factor
    height, width = field.frame.height // factor, field.frame.width // factor
    if min(height, width) < 1:
        raise GeometryError(f"{field.frame.height} x {field.frame.width} px are less than one latent of {factor} px")
    out = np.empty((pipeline.record.channels, height, width), np.float32)
    for window in _tiles(pipeline, (height, width)):
        pixels = torch.from_numpy(np.ascontiguousarray(field.read(window.box.times(factor))))[None]
        with torch.no_grad():
            latents = pipeline.autoencoder.encode(pixels.to(pipeline.device))[0].cpu().numpy()
        out[:, *window.core.inside(Box(0, 0, height, width))] = latents[:, *window.core.inside(window.box)]
    return out


def _tiles(pipeline: Pipeline, shape: tuple[int, int]) -> Lattice:
    encoder, patch = pipeline.autoencoder, pipeline.record.patch_px // pipeline.record.factor
    if isinstance(encoder, ConvolutionalAutoencoder):
        return halo(shape, _TILE + 2 * encoder.encoder_reach, _TILE)
    return halo(shape, patch, max(patch * 3 // 4, 1))


def reconstruct(pipeline: Pipeline, field: Field) -> Weave:
    """A field of pixels encoded and decoded."""
    return decode_field(
        ArrayField(latents_of(pipeline, field)),
        pipeline.autoencoder,
        device=pipeline.device,
        pixel_size=pipeline.pixel_size,
    )
