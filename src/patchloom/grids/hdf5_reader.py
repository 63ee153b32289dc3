"""Read one HDF5 feature file in a process of its own: a script, run by path, that imports nothing of Patchloom.

HDF5's parser has memory bugs that a crafted file can reach; here they cost a child process. The script takes
PATH FOLDER MAX_BYTES and leaves in FOLDER `features` and `coords` (raw bytes) and `result.json`, which holds their
shapes, dtypes and the known attributes, or `error`. What else the file holds is not looked at. With MAX_BYTES 0 no
array is read.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

FEATURES = ("features", "feats")
COORDS = "coords"
KINDS = {"features": ("float16", "float32"), "coords": ("int32", "int64", "uint32", "float32", "float64")}
ATTRIBUTES = (
    "patch_size",
    "patch_size_level0",
    "patch_level",
    "downsample",
    "custom_downsample",
    "overlap",
    "level0_width",
    "level0_height",
    "name",
    "extractor",
    "unit",
    "tile_size",
    "tile_size_um",
    "tile_size_px",
    "feat_type",
)
MAX_TEXT = 1024
MAX_NUMBERS = 4
SLAB_BYTES = 1 << 26
MAX_CHUNK_BYTES = 1 << 30
MEMORY_BYTES = 1 << 34


class RefusedError(Exception):
    """A file that does not follow the schema; the message is for the user."""


def main(path: str, folder: str, max_bytes: int) -> None:
    """Leave arrays and `result.json` in the folder."""
    _limit(max_bytes)
    out = Path(folder)
    try:
        result = _read(path, out, max_bytes)
    except RefusedError as error:
        result = {"error": str(error)}
    (out / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _limit(max_bytes: int) -> None:
    """Bound what a hostile file can make this process take, where the system can."""
    try:
        import resource
    except ImportError:
        return
    for kind, limit in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_FSIZE, max_bytes + MAX_TEXT**2)):
        try:
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
        except (ValueError, OSError):  # macOS knows no limit of the address space
            continue


def _read(path: str, out: Path, max_bytes: int) -> dict[str, Any]:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError:
        raise RefusedError("it is not an HDF5 file, or it is damaged or cut short") from None
    with file:
        names = [name for name in FEATURES if name in file]
        if len(names) != 1 or COORDS not in file:
            raise RefusedError(
                f"it holds {sorted(file)[:8]}; a feature file holds `coords` and one of `features`, `feats`"
            )
        features, coords = _dataset(h5py, file, names[0]), _dataset(h5py, file, COORDS)
        parts = {"features": _shape("features", features), "coords": _shape("coords", coords)}
        _check_counts(parts)
        if max_bytes:
            _check_sizes(features, coords, max_bytes)
            _copy(features, out / "features", parts["features"])
            _copy(coords, out / "coords", parts["coords"])
        attributes = _attributes(file.attrs) | _attributes(features.attrs) | _attributes(coords.attrs)
        return {"name": names[0], **parts, "attributes": attributes}


def _dataset(h5py: Any, file: Any, name: str) -> Any:
    """A dataset that lies in this very file: no link to another one, no outside storage, no filter but the usual."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise RefusedError(f"`{name}` is a link; feature files hold their data themselves")
    data = file[name]
    if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
        raise RefusedError(f"`{name}` is not a plain dataset in this file")
    if data.compression not in (None, "gzip", "lzf"):
        raise RefusedError(f"`{name}` is compressed by {data.compression}; known are gzip and lzf")
    return data


def _shape(kind: str, data: Any) -> dict[str, Any]:
    """(n, dim), without the leading dimension of 1 that some tools leave, and the dtype."""
    shape = tuple(int(length) for length in data.shape or ())
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 2 or (kind == "coords" and shape[1] != 2):
        raise RefusedError(f"`{kind}` has shape {data.shape}, expected (patches, {'2' if kind == 'coords' else 'dim'})")
    if data.dtype.name not in KINDS[kind]:
        raise RefusedError(f"`{kind}` is {data.dtype.name}, expected {' or '.join(KINDS[kind])}")
    return {"dtype": data.dtype.name, "shape": shape}


def _check_counts(parts: dict[str, dict[str, Any]]) -> None:
    counts = [part["shape"][0] for part in parts.values()]
    if counts[0] != counts[1]:
        raise RefusedError(f"it holds {counts[0]} features but {counts[1]} coordinates")
    if 0 in parts["features"]["shape"]:
        raise RefusedError("it holds no patch")


def _check_sizes(features: Any, coords: Any, max_bytes: int) -> None:
    for data in (features, coords):
        if math.prod(data.shape) * data.dtype.itemsize > max_bytes:
            raise RefusedError(
                f"its arrays are larger than the limit of {max_bytes:,} bytes; raise max_bytes if you trust it"
            )
        if data.chunks and math.prod(data.chunks) * data.dtype.itemsize > MAX_CHUNK_BYTES:
            raise RefusedError(f"its chunks of {data.chunks} are larger than {MAX_CHUNK_BYTES:,} bytes")


def _copy(data: Any, path: Path, part: dict[str, Any]) -> None:
    """The dataset as raw little-endian bytes, a slab of rows at a time."""
    count, width = part["shape"]
    dtype = data.dtype.newbyteorder("<")
    step = max(SLAB_BYTES // max(width * dtype.itemsize, 1), 1)
    with path.open("wb") as file:
        for start in range(0, count, step):
            some = slice(start, start + step)
            file.write((data[0, some] if data.ndim == 3 else data[some]).astype(dtype).tobytes())


def _attributes(attributes: Any) -> dict[str, Any]:
    """The known attributes that are numbers, short lists of numbers, or short texts."""
    found = {}
    for name in ATTRIBUTES:
        if name in attributes:
            if math.prod(attributes.get_id(name).shape) > MAX_NUMBERS:
                raise RefusedError(f"attribute `{name}` is longer than {MAX_NUMBERS} values")
            found[name] = _plain(name, attributes[name])
    return found


def _plain(name: str, value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value[:MAX_TEXT]
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(isinstance(part, int | float) and math.isfinite(part) for part in numbers):
        raise RefusedError(f"attribute `{name}` is {value!r:.80}, expected a number or a text")
    return numbers if isinstance(value, list) else value


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
