"""Foreign decoders that normalise over the plane, made to treat all tiles alike.

GroupNorm measures the plane that it sees, so a decoder cut into tiles gives each a tint of its own. Here the statistics
are measured once, layer by layer, over tiles sampled from the whole canvas, and stay. What is left of the tint is the
sample's error and attention, which still sees its tile alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.errors import InputError
from patchloom.fields.field import Field
from patchloom.fields.views import around
from patchloom.geometry import OPEN, Lattice, Period, Window

SAMPLES = 16
_PROBE = 8  # latents on a side of what tells a decoder's reach
M = TypeVar("M", bound=nn.Module)
R = TypeVar("R", bound=nn.Module)


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

    @property
    def lesson(self) -> bytes | None:
        """The statistics alone, some kilobytes, of which `taught` makes the same decoder; None where there are none."""
        norms = _frozen_norms(self.tiled)
        measured = [part for norm in norms for part in (norm.mean, norm.variance)]
        return torch.cat(measured).cpu().numpy().tobytes() if norms else None


@dataclass(slots=True)
class Seen:
    """The windows whose tiles a decoder is being shown, and so which part of each counts: what no other tile gives."""

    windows: Sequence[Window] = ()

    def cores(self, x: Tensor) -> Tensor:
        """Features (b, channels, h, w) of the tiles to those of their cores (channels, places)."""
        return torch.cat([self._core(tile, window) for tile, window in zip(x, self.windows, strict=True)], dim=1)

    def _core(self, tile: Tensor, window: Window) -> Tensor:
        scale = tile.shape[-1] // window.box.width
        return tile[:, *window.core.times(scale).inside(window.box.times(scale))].flatten(1)


def freeze(
    autoencoder: Autoencoder,
    latents: Field,
    windows: Sequence[Window],
    *,
    margin: int,
    period: Period = OPEN,
    device: torch.device | None = None,
) -> Frozen:
    """Fix the statistics of every GroupNorm of a decoder to those over tiles of a finished canvas.

    One pass decodes windows of one shape together, such as those of `sampled`; each layer's statistics are pooled over
    the cores of all, so that later layers see what earlier ones will give. `margin` is how many latents tiles are to
    overlap by. Raises InputError where there is no module or no GroupNorm.
    """
    if not isinstance(autoencoder, nn.Module):
        raise InputError("statistics are frozen of decoders that are torch modules; this one is not")
    tiled, seen = copy.deepcopy(autoencoder), Seen(windows)
    if not replaced(tiled, nn.GroupNorm, lambda norm: FrozenNorm(norm, seen)):
        raise InputError("this decoder has no GroupNorm to freeze: what else looks at the whole plane stays as it is")
    source = around(latents, period)
    batch = torch.from_numpy(np.stack([np.asarray(source.read(window.box), np.float32) for window in windows]))
    with torch.no_grad():
        tiled.decode(batch.to(device or torch.device("cpu")))
    return Frozen(autoencoder, tiled, margin)


def taught(autoencoder: Autoencoder, lesson: bytes) -> Autoencoder:
    """A copy of an autoencoder whose decoder has the statistics of another one's `Frozen.lesson`."""
    if not isinstance(autoencoder, nn.Module):
        raise InputError("statistics are taught to decoders that are torch modules; this one is not")
    tiled = copy.deepcopy(autoencoder)
    norms = replaced(tiled, nn.GroupNorm, lambda norm: FrozenNorm(norm, Seen()))
    values = torch.frombuffer(bytearray(lesson), dtype=torch.float32).to(next(tiled.parameters()).device)
    parts = torch.split(values, [norm.norm.num_groups for norm in norms for _ in ("mean", "variance")])
    for norm, mean, variance in zip(norms, parts[::2], parts[1::2], strict=True):
        norm.mean, norm.variance, norm.settled = mean, variance, True
    return tiled


def sampled(lattice: Lattice, samples: int = SAMPLES, seed: int = 0) -> list[Window]:
    """Windows spread over a canvas: every one of a lattice, or one from each of equal shares."""
    if len(lattice) <= samples:
        return list(lattice)
    random = np.random.Generator(np.random.PCG64(seed))
    edges = np.linspace(0, len(lattice), samples + 1).astype(int)
    return [lattice.window(int(random.integers(a, b))) for a, b in pairwise(edges)]


class FrozenNorm(nn.Module):
    """A GroupNorm that measures the first batch that it sees, all of it together, and then stays with that."""

    mean: Tensor  # of each group
    variance: Tensor

    def __init__(self, norm: nn.GroupNorm, seen: Seen) -> None:
        super().__init__()
        self.norm, self.seen = norm, seen
        self.settled = False
        self.register_buffer("mean", torch.zeros(norm.num_groups))
        self.register_buffer("variance", torch.ones(norm.num_groups))

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) to the same."""
        if not self.settled:
            groups = self.seen.cores(x.float()).reshape(self.norm.num_groups, -1)
            self.variance, self.mean = torch.var_mean(groups, dim=1, correction=0)
            self.settled = True
        return normalised(x, self.norm, self.mean, self.variance)


def _frozen_norms(decoder: Autoencoder) -> list[FrozenNorm]:
    layers = decoder.modules() if isinstance(decoder, nn.Module) else ()
    return [layer for layer in layers if isinstance(layer, FrozenNorm)]


def normalised(x: Tensor, norm: nn.GroupNorm, mean: Tensor, variance: Tensor) -> Tensor:
    """What a GroupNorm makes of x (b, channels, h, w) with a mean and a variance for each group."""
    groups = x.reshape(len(x), norm.num_groups, -1, *x.shape[2:])
    shape = (1, -1, 1, 1, 1)
    scale = (variance + norm.eps).rsqrt()
    flat: Tensor = ((groups - mean.to(x).view(shape)) * scale.to(x).view(shape)).flatten(1, 2)
    if norm.weight is None:
        return flat
    return flat * norm.weight[:, None, None] + norm.bias[:, None, None]


def replaced(module: nn.Module, kind: type[M], made: Callable[[M], R]) -> list[R]:
    """Put `made(layer)` in the place of every layer of a kind; what was put there, in the order of the module's own.

    What stands inside of such a layer already is left alone.
    """
    found: list[R] = []
    for name, child in list(module.named_children()):
        if isinstance(child, kind):
            found.append(made(child))
            setattr(module, name, found[-1])
        elif not isinstance(child, FrozenNorm):
            found += replaced(child, kind, made)
    return found


def reach_of(autoencoder: Autoencoder) -> int:
    """Latents around one that the decoder's convolutions reach, one after another: the halo of its tiles."""
    if not isinstance(autoencoder, nn.Module):
        raise InputError("what a decoder reaches is asked of torch modules; this one is not")
    reach = 0.0

    def seen(module: nn.Conv2d, inputs: tuple[Tensor, ...], answer: Tensor) -> None:
        nonlocal reach
        reach += max(module.dilation[0] * (module.kernel_size[0] - 1) / 2 * _PROBE / answer.shape[-1], 0)

    hooks = [layer.register_forward_hook(seen) for layer in autoencoder.modules() if isinstance(layer, nn.Conv2d)]
    try:
        with torch.no_grad():
            device = next(autoencoder.parameters()).device
            autoencoder.decode(torch.zeros(1, autoencoder.channels, _PROBE, _PROBE, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return ceil(reach)
