"""The folder of an autoencoder of others: `autoencoder.json`, which says its kind and sizes, and its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import nn

from patchloom import records, weights
from patchloom.errors import FormatError

FORMAT = 1
RECORD, WEIGHTS = "autoencoder.json", "autoencoder.safetensors"


class Record(Protocol):
    """What `autoencoder.json` holds, beside the sizes."""

    @property
    def format(self) -> int:
        """Of the folder."""
        ...


R = TypeVar("R", bound=Record)
N = TypeVar("N", bound=nn.Module)


def save(network: nn.Module, record: Record, folder: Path, dtype: torch.dtype) -> None:
    """Write the folder, its weights in a dtype; each file appears whole, the record last."""
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_tensors(weights.rounded(network, dtype), folder / WEIGHTS)
    records.write_json(record, folder / RECORD)


def load(folder: Path, kind: type[R], make: Callable[[R], N]) -> N:
    """Read the folder. Raises MissingError, or FormatError where record and weights do not fit.

    Nothing is allocated for a record that its weights do not fit.
    """
    record = records.read_json(kind, folder / RECORD)
    if record.format != FORMAT:
        raise FormatError(f"`{folder}` has autoencoder format {record.format}; this version reads {FORMAT}")
    with torch.device("meta"):
        network = make(record)
    path = folder / WEIGHTS
    return weights.fill(network, weights.read_tensors(path), f"`{path}`")
