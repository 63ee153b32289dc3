"""Latent diffusion's first stages: VQ-f4 and its kin with a codebook, KL with a Gaussian posterior.

Sources: Esser et al. (2021), "Taming transformers"; Rombach et al. (2022), section 3.1 and appendix G.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.autoencoders.ldm_layers import GROUPS, Grow, Level, Middle, Shrink
from patchloom.autoencoders.scaled import ScaledAutoencoder
from patchloom.errors import InputError

_EPS = 1e-6
_MOST, _MOST_BLOCKS, _MOST_LEVELS = 1 << 16, 64, 12  # beyond anything ever trained: a mistake, or a trap


@dataclass(frozen=True, slots=True)
class FirstStageShape:
    """Sizes of a first stage; `multipliers` from pixels down, each level half the last.

    A latent that leaves `encode` is `(raw - shift) * scale`. Raises InputError where the sizes do not fit.
    """

    kind: Literal["vq", "kl"] = "vq"
    channels: int = 3  # of a latent
    inner: int = 3  # channels between encoder and decoder, before the 1 x 1 convolutions
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 2
    attention: tuple[int, ...] = ()  # factors of downsampling with attention beside that of the middle
    codes: int = 0  # vectors in the codebook; 0 for KL
    scale: float = 1.0
    shift: float = 0.0
    mixed: bool = True  # whether 1 x 1 convolutions stand on either side of the latents; SD3's has none

    def __post_init__(self) -> None:
        widths = [self.width * multiplier for multiplier in self.multipliers]
        numbers = (self.channels, self.inner, self.width, self.blocks, *self.multipliers, *widths)
        if not all(0 < number <= _MOST for number in numbers) or not 0 <= self.codes <= _MOST**2:
            raise InputError(f"the sizes of a first stage are from 1 to {_MOST}: {self}")
        if not 0 < len(widths) <= _MOST_LEVELS or self.blocks > _MOST_BLOCKS:
            raise InputError(f"a first stage has at most {_MOST_LEVELS} levels of {_MOST_BLOCKS} blocks: {self}")
        if (self.kind == "vq") != (self.codes > 0):
            raise InputError(f"a codebook belongs to `vq` and to no other first stage: {self}")
        if self.width % GROUPS or any(width % GROUPS for width in widths):
            raise InputError(f"every level's channels must be in {GROUPS} equal groups: {self}")
        if not self.mixed and (self.kind == "vq" or self.inner != self.channels):
            raise InputError(
                f"only a KL stage with as many inner channels as latents have can lack 1 x 1 convolutions: {self}"
            )
        if not 0 < self.scale < float("inf"):
            raise InputError(f"latents are scaled by a positive number, not {self.scale}")


class FirstStage(ScaledAutoencoder):
    """Pixels to latents and back, as the protocol `Autoencoder` has it.

    With a codebook, encoding keeps what the encoder said and decoding takes the nearest codes, as the official models
    do. Without one, encoding gives the posterior's mean.
    """

    shape: FirstStageShape

    def __init__(self, shape: FirstStageShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape)
        self.decoder = Decoder(shape)
        doubled = 1 if shape.kind == "vq" else 2
        mixes = nn.Conv2d if shape.mixed else nn.Identity
        self.to_latents = mixes(doubled * shape.inner, doubled * shape.channels, 1)
        self.from_latents = mixes(shape.channels, shape.inner, 1)
        self.codebook = nn.Embedding(shape.codes, shape.channels) if shape.codes else None

    @property
    def factor(self) -> int:
        """Pixels along a latent's side."""
        return int(2 ** (len(self.shape.multipliers) - 1))

    @property
    def receptive_field(self) -> None:
        """Unbounded: norms and attention are over the whole plane."""
        return None

    def raw_latents(self, pixels: Tensor) -> Tensor:
        """Float (b, 3, H, W) in [-1, 1] to latents before scaling, not quantised."""
        return self.to_latents(self.encoder(pixels))[:, : self.shape.channels]  # type: ignore[no-any-return]

    def nearest(self, raw: Tensor) -> Tensor:
        """The number of the nearest code (squared distance, the first of equals) of raw latents: (b, h, w)."""
        if self.codebook is None:
            raise InputError("a KL first stage has no codebook")
        codes = self.codebook.weight.to(raw)  # rounded codes are looked for in float32: the nearest is soon another
        rows = raw.movedim(1, -1).reshape(-1, self.shape.channels)
        found = [
            torch.argmin((part**2).sum(1, keepdim=True) + (codes**2).sum(1) - 2 * part @ codes.T, dim=1)
            for part in torch.split(rows, 1 << 14)  # a canvas against 8,192 codes at once would be gigabytes
        ]
        return torch.cat(found).reshape(raw.shape[0], *raw.shape[2:])

    def quantised(self, raw: Tensor) -> Tensor:
        """Raw latents moved to their nearest codes; unchanged where there is no codebook."""
        if self.codebook is None:
            return raw
        return self.codebook(self.nearest(raw)).movedim(-1, 1)  # type: ignore[no-any-return]

    def pixels(self, latents: Tensor, *, quantise: bool = True) -> Tensor:
        """Latents as they leave `encode` to float (b, 3, H, W), about [-1, 1]; codes are looked for in float32."""
        raw = self.unscaled(latents)
        given = self.quantised(raw) if quantise else raw
        return self.decoder(self.from_latents(given.to(self.dtype)))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Pixels to the coarsest plane."""

    def __init__(self, shape: FirstStageShape) -> None:
        super().__init__()
        widths = [shape.width * multiplier for multiplier in shape.multipliers]
        self.enter = nn.Conv2d(3, shape.width, 3, padding=1)
        self.levels = nn.ModuleList()
        before = shape.width
        for level, width in enumerate(widths):
            resize = Shrink(width) if level + 1 < len(widths) else None
            self.levels.append(Level([before, *[width] * shape.blocks], 2**level in shape.attention, resize))
            before = width
        self.middle = Middle(before)
        self.norm = nn.GroupNorm(GROUPS, before, eps=_EPS)
        self.leave = nn.Conv2d(before, shape.inner * (1 if shape.kind == "vq" else 2), 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, 3, H, W) to (b, inner or twice that, h, w)."""
        x = self.enter(x)
        for level in self.levels:
            x = level(x)
        return self.leave(F.silu(self.norm(self.middle(x))))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """The coarsest plane to pixels; `levels` from coarse to fine."""

    def __init__(self, shape: FirstStageShape) -> None:
        super().__init__()
        widths = [shape.width * multiplier for multiplier in shape.multipliers]
        self.enter = nn.Conv2d(shape.inner, widths[-1], 3, padding=1)
        self.middle = Middle(widths[-1])
        self.levels = nn.ModuleList()
        before = widths[-1]
        for level in reversed(range(len(widths))):
            width = widths[level]
            resize = Grow(width) if level else None
            self.levels.append(Level([before, *[width] * (shape.blocks + 1)], 2**level in shape.attention, resize))
            before = width
        self.norm = nn.GroupNorm(GROUPS, before, eps=_EPS)
        self.leave = nn.Conv2d(before, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, inner, h, w) to (b, 3, H, W)."""
        x = self.middle(self.enter(x))
        for level in self.levels:
            x = level(x)
        return self.leave(F.silu(self.norm(x)))  # type: ignore[no-any-return]
