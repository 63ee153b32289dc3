"""One file of tiles and the record of those that are whole: what a directory store keeps under one key.

Tiles are appended to `NAME.tiles`; only then is a fixed-size record with their place and checksum appended to
`NAME.done`. A process that dies between the two, or in the middle of either, leaves bytes that no good record
speaks of: the next opening cuts them off.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import CapacityError, GeometryError

_RECORD = np.dtype(
    [
        ("index", "<i8"),
        ("offset", "<i8"),
        ("nbytes", "<i8"),
        ("shape", "<i4", 3),
        ("dtype", "S8"),
        ("crc", "<u4"),  # of the tile's bytes
        ("check", "<u4"),  # of the record up to here
    ]
)
_CHECKED = _RECORD.itemsize - 4
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Band:
    """The tiles of one key on disk. One process at a time may write; the store's lock sees to that."""

    def __init__(self, path: Path) -> None:
        self.tiles_path = path.with_name(path.name + ".tiles")
        self.done_path = path.with_name(path.name + ".done")
        self._reader: int | None = None
        self._records = 0
        self._end = 0
        self._entries: dict[int, Any] = {}  # index to record
        self._load()

    def __contains__(self, index: int) -> bool:
        return index in self._entries

    def get(self, index: int) -> NDArray[Any] | None:
        """The tile, or None where there is none or its bytes are not those that were put."""
        entry = self._entries.get(index)
        if entry is None:
            return None
        if self._reader is None:
            self._reader = os.open(self.tiles_path, os.O_RDONLY)
        data = os.pread(self._reader, int(entry["nbytes"]), int(entry["offset"]))
        if len(data) != entry["nbytes"] or crc32(data) != entry["crc"]:  # the machine lost power, not the process
            del self._entries[index]
            return None
        return np.frombuffer(data, np.dtype(entry["dtype"].decode())).reshape(entry["shape"])

    def put(self, index: int, tile: NDArray[Any]) -> None:
        """Append a tile (channels, height, width), then its record; the tiles that were there stay.

        Raises GeometryError for another number of axes, CapacityError on a full disk.
        """
        if tile.ndim != 3:
            raise GeometryError(f"a tile has three axes (channels, height, width), not the shape {tile.shape}")
        data = np.ascontiguousarray(tile).tobytes()
        record = np.zeros((), _RECORD)
        record["index"], record["offset"], record["nbytes"] = index, self._end, len(data)
        record["shape"], record["dtype"], record["crc"] = tile.shape, tile.dtype.str.encode(), crc32(data)
        record["check"] = crc32(record.tobytes()[:_CHECKED])
        _write(self.tiles_path, data, self._end)
        _write(self.done_path, record.tobytes(), self._records * _RECORD.itemsize)
        self._entries[index] = record[()]
        self._records += 1
        self._end += len(data)

    def release(self) -> None:
        """Close the file; the next read opens it again."""
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None

    def delete(self) -> None:
        """Remove both files: the record first, so that no record outlives its tiles."""
        self.release()
        self.done_path.unlink(missing_ok=True)
        self.tiles_path.unlink(missing_ok=True)
        self._entries.clear()
        self._records = self._end = 0

    def _load(self) -> None:
        if not (self.done_path.exists() and self.tiles_path.exists()):
            self.done_path.unlink(missing_ok=True)
            return
        data = self.done_path.read_bytes()
        size = self.tiles_path.stat().st_size
        for record in np.frombuffer(data, _RECORD, count=len(data) // _RECORD.itemsize):
            end = int(record["offset"] + record["nbytes"])
            if crc32(record.tobytes()[:_CHECKED]) != record["check"] or end > size:
                break
            self._entries[int(record["index"])] = record
            self._records += 1
            self._end = max(self._end, end)
        os.truncate(self.done_path, self._records * _RECORD.itemsize)
        os.truncate(self.tiles_path, self._end)


@contextmanager
def room_for(path: Path, needed: int) -> Iterator[None]:
    """Turn a full disk's OSError into CapacityError, with how much was asked for and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise CapacityError(
            f"no room for {needed:,} more bytes in `{path}`: {error.strerror}. "
            "What is finished is kept; free some space and run the same command again"
        ) from error


def _write(path: Path, data: bytes, offset: int) -> None:
    with room_for(path, len(data)):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(handle, memoryview(data)[written:], offset + written)
        finally:
            os.close(handle)
