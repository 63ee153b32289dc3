"""An autoencoder as a folder: `autoencoder.json` (its shape) and `autoencoder.safetensors` (weights and constants)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from patchloom import records, weights
from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder, ConvolutionalShape
from patchloom.errors import FormatError

FORMAT = 1
KIND = "convolutional"
RECORD, WEIGHTS = "autoencoder.json", "autoencoder.safetensors"


@dataclass(frozen=True, slots=True)
class AutoencoderRecord:
    """What `autoencoder.json` holds."""

    format: int
    convolutional: ConvolutionalShape
    kind: Literal["convolutional"] = "convolutional"  # files from before there were several kinds do not say it
    latents: str | None = None  # digest of the autoencoder whose encoder this is, where only the decoder is its own


def save_autoencoder(
    network: ConvolutionalAutoencoder, folder: Path, dtype: torch.dtype = torch.float32, *, latents: str | None = None
) -> None:
    """Write the folder, its weights in a dtype (the latents' constants stay float32); each file appears whole.

    `latents` is the digest of the autoencoder whose latents these are, bit by bit, where that is another one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_tensors(weights.rounded(network, dtype), folder / WEIGHTS)
    part = folder / f".{RECORD}.part"
    part.write_text(
        json.dumps(records.dump(AutoencoderRecord(FORMAT, network.shape, latents=latents)), indent=2) + "\n"
    )
    part.replace(folder / RECORD)


def load_autoencoder(folder: Path) -> ConvolutionalAutoencoder:
    """Read the folder. Raises MissingError, or FormatError where record and weights do not fit."""
    record = records.read_json(AutoencoderRecord, folder / RECORD)
    if record.format != FORMAT:
        raise FormatError(f"`{folder}` has autoencoder format {record.format}; this version reads {FORMAT}")
    network = ConvolutionalAutoencoder(record.convolutional)
    path = folder / WEIGHTS
    weights.load_exactly(network, weights.read_tensors(path), f"`{path}`")
    return network.eval().requires_grad_(False)


def digest(folder: Path) -> str:
    """Which latents are comparable: the digest of the weights, or of those that the encoder was taken from.

    Raises MissingError or FormatError.
    """
    return records.read_json(AutoencoderRecord, folder / RECORD).latents or weights.digest(folder / WEIGHTS)
