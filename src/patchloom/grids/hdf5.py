"""Feature files in HDF5, read through a child process: see `hdf5_reader.py` for why."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from patchloom import records
from patchloom.errors import DependencyError, FormatError, MissingError

Attribute = int | float | str | list[float]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SCRIPT = Path(__file__).with_name("hdf5_reader.py")
# No filter plugins from wherever the system keeps them; no locks, which some network disks refuse.
_ENVIRONMENT = {"HDF5_PLUGIN_PRELOAD": "::", "HDF5_USE_FILE_LOCKING": "FALSE"}


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFile:
    """What a feature file holds, as it stands in the file."""

    name: Literal["features", "feats"]  # of the dataset
    features: NDArray[np.floating[Any]]  # (n, dim), float16 or float32
    coords: NDArray[Any]  # (n, 2), x before y, integer or float
    attributes: dict[str, Attribute]  # of the file, of the features and of the coordinates, together


@dataclass(frozen=True, slots=True)
class FeatureFacts:
    """A feature file's header: the length of everything, and nothing else."""

    name: Literal["features", "feats"]  # of the dataset
    shape: tuple[int, int]  # patches, dim
    dtype: str  # of the features
    attributes: dict[str, Attribute]


def need_h5py() -> None:
    """Raise DependencyError where h5py is not installed."""
    if importlib.util.find_spec("h5py") is None:
        raise DependencyError("HDF5 feature files need h5py; install it with `pip install 'patchloom[features]'`")


def read_hdf5(path: Path, *, timeout_s: float, max_bytes: int) -> FeatureFile:
    """Read a feature file. Raises DependencyError, MissingError, or FormatError for anything that is not one."""
    need_h5py()
    if not path.is_file():
        raise MissingError(f"there is no feature file `{path}`")
    with tempfile.TemporaryDirectory(prefix="patchloom-features-") as folder:
        _run(path, folder, timeout_s, max_bytes)
        told = _told(path, Path(folder))
        features, coords = (_array(Path(folder) / name, part) for name, part in _parts(told))
        return FeatureFile(told.name, features, coords, told.attributes)


def read_facts(path: Path, *, timeout_s: float = 60.0) -> FeatureFacts:
    """What a feature file says of itself, without its arrays. Raises as `read_hdf5` does."""
    need_h5py()
    with tempfile.TemporaryDirectory(prefix="patchloom-features-") as folder:
        _run(path, folder, timeout_s, 0)
        told = _told(path, Path(folder))
    return FeatureFacts(told.name, told.features.shape, told.features.dtype, told.attributes)


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SIGNATURE)) == _SIGNATURE
    except OSError:
        return False


def _run(path: Path, folder: str, timeout_s: float, max_bytes: int) -> None:
    # -P keeps the script's own folder off the path, where a `types.py` or the like would shadow a library.
    command = [sys.executable, "-P", str(_SCRIPT), str(path.resolve()), folder, str(max_bytes)]
    try:
        done = subprocess.run(
            command, env=os.environ | _ENVIRONMENT, capture_output=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise FormatError(
            f"`{path}` was not read within {timeout_s:g} s and was given up; raise timeout_s if the disk is slow"
        ) from None
    if done.returncode != 0:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise FormatError(
            f"`{path}` could not be read: the HDF5 reader ended with {done.returncode}"
            f"{f' ({told[-1]:.200})' if told else ''}; the file is damaged, or not what it says"
        )


@dataclass(frozen=True, slots=True)
class _Part:
    dtype: Literal["float16", "float32", "float64", "int32", "int64", "uint32"]
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Result:
    name: Literal["features", "feats"]
    features: _Part
    coords: _Part
    attributes: dict[str, Any]


def _told(path: Path, folder: Path) -> _Result:
    told = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if "error" in told:
        raise FormatError(f"`{path}`: {told['error']}")
    return records.load(_Result, told, f"`{path}`")


def _parts(result: _Result) -> list[tuple[str, _Part]]:
    return [("features", result.features), ("coords", result.coords)]


def _array(path: Path, part: _Part) -> NDArray[Any]:
    return np.fromfile(path, np.dtype(part.dtype).newbyteorder("<")).reshape(part.shape)
