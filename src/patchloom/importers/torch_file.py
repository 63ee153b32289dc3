"""Torch's own files (`.ckpt`, `.pt`, `.pth`, `.bin`) read without torch's unpickler.

Such a file is a zip of a pickle and of raw storages. The pickle is described by `pickle_reader.py` in a process of its
own, which can call nothing that the file names; the storages that matter are then mapped from the file as they lie.
Sizes are checked against the file before anything is mapped, so no description makes this process allocate.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from patchloom.errors import FormatError

_SCRIPT = Path(__file__).with_name("pickle_reader.py")
_LONGEST_PICKLE = 1 << 29  # bytes; that of the largest models is a few MiB
_LOCAL_HEADER = 30
_AGAIN = "download or copy it again"
_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


@dataclass(frozen=True, slots=True)
class TensorNote:
    """A tensor as the pickle describes it."""

    storage: str
    dtype: str
    numel: int  # of the storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Blank:
    """What stands where the file has an object that is not admitted."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class TorchFile:
    """A described file: `root` holds mappings, lists, plain values, `TensorNote` and `Blank`."""

    path: Path
    root: Any
    _places: dict[str, tuple[int, int, int]]  # storage -> first byte in the file, bytes, checksum

    def tensors(self, notes: Mapping[str, TensorNote]) -> dict[str, Tensor]:
        """The tensors of these notes, mapped from the file privately. Raises FormatError for damaged storages."""
        storages = {(note.storage, note.dtype): note for note in notes.values()}
        held = {key: self._storage(note) for key, note in storages.items()}
        return {name: self._view(name, note, held[note.storage, note.dtype]) for name, note in notes.items()}

    def _storage(self, note: TensorNote) -> Tensor:
        if note.dtype not in _DTYPES or note.storage not in self._places:
            raise FormatError(f"`{self.path}` lacks the values of a tensor (storage `{note.storage}`, {note.dtype})")
        start, size, checksum = self._places[note.storage]
        if size == 0:
            return torch.empty(0, dtype=_DTYPES[note.dtype])
        held = np.memmap(self.path, np.uint8, "c", start, (size,))
        if zlib.crc32(held.data) != checksum:
            raise FormatError(
                f"`{self.path}` is damaged: storage `{note.storage}` does not have its checksum; {_AGAIN}"
            )
        whole = size - size % _DTYPES[note.dtype].itemsize
        return torch.from_numpy(held)[:whole].view(_DTYPES[note.dtype])

    def _view(self, name: str, note: TensorNote, storage: Tensor) -> Tensor:
        numbers = (note.offset, *note.shape, *note.strides)
        reach = note.offset + 1 + sum((n - 1) * step for n, step in zip(note.shape, note.strides, strict=False))
        empty = 0 in note.shape
        fits = len(note.shape) == len(note.strides) and min(numbers) >= 0 and prod(note.shape) <= len(storage)
        if not fits or (not empty and reach > len(storage)):
            raise FormatError(f"`{self.path}`: tensor `{name}` of {note.shape} does not fit its {len(storage)} values")
        return storage.as_strided(note.shape, note.strides, note.offset)


def read_torch_file(path: Path, *, timeout_s: float = 120.0) -> TorchFile:
    """Describe a file; no tensor is read yet. Raises FormatError for what is no whole checkpoint of torch 1.6 or later.

    The process that reads the pickle has at most 4 GiB of memory (where the system can say so) and `timeout_s` seconds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            prefix = _prefix(path, entries)
            _check_order(path, archive, entries.get(f"{prefix}/byteorder"))
            told = _described(path, archive.read(f"{prefix}/data.pkl"), timeout_s)
        with path.open("rb") as file:
            places = _places(path, file, entries, f"{prefix}/data/")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise FormatError(
            f"`{path}`, of {path.stat().st_size:,} bytes, is no whole checkpoint: it ends early or is damaged "
            f"({error}); {_AGAIN}"
        ) from None
    return TorchFile(path, _value(path, told), places)


def _prefix(path: Path, entries: Mapping[str, zipfile.ZipInfo]) -> str:
    found = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(found) != 1:
        raise FormatError(
            f"`{path}` is a zip but no torch checkpoint: it holds {len(found)} `data.pkl`, not one; if "
            "weights are packed in it, unpack it"
        )
    entry = entries[found[0]]
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > _LONGEST_PICKLE:
        raise FormatError(f"`{path}`: its pickle of {entry.file_size} bytes is compressed or too long for a checkpoint")
    return found[0].removesuffix("/data.pkl")


def _check_order(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo | None) -> None:
    if entry is not None and (entry.file_size > 16 or archive.read(entry) != b"little"):
        raise FormatError(f"`{path}` was written by a big-endian machine, which is not read here")


def _described(path: Path, pickled: bytes, timeout_s: float) -> Any:
    command = [sys.executable, "-I", "-S", str(_SCRIPT)]
    try:
        done = subprocess.run(command, input=pickled, capture_output=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise FormatError(f"`{path}` was not read within {timeout_s:g} s and was given up") from None
    try:
        told = json.loads(done.stdout)
    except ValueError:
        raise FormatError(f"`{path}` could not be read: the pickle reader ended with {done.returncode}") from None
    if "error" in told:
        raise FormatError(f"`{path}` is damaged or no checkpoint: {told['error']}")
    return told["root"]


def _places(
    path: Path, file: BinaryIO, entries: Mapping[str, zipfile.ZipInfo], prefix: str
) -> dict[str, tuple[int, int, int]]:
    """Where each storage's bytes begin: behind its local header, whose variable parts are said in it alone."""
    length = path.stat().st_size
    found = {}
    for name, entry in entries.items():
        if not name.startswith(prefix):
            continue
        if entry.compress_type != zipfile.ZIP_STORED:
            raise FormatError(f"`{path}` has compressed storages, which torch does not write")
        file.seek(entry.header_offset)
        header = file.read(_LOCAL_HEADER)
        start = entry.header_offset + _LOCAL_HEADER + sum(header[26:30:2]) + 256 * sum(header[27:30:2])
        if len(header) < _LOCAL_HEADER or start + entry.file_size > length:
            raise FormatError(f"`{path}` is damaged: storage `{name}` reaches beyond the end of the file; {_AGAIN}")
        found[name.removeprefix(prefix)] = (start, entry.file_size, entry.CRC)
    return found


def _value(path: Path, told: Any) -> Any:
    if not isinstance(told, dict):
        return told
    kind, content = next(iter(told.items()))
    if kind == "map":
        return {key: _value(path, item) for key, item in content}
    if kind == "list":
        return [_value(path, item) for item in content]
    if kind == "blank":
        return Blank(str(content))
    return _note(path, content)


def _note(path: Path, told: Any) -> TensorNote:
    try:
        storage, dtype, numel, offset, shape, strides = told
        return TensorNote(
            str(storage), str(dtype), int(numel), int(offset), tuple(map(int, shape)), tuple(map(int, strides))
        )
    except (TypeError, ValueError):
        raise FormatError(f"`{path}` describes a tensor in a way that torch does not") from None
