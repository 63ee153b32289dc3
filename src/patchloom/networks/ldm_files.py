"""A latent-diffusion denoiser as a folder: `denoiser.json` of kind `latent-diffusion`, and `denoiser.safetensors`.

The network and what makes its tokens were trained together and are kept together: `unet.*` and `embedder.*`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from patchloom import records, weights
from patchloom.diffusion.parametrisation import Parametrisation, Preconditioned
from patchloom.errors import FormatError
from patchloom.networks.given_tokens import GivenShape, GivenTokens
from patchloom.networks.ldm_tokens import EmbedderShape, TokenCondition, TokenEmbedder
from patchloom.networks.ldm_unet import LatentUNet, LatentUNetShape
from patchloom.networks.zoom import ZoomEmbedder, ZoomShape

FORMAT = 1
KIND = "latent-diffusion"
RECORD, WEIGHTS = "denoiser.json", "denoiser.safetensors"


@dataclass(frozen=True, slots=True)
class LatentDenoiserRecord:
    """What `denoiser.json` holds."""

    format: int
    kind: Literal["latent-diffusion"]
    unet: LatentUNetShape
    embedder: EmbedderShape | ZoomShape | GivenShape  # the first that a file fits: others have every field of it
    parametrisation: Parametrisation


@dataclass(frozen=True, slots=True, eq=False)
class LatentDenoiser:
    """The folder's parts, loaded."""

    network: LatentUNet
    embedder: TokenEmbedder
    parametrisation: Parametrisation

    @property
    def denoiser(self) -> Preconditioned[TokenCondition]:
        """Expected clean latents, told by tokens."""
        return Preconditioned(self.network, self.parametrisation)


def make_embedder(shape: EmbedderShape) -> TokenEmbedder:
    """What makes the tokens of a shape."""
    if isinstance(shape, ZoomShape):
        return ZoomEmbedder(shape)
    return GivenTokens(shape) if isinstance(shape, GivenShape) else TokenEmbedder(shape)


def save_latent_denoiser(parts: LatentDenoiser, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the folder, its weights in a dtype; each file appears whole, the record last."""
    folder.mkdir(parents=True, exist_ok=True)
    both = torch.nn.ModuleDict({"unet": parts.network, "embedder": parts.embedder})
    weights.write_tensors({name: value.to(dtype) for name, value in both.state_dict().items()}, folder / WEIGHTS)
    record = LatentDenoiserRecord(
        FORMAT, "latent-diffusion", parts.network.shape, parts.embedder.shape, parts.parametrisation
    )
    records.write_json(record, folder / RECORD)


def load_latent_denoiser(folder: Path) -> LatentDenoiser:
    """Read the folder. Raises MissingError, or FormatError where record and weights do not fit."""
    record = records.read_json(LatentDenoiserRecord, folder / RECORD)
    if record.format != FORMAT:
        raise FormatError(f"`{folder}` has denoiser format {record.format}; this version reads {FORMAT}")
    with torch.device("meta"):  # nothing is allocated for a record that its weights do not fit
        both = torch.nn.ModuleDict({"unet": LatentUNet(record.unet), "embedder": make_embedder(record.embedder)})
    path = folder / WEIGHTS
    weights.fill(both, weights.read_tensors(path), f"`{path}`")
    network, embedder = both["unet"], both["embedder"]
    assert isinstance(network, LatentUNet)
    assert isinstance(embedder, TokenEmbedder)
    return LatentDenoiser(network, embedder, record.parametrisation)
