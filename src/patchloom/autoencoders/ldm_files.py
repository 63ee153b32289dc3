"""A latent-diffusion first stage as a folder: `autoencoder.json` of kind `latent-diffusion`, and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from patchloom.autoencoders import kept
from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape

KIND = "latent-diffusion"


@dataclass(frozen=True, slots=True)
class FirstStageRecord:
    """What `autoencoder.json` holds."""

    format: int
    kind: Literal["latent-diffusion"]
    first_stage: FirstStageShape


def save_first_stage(network: FirstStage, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the folder, its weights in a dtype."""
    kept.save(network, FirstStageRecord(kept.FORMAT, "latent-diffusion", network.shape), folder, dtype)


def load_first_stage(folder: Path) -> FirstStage:
    """Read the folder. Raises MissingError, or FormatError where record and weights do not fit."""
    return kept.load(folder, FirstStageRecord, lambda record: FirstStage(record.first_stage))
