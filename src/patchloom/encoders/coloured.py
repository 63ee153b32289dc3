"""Embeddings that also say the colours of a picture: six values more than an encoder's own.

Networks trained on photographs learn not to mind colour, so little of a section's stain, or of a field's green, is in
what they say, and a generator conditioned on it has to guess: it paints what is usual. Mean and deviation of each
channel say enough.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import torch
from torch import Tensor

from patchloom.encoders.encoder import Encoder
from patchloom.encoders.network import NetworkEncoder
from patchloom.errors import InputError

SUFFIX = "+colour"
VALUES = 6  # mean of R, G, B, from -0.5 for none to 0.5 for all of it; then their deviations, from 0 to 0.5
_LEAST = 1e-8  # variance that a flat picture is given: a root has no slope at 0


def coloured(encoder: Encoder) -> NetworkEncoder:
    """The encoder called `NAME+colour`: the embeddings of NAME, and then the colours of what its network sees.

    The six values are small beside an embedding, so cosines between embeddings hardly know of them.
    Raises InputError for an encoder that is no network over pixels.
    """
    if not isinstance(encoder, NetworkEncoder):
        raise InputError(f"encoder `{encoder.spec.name}` is no network over pixels; leave out `{SUFFIX}`")
    own = encoder.spec
    digest = f"sha256:{sha256(f'{own.digest}{SUFFIX}'.encode()).hexdigest()}"
    spec = replace(own, name=own.name + SUFFIX, dim=own.dim + VALUES, digest=digest)
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (own.mean, own.std))

    def embed(picture: Tensor) -> Tensor:
        pixels = picture.float() * std.to(picture.device) + mean.to(picture.device)
        return torch.cat([encoder.embed(picture).float(), colours(pixels)], dim=1)

    return encoder.saying(spec, embed)


def colours(pixels: Tensor) -> Tensor:
    """Mean less a half, and standard deviation, of each channel of pixels (b, 3, h, w) from 0 to 1: (b, 6)."""
    variance = pixels.var((2, 3), correction=0)
    return torch.cat([pixels.mean((2, 3)) - 0.5, (variance + _LEAST).sqrt()], dim=1)
