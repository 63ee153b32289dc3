"""The grid's own file: written whole, checked strictly, mapped instead of read."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom import records
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.grids.content import DTYPES, FORMAT, VERSION, GridHeader, content, size
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.hdf5 import is_hdf5
from patchloom.grids.reference import Reference
from patchloom.whole import whole_file

_MAX_HEADER = 1 << 24


def write_grid(grid: EmbeddingGrid, path: str | os.PathLike[str]) -> None:
    """Write a grid as one safetensors file; equal grids give equal bytes.

    Raises MissingError where the folder is not there, CapacityError where the disk is full.
    """
    target = Path(path)
    needed = size(grid.embeddings, grid.valid)
    with whole_file(target, lambda: f"it needs {needed:,} bytes") as part, part.open("wb") as file:
        for piece in content(grid.header, grid.embeddings, grid.valid):
            file.write(piece)


def read_grid(path: str | os.PathLike[str]) -> EmbeddingGrid:
    """Open a grid; its embeddings are mapped, not loaded. Raises MissingError or FormatError."""
    parsed = _parse(Path(path))
    header = parsed.header
    try:
        return EmbeddingGrid(
            parsed.map("embeddings"),
            np.array(parsed.map("valid")),
            header.cell_px,
            header.stride_px,
            header.origin,
            header.canvas,
            header.pixel_size,
            header.encoder,
            header.reference,
        )
    except InputError as error:
        raise FormatError(f"`{path}`: {error}") from None


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a grid is, as plain values, from its header and its valid mask alone. Raises MissingError or FormatError."""
    parsed = _parse(Path(path))
    header = parsed.header
    embeddings = parsed.arrays["embeddings"]
    rows, cols, dim = embeddings.shape
    return {
        "kind": "grid",
        "rows": rows,
        "cols": cols,
        "valid_cells": int(parsed.map("valid").sum()),
        "dim": dim,
        "dtype": embeddings.dtype.name,
        "cell_px": header.cell_px,
        "stride_px": header.stride_px,
        "pixel_size": str(header.pixel_size),
        "canvas_px": {"height": header.canvas[0], "width": header.canvas[1]},
        "origin_px": {"y": header.origin[0], "x": header.origin[1]},
        "encoder": records.dump(header.encoder),
        "reference": None if header.reference is None else _reference(header.reference),
    }


def _reference(reference: Reference) -> dict[str, Any]:
    size = reference.pixel_size
    return records.dump(reference) | {"pixel_size": None if size is None else str(size)}


def is_grid(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it is a grid, whole or not."""
    try:
        with Path(path).open("rb") as file:
            opening = file.read(8 + 256)
    except OSError:
        return False
    return opening[8:9] == b"{" and f'"format":"{FORMAT}"'.encode() in opening


@dataclass(frozen=True, slots=True)
class _Array:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int  # from the beginning of the file
    stop: int


@dataclass(frozen=True, slots=True)
class _Parsed:
    path: Path
    header: GridHeader
    arrays: dict[str, _Array]

    def map(self, name: str) -> NDArray[Any]:
        array = self.arrays[name]
        return np.memmap(self.path, array.dtype, "r", array.start, array.shape)


@dataclass(frozen=True, slots=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def _parse(path: Path) -> _Parsed:
    values, data_start = _opening(path)
    header = _header(path, values)
    if set(values) != {"embeddings", "valid"}:
        raise FormatError(f"`{path}`: a grid holds `embeddings` and `valid`, this file {sorted(values)}")
    arrays = {name: _array(path, name, entry, data_start) for name, entry in values.items()}
    embeddings, valid = arrays["embeddings"], arrays["valid"]
    if len(embeddings.shape) != 3 or embeddings.shape[:2] != valid.shape or valid.dtype != np.bool_:
        raise FormatError(f"`{path}`: embeddings {embeddings.shape} and valid {valid.shape} do not fit")
    if (embeddings.start, embeddings.stop) != (data_start, valid.start):
        raise FormatError(f"`{path}`: the arrays do not follow one another")
    found = path.stat().st_size
    if found != valid.stop:
        raise FormatError(f"`{path}` is damaged: {valid.stop:,} bytes expected, {found:,} found; write it again")
    return _Parsed(path, header, arrays)


def _opening(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header, and where the arrays begin."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(min(length, _MAX_HEADER))
    except (FileNotFoundError, IsADirectoryError):
        raise MissingError(f"there is no grid file `{path}`") from None
    if is_hdf5(path):
        raise FormatError(f"`{path}` is a feature file in HDF5, and a grid of Patchloom's own is wanted here")
    if not 0 < length <= _MAX_HEADER or len(text) != length:
        raise FormatError(f"`{path}` is not a grid: it does not begin as a safetensors file does, or is cut short")
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise FormatError(f"`{path}` is not a grid: its safetensors header is not a JSON mapping")
    return values, 8 + length


def _header(path: Path, values: dict[str, Any]) -> GridHeader:
    metadata = values.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise FormatError(f"`{path}` is a safetensors file, but not a grid; `patchloom embed` writes grids")
    if metadata.get("version") != str(VERSION):
        raise FormatError(
            f"`{path}` is a grid of format version {metadata.get('version')}, this Patchloom reads {VERSION}; "
            "update Patchloom, or embed the reference again"
        )
    try:
        return records.load(GridHeader, json.loads(metadata["grid"]), f"`{path}`")
    except (KeyError, TypeError, json.JSONDecodeError, RecursionError):
        raise FormatError(f"`{path}`: the description of the grid is missing or is not JSON") from None
    except FormatError:
        raise
    except InputError as error:
        raise FormatError(f"`{path}`: {error}") from None


def _array(path: Path, name: str, values: Any, data_start: int) -> _Array:
    entry = records.load(_Entry, values, f"`{path}`: {name}")
    if entry.dtype not in DTYPES:
        raise FormatError(f"`{path}`: `{name}` is {entry.dtype}; a grid holds {', '.join(DTYPES)}")
    if not all(length > 0 for length in entry.shape):
        raise FormatError(f"`{path}`: `{name}` is empty: its shape is {entry.shape}")
    dtype, (start, stop) = DTYPES[entry.dtype], entry.data_offsets
    if start < 0 or stop - start != math.prod(entry.shape) * dtype.itemsize:
        raise FormatError(f"`{path}`: `{name}` of shape {entry.shape} does not fill its bytes {start} to {stop}")
    return _Array(dtype, entry.shape, data_start + start, data_start + stop)
