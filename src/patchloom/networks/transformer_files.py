"""A transformer as a folder: `denoiser.json` of kind `transformer`, and `denoiser.safetensors`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from patchloom import records, weights
from patchloom.diffusion.parametrisation import Parametrisation, Preconditioned
from patchloom.errors import FormatError
from patchloom.networks.dit import DiT
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.pixart import PixArt
from patchloom.networks.transformer import TransformerShape

FORMAT = 1
KIND = "transformer"
RECORD, WEIGHTS = "denoiser.json", "denoiser.safetensors"
Transformer: TypeAlias = DiT | PixArt


@dataclass(frozen=True, slots=True)
class TransformerRecord:
    """What `denoiser.json` holds."""

    format: int
    kind: Literal["transformer"]
    transformer: TransformerShape
    parametrisation: Parametrisation


@dataclass(frozen=True, slots=True, eq=False)
class TransformerDenoiser:
    """The folder's parts, loaded."""

    network: Transformer
    parametrisation: Parametrisation

    @property
    def denoiser(self) -> Preconditioned[TokenCondition]:
        """Expected clean latents, told by tokens."""
        return Preconditioned(self.network, self.parametrisation)


def build(shape: TransformerShape) -> Transformer:
    """The network of a shape."""
    return DiT(shape) if shape.told == "class" else PixArt(shape)


def save_transformer(parts: TransformerDenoiser, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the folder, its weights in a dtype (places and null tokens stay as they are); the record comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_tensors(weights.rounded(parts.network, dtype), folder / WEIGHTS)
    record = TransformerRecord(FORMAT, "transformer", parts.network.shape, parts.parametrisation)
    records.write_json(record, folder / RECORD)


def load_transformer(folder: Path) -> TransformerDenoiser:
    """Read the folder. Raises MissingError, or FormatError where record and weights do not fit."""
    record = records.read_json(TransformerRecord, folder / RECORD)
    if record.format != FORMAT:
        raise FormatError(f"`{folder}` has denoiser format {record.format}; this version reads {FORMAT}")
    with torch.device("meta"):
        network = build(record.transformer)
    path = folder / WEIGHTS
    weights.fill(network, weights.read_tensors(path), f"`{path}`")
    return TransformerDenoiser(network, record.parametrisation)
