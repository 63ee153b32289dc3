"""An encoder trained here, as a folder: `encoder.json` (shape, name, licence) and `encoder.safetensors`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from patchloom import records, weights
from patchloom.encoders.encoder import EncoderSpec
from patchloom.encoders.network import NetworkEncoder
from patchloom.encoders.pixels import Transform
from patchloom.encoders.trained_network import TrainedNetwork, TrainedShape
from patchloom.errors import FormatError

FORMAT = 1
RECORD, WEIGHTS = "encoder.json", "encoder.safetensors"
LOCAL = "local:"  # how the names of encoders trained here begin; a folder of theirs is not found by name
MEAN = STD = (0.5, 0.5, 0.5)  # pixels from -1 to 1


@dataclass(frozen=True, slots=True)
class TrainedRecord:
    """What `encoder.json` holds."""

    format: int
    name: str  # grids say `local:NAME`
    convolutional: TrainedShape
    input_px: int  # pictures are resized to it
    pixel_size: str  # of the pictures that it was trained on
    licence: str  # of those pictures, in their order of first appearance
    kind: Literal["convolutional"] = "convolutional"

    def __post_init__(self) -> None:
        if self.input_px < self.convolutional.factor:
            raise FormatError(
                f"encoder `{self.name}` sees {self.input_px} px, its network needs {self.convolutional.factor} or more"
            )


def save_encoder(
    network: TrainedNetwork, record: TrainedRecord, folder: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write the folder, its weights in a dtype; each file appears whole."""
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_tensors(weights.rounded(network, dtype), folder / WEIGHTS)
    part = folder / f".{RECORD}.part"
    part.write_text(json.dumps(records.dump(record), indent=2) + "\n")
    part.replace(folder / RECORD)


def is_trained(folder: Path) -> bool:
    """Whether a folder holds an encoder that was trained here."""
    return (folder / RECORD).is_file()


def load_network(folder: Path) -> tuple[TrainedNetwork, TrainedRecord]:
    """Read the folder: its network, ready to be trained on. Raises MissingError, or FormatError where parts misfit."""
    record = records.read_json(TrainedRecord, folder / RECORD)
    if record.format != FORMAT:
        raise FormatError(f"`{folder}` has encoder format {record.format}; this version reads {FORMAT}")
    network = TrainedNetwork(record.convolutional)
    path = folder / WEIGHTS
    weights.load_exactly(network, weights.read_tensors(path), f"`{path}`")
    return network, record


def trained_encoder(
    folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> NetworkEncoder:
    """The encoder of a folder that `patchloom train` wrote. Raises MissingError or FormatError."""
    network, record = load_network(folder)
    size, shape = record.input_px, record.convolutional
    spec = EncoderSpec(
        f"{LOCAL}{record.name}", shape.dim, size, MEAN, STD, record.licence, weights.digest(folder / WEIGHTS)
    )
    return NetworkEncoder(spec, network, Transform(size, size, MEAN, STD), network, device=device, dtype=dtype)
