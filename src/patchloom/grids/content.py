"""The bytes of a grid's file: safetensors, in one order, so that equal grids are equal files.

A safetensors file is the length of a JSON header (8 bytes, little endian), the header, and the arrays. It is written
and read here without the library: row by row, in bounded memory, with the keys in order, no clock and no random id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom import records
from patchloom.geometry import PixelSize
from patchloom.grids.reference import Reference
from patchloom.grids.spec import EncoderSpec

FORMAT = "patchloom-grid"
VERSION = 1
ALIGNMENT = 8
DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "BOOL": np.dtype(np.bool_),
}


@dataclass(frozen=True, slots=True)
class GridHeader:
    """What a grid's file says beside the arrays; the meaning of each is told at `EmbeddingGrid`."""

    cell_px: int
    stride_px: int
    origin: tuple[float, float]
    canvas: tuple[int, int]
    pixel_size: PixelSize
    encoder: EncoderSpec
    reference: Reference | None


def content(header: GridHeader, embeddings: NDArray[np.floating[Any]], valid: NDArray[np.bool_]) -> Iterator[bytes]:
    """The whole file, a piece at a time. Invalid cells are written as zeros, whatever they hold."""
    yield _opening(header, embeddings, valid)
    dtype = embeddings.dtype.newbyteorder("<")
    for row, keep in zip(embeddings, valid, strict=True):
        yield np.where(keep[:, None], row, 0).astype(dtype).tobytes()
    yield valid.astype(np.bool_).tobytes()


def size(embeddings: NDArray[np.floating[Any]], valid: NDArray[np.bool_]) -> int:
    """Bytes of the arrays."""
    return embeddings.nbytes + valid.size


def _opening(header: GridHeader, embeddings: NDArray[np.floating[Any]], valid: NDArray[np.bool_]) -> bytes:
    names = {dtype.str[1:]: name for name, dtype in DTYPES.items()}
    middle, end = embeddings.nbytes, size(embeddings, valid)
    values = {
        "__metadata__": {
            "format": FORMAT,
            "grid": json.dumps(records.dump(header), sort_keys=True),
            "version": str(VERSION),
        },
        "embeddings": {
            "dtype": names[embeddings.dtype.str[1:]],
            "shape": list(embeddings.shape),
            "data_offsets": [0, middle],
        },
        "valid": {"dtype": "BOOL", "shape": list(valid.shape), "data_offsets": [middle, end]},
    }
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
