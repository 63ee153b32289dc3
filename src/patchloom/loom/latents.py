"""A finished canvas of latents on disk, so that a region of it can be made anew later.

One safetensors file: the tensor `latents`, float32 (channels, height, width), and as metadata the format's name, its
version and a manifest, the JSON mapping that says how the canvas was made. Any safetensors reader opens it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import FormatError, MissingError
from patchloom.fields.bands import room_for
from patchloom.fields.field import Field
from patchloom.geometry import Box, Frame

SUFFIX = ".latents"
_FORMAT, _VERSION = "patchloom-latents", "1"
_MAX_HEADER = 1 << 24
_BAND = 64  # rows in memory at a time
_FLOAT = np.dtype("<f4")


@dataclass(frozen=True, slots=True, eq=False)
class Latents:
    """A canvas of latents mapped from its file, as a field, and how it was made."""

    array: NDArray[np.float32]
    manifest: Mapping[str, Any]

    @property
    def frame(self) -> Frame:
        """The canvas, float32."""
        channels, height, width = self.array.shape
        return Frame(height, width, channels, "float32")

    def read(self, box: Box) -> NDArray[np.float32]:
        """The latents of a box; GeometryError where it leaves the canvas."""
        return self.array[:, *box.inside(self.frame.box)]


def write_latents(
    latents: Field, path: Path, manifest: Mapping[str, Any], progress: Callable[[int], None] | None = None
) -> None:
    """Write a field of latents, reading it once from top to bottom in bands; `progress` hears of rows.

    The file appears under its name only when it is whole; equal fields and manifests give equal bytes. Raises
    MissingError where the folder is not there and CapacityError on a full disk.
    """
    if not path.parent.is_dir():
        raise MissingError(f"there is no folder `{path.parent}` to write `{path.name}` into")
    frame = latents.frame
    header = _header(frame, manifest)
    part = path.with_name(f".{path.name}.part")
    try:
        with room_for(part, len(header) + _size(frame)), part.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + _size(frame))
            for top in range(0, frame.height, _BAND):
                rows = min(_BAND, frame.height - top)
                _write_rows(file.fileno(), len(header), frame, top, latents.read(Box(top, 0, rows, frame.width)))
                if progress is not None:
                    progress(rows)
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_latents(path: Path) -> Latents:
    """Open a canvas of latents; it is mapped, not loaded. Raises MissingError or FormatError."""
    header, start = _opening(path)
    metadata, tensor = header.get("__metadata__"), header.get("latents")
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT or not isinstance(tensor, dict):
        raise FormatError(f"`{path}` holds no latents; `patchloom generate --save-latents` writes them")
    if metadata.get("version") != _VERSION:
        raise FormatError(
            f"`{path}` has version {metadata.get('version')} of its format, this Patchloom reads {_VERSION}; "
            "make the image again"
        )
    shape, size = _shape(tensor), path.stat().st_size - start
    if shape is None or tensor.get("dtype") != "F32" or prod(shape) * _FLOAT.itemsize != size:
        raise FormatError(f"`{path}` is damaged: latents of shape {tensor.get('shape')} do not fill its {size:,} bytes")
    try:
        manifest = json.loads(metadata["manifest"])
    except (KeyError, TypeError, json.JSONDecodeError, RecursionError):
        raise FormatError(f"`{path}` does not say how its latents were made: its manifest is not JSON") from None
    return Latents(np.memmap(path, _FLOAT, "r", start, shape), manifest)


def _shape(tensor: Mapping[str, Any]) -> tuple[int, ...] | None:
    found = tensor.get("shape")
    sound = isinstance(found, list) and len(found) == 3 and all(isinstance(n, int) and n > 0 for n in found)
    return tuple(found) if found and sound else None


def _header(frame: Frame, manifest: Mapping[str, Any]) -> bytes:
    metadata = {"format": _FORMAT, "version": _VERSION, "manifest": json.dumps(manifest, sort_keys=True)}
    shape = [frame.channels, frame.height, frame.width]
    values = {"__metadata__": metadata, "latents": {"dtype": "F32", "shape": shape, "data_offsets": [0, _size(frame)]}}
    text = json.dumps(values).encode()
    text += b" " * (-len(text) % 8)  # so that the floats are aligned where the file is mapped
    return len(text).to_bytes(8, "little") + text


def _write_rows(file: int, start: int, frame: Frame, top: int, rows: NDArray[Any]) -> None:
    for channel, plane in enumerate(np.ascontiguousarray(rows, _FLOAT)):
        place = (channel * frame.height + top) * frame.width * _FLOAT.itemsize
        data, written = memoryview(plane).cast("B"), 0
        while written < len(data):
            written += os.pwrite(file, data[written:], start + place + written)


def _size(frame: Frame) -> int:
    return frame.channels * frame.height * frame.width * _FLOAT.itemsize


def _opening(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header, and where the floats begin."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(min(length, _MAX_HEADER))
    except (FileNotFoundError, IsADirectoryError):
        raise MissingError(
            f"there are no latents `{path}`; `patchloom generate --save-latents` keeps them beside the image"
        ) from None
    try:
        values = json.loads(text) if len(text) == length else None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise FormatError(f"`{path}` holds no latents: it does not begin as a safetensors file does, or is cut short")
    return values, 8 + length
