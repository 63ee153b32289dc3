"""A latent-diffusion first stage as a folder: `autoencoder.json` of kind `latent-diffusion`, and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from patchloom import records, weights
from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape
from patchloom.errors import FormatError

FORMAT = 1
KIND = "latent-diffusion"
RECORD, WEIGHTS = "autoencoder.json", "autoencoder.safetensors"


@dataclass(frozen=True, slots=True)
class FirstStageRecord:
    """What `autoencoder.json` holds."""

    format: int
    kind: Literal["latent-diffusion"]
    first_stage: FirstStageShape


def save_first_stage(network: FirstStage, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the folder, its weights in a dtype; each file appears whole, the record last."""
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_tensors({name: value.to(dtype) for name, value in network.state_dict().items()}, folder / WEIGHTS)
    records.write_json(FirstStageRecord(FORMAT, "latent-diffusion", network.shape), folder / RECORD)


def load_first_stage(folder: Path) -> FirstStage:
    """Read the folder. Raises MissingError, or FormatError where record and weights do not fit."""
    record = records.read_json(FirstStageRecord, folder / RECORD)
    if record.format != FORMAT:
        raise FormatError(f"`{folder}` has autoencoder format {record.format}; this version reads {FORMAT}")
    with torch.device("meta"):  # nothing is allocated for a record that its weights do not fit
        network = FirstStage(record.first_stage)
    path = folder / WEIGHTS
    return weights.fill(network, weights.read_tensors(path), f"`{path}`")
