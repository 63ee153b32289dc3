"""A tiny autoencoder as a folder: `autoencoder.json` of kind `tiny`, and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from patchloom.autoencoders import kept
from patchloom.autoencoders.tiny import TinyAutoencoder, TinyShape

KIND = "tiny"


@dataclass(frozen=True, slots=True)
class TinyRecord:
    """What `autoencoder.json` holds."""

    format: int
    kind: Literal["tiny"]
    tiny: TinyShape


def save_tiny(network: TinyAutoencoder, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the folder, its weights in a dtype."""
    kept.save(network, TinyRecord(kept.FORMAT, "tiny", network.shape), folder, dtype)


def load_tiny(folder: Path) -> TinyAutoencoder:
    """Read the folder. Raises MissingError, or FormatError where record and weights do not fit."""
    return kept.load(folder, TinyRecord, lambda record: TinyAutoencoder(record.tiny))
