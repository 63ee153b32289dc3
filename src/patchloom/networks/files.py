"""A denoiser's network as a folder: `denoiser.json` (shape and parametrisation) and `denoiser.safetensors`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from patchloom import records, weights
from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.parametrisation import Parametrisation, Preconditioned
from patchloom.errors import FormatError
from patchloom.networks.unet import UNet, UNetShape

FORMAT = 1
KIND = "grid-unet"
RECORD, WEIGHTS = "denoiser.json", "denoiser.safetensors"


@dataclass(frozen=True, slots=True)
class DenoiserRecord:
    """What `denoiser.json` holds."""

    format: int
    unet: UNetShape
    parametrisation: Parametrisation
    kind: Literal["grid-unet"] = "grid-unet"  # files from before there were several kinds do not say it


def save_denoiser(
    network: UNet, parametrisation: Parametrisation, folder: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write the folder, its weights in a dtype (the constants of the embeddings stay float32)."""
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_tensors(weights.rounded(network, dtype), folder / WEIGHTS)
    part = folder / f".{RECORD}.part"
    part.write_text(json.dumps(records.dump(DenoiserRecord(FORMAT, network.shape, parametrisation)), indent=2) + "\n")
    part.replace(folder / RECORD)


def load_denoiser(folder: Path) -> tuple[Preconditioned[GridCondition], UNet]:
    """Read the folder: a denoiser, and the network inside it.

    Raises MissingError, or FormatError where record and weights do not fit.
    """
    record = records.read_json(DenoiserRecord, folder / RECORD)
    if record.format != FORMAT:
        raise FormatError(f"`{folder}` has denoiser format {record.format}; this version reads {FORMAT}")
    network = UNet(record.unet)
    path = folder / WEIGHTS
    weights.load_exactly(network, weights.read_tensors(path), f"`{path}`")
    network.eval().requires_grad_(False)
    return Preconditioned(network, record.parametrisation), network
