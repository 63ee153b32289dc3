"""Encoders that our own networks run, from a file of weights and the entry that says what it should hold."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from patchloom.encoders.encoder import EncoderSpec
from patchloom.encoders.inception import Inception, inception_to_ours
from patchloom.encoders.known import KNOWN, KnownEncoder, Shape, spec_name
from patchloom.encoders.known_weights import how_to_get
from patchloom.encoders.network import NetworkEncoder
from patchloom.encoders.pixels import Transform
from patchloom.encoders.vit import ViT, ViTShape
from patchloom.encoders.vit_names import network_of, to_ours
from patchloom.encoders.vit_swin import Swin, SwinShape, swin_to_ours
from patchloom.encoders.weights import files_digest, read_state
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.weights import load_exactly


def file_encoder(name: str, file: Path, device: torch.device | str, dtype: torch.dtype) -> NetworkEncoder:
    """The known encoder `name` with the weights of a file, as its authors or the hub give it.

    Raises InputError for an encoder that is not read from a file, MissingError, or FormatError for a file that does
    not hold this network.
    """
    known = KNOWN[name]
    if known.network is None:
        raise InputError(f"encoder `{name}` is not read from a file of weights; it is had {how_to_get(name)}")
    if not file.is_file():
        raise MissingError(f"there is no file `{file}` with the weights of `{name}`; they are had {how_to_get(name)}")
    return vit_encoder(spec_name(name), (file,), known, known.transform, device, dtype)


def vit_encoder(
    name: str,
    files: tuple[Path, ...],
    known: KnownEncoder,
    transform: Transform,
    device: torch.device | str,
    dtype: torch.dtype,
) -> NetworkEncoder:
    """The encoder over our own network, of its entry's shape. Raises FormatError where weights do not fit."""
    if known.network is None:
        raise InputError(f"of `{name}` it is not known which network it is")
    network = load_network(known.network, files, known.side, name)
    first = 1 + (known.network.registers if isinstance(known.network, ViTShape) else 0)

    def embed(picture: Tensor) -> Tensor:
        tokens: Tensor = network(picture)
        if known.pool == "mean":
            return tokens
        if known.pool == "class token and mean of patches":
            return torch.cat([tokens[:, 0], tokens[:, first:].mean(1)], dim=1)
        return tokens[:, 0]

    spec = EncoderSpec(
        name,
        known.dim,
        transform.crop_px,
        transform.mean,
        transform.std,
        known.licence,
        files_digest(files),
    )
    return NetworkEncoder(spec, network, transform, embed, device=device, dtype=dtype)


def load_network(
    shape: Shape, files: tuple[Path, ...], side: str | None = None, name: str = ""
) -> ViT | Swin | Inception:
    """The network in float32 with the weights of files, in any of the families' names; `name` is for messages.

    Raises FormatError that lists what is missing, unknown or of another shape.
    """
    where = f"`{files[0]}`, taken for the weights of `{name}`," if name else f"`{files[0]}`"
    state = read_state(files)
    try:
        held = network_of(state, side)
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from None
    tensors = _ours(shape, held)
    with torch.device("meta"):  # nothing is allocated for weights that do not fit
        network = _network(shape)
    load_exactly(network, {name: value.to("meta") for name, value in tensors.items()}, where)
    network.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
    return network.eval()


def _ours(shape: Shape, held: dict[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(shape, ViTShape):
        return to_ours(held)
    return swin_to_ours(held) if isinstance(shape, SwinShape) else inception_to_ours(held)


def _network(shape: Shape) -> ViT | Swin | Inception:
    if isinstance(shape, ViTShape):
        return ViT(shape)
    return Swin(shape) if isinstance(shape, SwinShape) else Inception(shape)
