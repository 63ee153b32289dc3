"""A latent-diffusion first stage as a folder: `autoencoder.json` of kind `latent-diffusion`, and its weights."""

from __future__ import annotations

import json
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
    part = folder / f".{RECORD}.part"
    record = FirstStageRecord(FORMAT, "latent-diffusion", network.shape)
    part.write_text(json.dumps(records.dump(record), indent=2) + "\n", encoding="utf-8")
    part.replace(folder / RECORD)


def load_first_stage(folder: Path) -> FirstStage:
    """Read the folder. Raises MissingError, or FormatError where record and weights do not fit."""
    record = records.read_json(FirstStageRecord, folder / RECORD)
    if record.format != FORMAT:
        raise FormatError(f"`{folder}` has autoencoder format {record.format}; this version reads {FORMAT}")
    with torch.device("meta"):  # nothing is allocated for a record that its weights do not fit
        network = FirstStage(record.first_stage)
    path = folder / WEIGHTS
    tensors = weights.read_tensors(path)
    weights.load_exactly(network, {name: value.to("meta") for name, value in tensors.items()}, f"`{path}`")
    weights.load_exactly(network.to_empty(device="cpu"), tensors, f"`{path}`")
    return network.eval().requires_grad_(False)
