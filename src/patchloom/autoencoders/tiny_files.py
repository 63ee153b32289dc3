"""A tiny autoencoder as a folder: `autoencoder.json` of kind `tiny`, and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from patchloom import records, weights
from patchloom.autoencoders.tiny import TinyAutoencoder, TinyShape
from patchloom.errors import FormatError

FORMAT = 1
KIND = "tiny"
RECORD, WEIGHTS = "autoencoder.json", "autoencoder.safetensors"


@dataclass(frozen=True, slots=True)
class TinyRecord:
    """What `autoencoder.json` holds."""

    format: int
    kind: Literal["tiny"]
    tiny: TinyShape


def save_tiny(network: TinyAutoencoder, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the folder, its weights in a dtype; each file appears whole, the record last."""
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_tensors(weights.rounded(network, dtype), folder / WEIGHTS)
    records.write_json(TinyRecord(FORMAT, "tiny", network.shape), folder / RECORD)


def load_tiny(folder: Path) -> TinyAutoencoder:
    """Read the folder. Raises MissingError, or FormatError where record and weights do not fit."""
    record = records.read_json(TinyRecord, folder / RECORD)
    if record.format != FORMAT:
        raise FormatError(f"`{folder}` has autoencoder format {record.format}; this version reads {FORMAT}")
    with torch.device("meta"):
        network = TinyAutoencoder(record.tiny)
    path = folder / WEIGHTS
    return weights.fill(network, weights.read_tensors(path), f"`{path}`")
