"""Foreign decoders that normalise over the plane, made to treat all tiles alike.

GroupNorm measures the plane that it sees, so a decoder cut into tiles gives each a tint of its own. Here the statistics
are measured once, layer by layer, over tiles sampled from the whole canvas, and stay. What is left of the tint is the
sample's error and attention, which still sees its tile alone.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.errors import InputError
from patchloom.fields.field import Field
from patchloom.geometry import Box

SAMPLES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """An autoencoder whose decoder normalises with fixed statistics, and reaches `receptive_field` latents far."""

    whole: Autoencoder
    tiled: Autoencoder
    receptive_field: int

    @property
    def factor(self) -> int:
        """Pixels along a latent's side."""
        return self.whole.factor

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return self.whole.channels

    def encode(self, pixels: Tensor) -> Tensor:
        """As before."""
        return self.whole.encode(pixels)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (b, c, h, w) to uint8 pixels, each tile with the canvas's statistics."""
        return self.tiled.decode(latents)


def freeze(
    autoencoder: Autoencoder,
    latents: Field,
    *,
    tile: int = 64,
    margin: int = 16,
    samples: int = SAMPLES,
    seed: int = 0,
    device: torch.device | None = None,
) -> Frozen:
    """Fix the statistics of every GroupNorm of a decoder to those over tiles of a finished canvas.

    One pass decodes `samples` tiles of `tile` latents together, spread over the canvas, or all of it where it is
    small; each layer's statistics are pooled over the batch, so that later layers see what earlier ones will give.
    `margin` is how many latents tiles are to overlap by. Raises InputError where there is no module or no GroupNorm.
    """
    if not isinstance(autoencoder, nn.Module):
        raise InputError("statistics are frozen of decoders that are torch modules; this one is not")
    tiled = copy.deepcopy(autoencoder)
    if not _replaced(tiled):
        raise InputError("this decoder has no GroupNorm to freeze: what else looks at the whole plane stays as it is")
    boxes = sampled(latents.frame.box, tile, samples, seed)
    batch = torch.from_numpy(np.stack([np.asarray(latents.read(box), np.float32) for box in boxes]))
    with torch.no_grad():
        tiled.decode(batch.to(device or torch.device("cpu")))
    return Frozen(autoencoder, tiled, margin)


def sampled(canvas: Box, tile: int, samples: int, seed: int) -> list[Box]:
    """Boxes of one shape spread over a canvas: every tile of it, or a sample with one from each of equal shares."""
    height, width = min(tile, canvas.height), min(tile, canvas.width)
    tops, lefts = _starts(canvas.height, height), _starts(canvas.width, width)
    every = [Box(top, left, height, width) for top in tops for left in lefts]
    if len(every) <= samples:
        return every
    random = np.random.Generator(np.random.PCG64(seed))
    edges = np.linspace(0, len(every), samples + 1).astype(int)
    return [every[int(random.integers(a, b))] for a, b in pairwise(edges)]


class FrozenNorm(nn.Module):
    """A GroupNorm that measures the first batch that it sees, all of it together, and then stays with that."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm
        self.settled = False
        self.register_buffer("mean", torch.zeros(norm.num_groups))
        self.register_buffer("variance", torch.ones(norm.num_groups))

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) to the same."""
        groups = x.reshape(len(x), self.norm.num_groups, -1, *x.shape[2:])
        if not self.settled:
            variance, mean = torch.var_mean(groups.float(), dim=(0, 2, 3, 4), correction=0)
            self.mean, self.variance, self.settled = mean, variance, True
        scale = (self.variance + self.norm.eps).rsqrt()
        shape = (1, -1, 1, 1, 1)
        flat: Tensor = ((groups - self.mean.to(x).view(shape)) * scale.to(x).view(shape)).flatten(1, 2)
        if self.norm.weight is None:
            return flat
        return flat * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


def _replaced(module: nn.Module) -> int:
    """Replace the GroupNorms of a module in place; how many there were."""
    found = 0
    for parent in list(module.modules()):
        if isinstance(parent, FrozenNorm):
            continue
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, FrozenNorm(child))
                found += 1
    return found


def _starts(length: int, tile: int) -> list[int]:
    """Starts of tiles side by side, the last against the edge."""
    return [*range(0, length - tile, tile), length - tile]
