"""Files of weights: their identity, the sha256 of the files, and what they hold."""

from __future__ import annotations

import hashlib
import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

from patchloom.errors import FormatError, MissingError
from patchloom.mistaken import mistaken


def file_digest(path: Path) -> str:
    """`sha256:` and the 64 hex digits that `sha256sum` prints for the file. Raises MissingError."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except FileNotFoundError:
        raise MissingError(f"there is no weight file `{path}`") from None


def files_digest(paths: Sequence[Path]) -> str:
    """Of one file, its own digest; of several, the digest of their digests in the order of their names."""
    if len(paths) == 1:
        return file_digest(paths[0])
    lines = [f"{file_digest(path)} {path.name}\n" for path in sorted(paths, key=lambda path: path.name)]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def read_state(files: Sequence[Path]) -> dict[str, Any]:
    """What weight files hold: tensors by name, or, of a training run's checkpoint, such mappings by name.

    Safetensors by their content, else torch's own format without its power to run code; of other classes only
    `argparse.Namespace` is built, in which DINO and its kin keep their options. Raises FormatError.
    """
    state: dict[str, Any] = {}
    for file in files:
        state |= _read(file)
    return state


def _read(file: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file

    with file.open("rb") as opened:
        safe = opened.read(9)[8:] == b"{"
    try:
        if safe:
            return dict(load_file(file))
        _check_no_program(file)
        with torch.serialization.safe_globals([Namespace]):
            held = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file) or None)
    except FormatError:
        raise
    except Exception as error:  # a damaged pickle fails with any kind at all
        raise FormatError(f"`{file}` {_why(file, error)}") from None
    if not isinstance(held, dict):
        raise FormatError(f"weights `{file}` hold a {type(held).__name__}, not tensors by name")
    return held


def _why(file: Path, error: Exception) -> str:
    """Why weights could not be read, and what to do; torch's own advice would be to run what the file holds."""
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if asked is not None:
        return f"asks for `{asked[1]}`, which is not built here; save the model's `state_dict()` alone"
    told = None if is_zipfile(file) else mistaken(file)
    first = re.split(r"[.\n]", str(error), maxsplit=1)[0]
    return told or f"is damaged or no file of weights ({type(error).__name__}: {first:.200}); download or copy it again"


def _check_no_program(file: Path) -> None:
    """FormatError for TorchScript, whose zip looks like weights and holds code."""
    if not is_zipfile(file):
        return
    with ZipFile(file) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise FormatError(
            f"`{file}` is a TorchScript program, and code that comes with weights is never run; "
            "take the file that holds the same weights by name"
        )
