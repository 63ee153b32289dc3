"""The kinds of networks that a pipeline may hold, and how each is read. A file that states no kind is of our own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from patchloom.autoencoders import files as autoencoders
from patchloom.autoencoders import ldm_files as first_stages
from patchloom.autoencoders import tiny_files as tiny
from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder
from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.autoencoders.tiny import TinyAutoencoder
from patchloom.diffusion.parametrisation import Preconditioned
from patchloom.errors import FormatError, MissingError
from patchloom.networks import files as networks
from patchloom.networks import ldm_files as latent_diffusion
from patchloom.networks import transformer_files as transformers
from patchloom.networks.ldm_tokens import TokenEmbedder
from patchloom.networks.ldm_unet import LatentUNet
from patchloom.networks.unet import UNet

T = TypeVar("T")
Network: TypeAlias = UNet | LatentUNet | transformers.Transformer
AnyAutoencoder: TypeAlias = ConvolutionalAutoencoder | FirstStage | TinyAutoencoder


@dataclass(frozen=True, slots=True, eq=False)
class LoadedDenoiser:
    """What a denoiser's folder holds."""

    denoiser: Preconditioned[Any]
    network: Network
    embedder: TokenEmbedder | None  # makes tokens of embeddings, where the network is told tokens


def _grid_unet(folder: Path) -> LoadedDenoiser:
    return LoadedDenoiser(*networks.load_denoiser(folder), embedder=None)


def _latent_diffusion(folder: Path) -> LoadedDenoiser:
    parts = latent_diffusion.load_latent_denoiser(folder)
    return LoadedDenoiser(parts.denoiser, parts.network, parts.embedder)


def _transformer(folder: Path) -> LoadedDenoiser:
    parts = transformers.load_transformer(folder)
    return LoadedDenoiser(parts.denoiser, parts.network, embedder=None)


DENOISERS: Mapping[str, Callable[[Path], LoadedDenoiser]] = {
    networks.KIND: _grid_unet,
    latent_diffusion.KIND: _latent_diffusion,
    transformers.KIND: _transformer,
}
AUTOENCODERS: Mapping[str, Callable[[Path], AnyAutoencoder]] = {
    autoencoders.KIND: autoencoders.load_autoencoder,
    first_stages.KIND: first_stages.load_first_stage,
    tiny.KIND: tiny.load_tiny,
}


def load_denoiser(folder: Path) -> LoadedDenoiser:
    """Read a denoiser of any kind. Raises MissingError, or FormatError for an unknown kind or a damaged folder."""
    return _loader(folder / networks.RECORD, DENOISERS, networks.KIND)(folder)


def load_autoencoder(folder: Path) -> AnyAutoencoder:
    """Read an autoencoder of any kind. Raises MissingError, or FormatError for an unknown kind or a damaged folder."""
    return _loader(folder / autoencoders.RECORD, AUTOENCODERS, autoencoders.KIND)(folder)


def _loader(record: Path, known: Mapping[str, Callable[[Path], T]], usual: str) -> Callable[[Path], T]:
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"there is no file `{record}`") from None
    except ValueError as error:
        raise FormatError(f"`{record}` is not JSON: {error}") from None
    kind = values.get("kind", usual) if isinstance(values, dict) else usual
    if kind not in known:
        raise FormatError(f"`{record}` is of kind `{kind}`; this version reads {', '.join(known)}")
    return known[kind]
