"""Our own first stage: plain convolutions, no norm and no attention over space.

A decoded pixel depends on latents within `receptive_field` and on nothing else, so decoding in tiles with that halo
gives the bits of decoding the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.autoencoders.grain import GrainedConv
from patchloom.errors import InputError


@dataclass(frozen=True, slots=True)
class ConvolutionalShape:
    """Sizes of a convolutional autoencoder; `widths` from the finest level (a factor of 2) to the latents' own."""

    channels: int = 8
    widths: tuple[int, ...] = (64, 128, 256)
    encoder_blocks: tuple[int, ...] = (1, 2, 2)
    decoder_blocks: tuple[int, ...] = (1, 2, 2)
    grain: int = 0  # waves of the latents that the decoder takes for chance

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.encoder_blocks) == len(self.decoder_blocks):
            raise InputError("an autoencoder needs as many encoder_blocks and decoder_blocks as widths")
        if self.grain < 0:
            raise InputError(f"an autoencoder has 0 or more waves of `grain`, not {self.grain}")


class ConvolutionalAutoencoder(nn.Module):
    """Pixels in [-1, 1] to latents of mean 0 and deviation 1, `2 ** len(widths)` times smaller, and back.

    The first factor of 2 folds pixels into channels, which costs no convolution at full resolution.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: ConvolutionalShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = _encoder(shape)
        self.decoder = _decoder(shape)
        self.register_buffer("mean", torch.zeros(shape.channels))
        self.register_buffer("deviation", torch.ones(shape.channels))

    @property
    def factor(self) -> int:
        """Pixels along a latent's side."""
        return int(2 ** len(self.shape.widths))

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return self.shape.channels

    @property
    def receptive_field(self) -> int:
        """Latents around one that its decoded pixels depend on."""
        coarse_to_fine = [2 * blocks + 1 for blocks in reversed(self.shape.decoder_blocks)]
        coarse_to_fine[0] += 1  # the convolution that reads the latents
        return ceil(sum(reach / 2.0**level for level, reach in enumerate(coarse_to_fine)))

    @property
    def encoder_reach(self) -> int:
        """Latents around one whose pixels it depends on: a halo of so many makes encoding in tiles exact."""
        fine_to_coarse = [2 * blocks + 1 for blocks in self.shape.encoder_blocks]  # the blocks and the way down
        fine_to_coarse[0] += 1  # the convolution that reads the pixels
        fine_to_coarse[-1] -= 1  # from the coarsest level no way leads down
        return ceil(sum(reach / 2.0**level for level, reach in enumerate(reversed(fine_to_coarse))))

    def raw_latents(self, pixels: Tensor) -> Tensor:
        """Float (b, 3, H, W) in [-1, 1] to latents before standardising."""
        return self.encoder(pixels)  # type: ignore[no-any-return]

    def standardised(self, raw: Tensor) -> Tensor:
        """Raw latents to mean 0 and deviation 1 by the constants of the training data."""
        return (raw - self.mean[:, None, None]) / self.deviation[:, None, None]

    def pixels(self, latents: Tensor) -> Tensor:
        """Standardised latents to float (b, 3, H, W), about [-1, 1]."""
        return self.decoder(latents)  # type: ignore[no-any-return]

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, h * factor, w * factor) to float32 (b, channels, h, w), mean 0 and deviation 1."""
        if pixels.dtype != torch.uint8 or pixels.shape[-1] % self.factor or pixels.shape[-2] % self.factor:
            raise InputError(
                f"encode needs uint8 pixels with sides that are multiples of {self.factor}, "
                f"not {pixels.dtype} of {tuple(pixels.shape)}"
            )
        return self.standardised(self.raw_latents(as_float(pixels, self._dtype)).float())

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (b, channels, h, w) to uint8 (b, 3, h * factor, w * factor)."""
        return as_uint8(self.pixels(latents.to(self._dtype)))

    @property
    def _dtype(self) -> torch.dtype:
        """That of the weights; the constants are always float32."""
        return next(self.parameters()).dtype


def as_float(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 to [-1, 1]."""
    return pixels.to(dtype) / 127.5 - 1


def as_uint8(pixels: Tensor) -> Tensor:
    """[-1, 1] to uint8, rounded and clipped."""
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


class _Block(nn.Module):
    """Two convolutions beside an identity; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))  # type: ignore[no-any-return]


class _Up(nn.Module):
    """Twice the size by sub-pixel convolution (Shi et al., 2016)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 4 * out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        grown = F.pixel_shuffle(self.conv(F.silu(x)), 2)
        return grown.contiguous(memory_format=torch.channels_last)  # a GPU leaves it in another order


def _encoder(shape: ConvolutionalShape) -> nn.Sequential:
    layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(12, shape.widths[0], 3, padding=1)]
    for level, (width, blocks) in enumerate(zip(shape.widths, shape.encoder_blocks, strict=True)):
        layers += [_Block(width) for _ in range(blocks)]
        if level + 1 < len(shape.widths):
            layers += [nn.SiLU(), nn.Conv2d(width, shape.widths[level + 1], 4, stride=2, padding=1)]
    layers += [nn.SiLU(), nn.Conv2d(shape.widths[-1], shape.channels, 1)]
    return nn.Sequential(*layers)


def _reading(shape: ConvolutionalShape) -> nn.Conv2d:
    if shape.grain:
        return GrainedConv(shape.channels, shape.widths[-1], shape.grain)
    return nn.Conv2d(shape.channels, shape.widths[-1], 3, padding=1)


def _decoder(shape: ConvolutionalShape) -> nn.Sequential:
    layers: list[nn.Module] = [_reading(shape)]
    for level in reversed(range(len(shape.widths))):
        layers += [_Block(shape.widths[level]) for _ in range(shape.decoder_blocks[level])]
        if level:
            layers.append(_Up(shape.widths[level], shape.widths[level - 1]))
    layers += [nn.SiLU(), nn.Conv2d(shape.widths[0], 12, 3, padding=1), nn.PixelShuffle(2)]
    return nn.Sequential(*layers)
