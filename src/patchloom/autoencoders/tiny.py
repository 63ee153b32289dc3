"""Tiny autoencoders of plain convolutions (TAESD; diffusers' AutoencoderTiny), distilled from a large first stage.

They have no norm and no attention, so a decoded pixel depends on a bounded neighbourhood: tiles decode exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.autoencoders.scaled import ScaledAutoencoder
from patchloom.errors import InputError

_MOST, _MOST_BLOCKS, _MOST_LEVELS = 1 << 16, 1024, 12  # beyond anything ever trained: a mistake, or a trap
_REACH = 3.0  # latents are softly held within this before they are decoded


@dataclass(frozen=True, slots=True)
class TinyShape:
    """Sizes of a tiny autoencoder; levels of the encoder from pixels down, of the decoder from latents up.

    A latent that leaves `encode` is `(raw - shift) * scale`. Raises InputError where the sizes do not fit.
    """

    channels: int = 4  # of a latent
    down: tuple[int, ...] = (64, 64, 64, 64)
    down_blocks: tuple[int, ...] = (1, 3, 3, 3)
    up: tuple[int, ...] = (64, 64, 64, 64)
    up_blocks: tuple[int, ...] = (3, 3, 3, 1)
    activation: Literal["relu", "silu", "gelu"] = "relu"
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        levels = {len(part) for part in (self.down, self.down_blocks, self.up, self.up_blocks)}
        if len(levels) > 1 or not 0 < len(self.down) <= _MOST_LEVELS:
            raise InputError(f"encoder and decoder have widths and blocks for 1 to {_MOST_LEVELS} levels: {self}")
        blocks = (*self.down_blocks, *self.up_blocks)
        if not all(0 < number <= _MOST for number in (self.channels, *self.down, *self.up)):
            raise InputError(f"the sizes of an autoencoder are from 1 to {_MOST}: {self}")
        if min(blocks) < 0 or sum(blocks) > _MOST_BLOCKS:
            raise InputError(f"an autoencoder has at most {_MOST_BLOCKS} blocks: {self}")
        if len(set(self.down)) > 1 or len(set(self.up)) > 1:
            raise InputError(f"all levels of an encoder, and of a decoder, are equally wide: {self}")
        if self.activation not in _ACTIVATIONS:
            raise InputError(f"activation `{self.activation}` is not computed here, only {', '.join(_ACTIVATIONS)}")
        if not 0 < self.scale < float("inf"):
            raise InputError(f"latents are scaled by a positive number, not {self.scale}")


class TinyAutoencoder(ScaledAutoencoder):
    """Pixels to latents and back, as the protocol `Autoencoder` has it."""

    shape: TinyShape

    def __init__(self, shape: TinyShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = _encoder(shape)
        self.decoder = _decoder(shape)

    @property
    def factor(self) -> int:
        """Pixels along a latent's side."""
        return int(2 ** (len(self.shape.down) - 1))

    @property
    def receptive_field(self) -> int:
        """Latents around one that its decoded pixels depend on: what 3 x 3 convolutions of each level add up to.

        A level's convolution sees one of its own pixels on each side, and those of level k are 2**-k latents wide.
        """
        reach = 1.0  # the convolution that enters
        for level, blocks in enumerate(self.shape.up_blocks):
            last = level + 1 == len(self.shape.up_blocks)
            reach += 3 * blocks / 2**level + 1 / 2 ** (level if last else level + 1)
        return int(-(-reach // 1))

    def raw_latents(self, pixels: Tensor) -> Tensor:
        """Float (b, 3, H, W) in [-1, 1] to latents before scaling."""
        return self.encoder((pixels + 1) / 2)  # type: ignore[no-any-return]

    def pixels(self, latents: Tensor) -> Tensor:
        """Latents as they leave `encode` to float (b, 3, H, W), about [-1, 1]."""
        held = torch.tanh(self.unscaled(latents) / _REACH) * _REACH
        return self.decoder(held.to(self.dtype)) * 2 - 1  # type: ignore[no-any-return]


class TinyBlock(nn.Module):
    """Three convolutions beside an identity."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.third = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to the same."""
        act = _ACTIVATIONS[self.activation]
        return F.relu(x + self.third(act(self.second(act(self.first(x))))))


class Act(nn.Module):
    """An activation by its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Pointwise."""
        return _ACTIVATIONS[self.name](x)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu}


def _encoder(shape: TinyShape) -> nn.Sequential:
    layers: list[nn.Module] = []
    for level, (width, blocks) in enumerate(zip(shape.down, shape.down_blocks, strict=True)):
        if level:
            layers.append(nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False))
        else:
            layers.append(nn.Conv2d(3, width, 3, padding=1))
        layers += [TinyBlock(width, shape.activation) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.Conv2d(shape.down[-1], shape.channels, 3, padding=1))


def _decoder(shape: TinyShape) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(shape.channels, shape.up[0], 3, padding=1), Act(shape.activation)]
    for level, (width, blocks) in enumerate(zip(shape.up, shape.up_blocks, strict=True)):
        layers += [TinyBlock(width, shape.activation) for _ in range(blocks)]
        if level + 1 < len(shape.up):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, nn.Conv2d(shape.up[-1], 3, 3, padding=1))
