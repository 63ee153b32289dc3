"""A store of tiles in a folder: survives the process, belongs to one run, is open once.

FOLDER/manifest.json      what run this is: digests, seed, plan, versions
FOLDER/lock               held while the store is open; the kernel lets go of it when the process dies
FOLDER/tiles/KEY.tiles    appended tiles
FOLDER/tiles/KEY.done     a record for each tile that is whole
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from patchloom.errors import FormatError, InputError, MismatchError
from patchloom.fields.bands import Band, room_for

_FORMAT = 1
_OPEN_FILES = 64
_KEY = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


class DirectoryStore:
    """Tiles on disk, a pair of files a key. A context manager: leaving it lets others open the folder.

    `manifest` is a mapping of JSON values that says which run the tiles belong to. Raises MismatchError where the
    folder holds another run or is open elsewhere, and FormatError where it holds something else.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder = folder
        with room_for(folder, 0):
            folder.mkdir(parents=True, exist_ok=True)
        _refuse_strangers(folder)
        self._lock = _hold(folder / "lock")
        try:
            _agree(folder, {"format": _FORMAT, **manifest})
        except BaseException:
            os.close(self._lock)
            raise
        self._bands: dict[str, Band] = {}
        self._recent: OrderedDict[str, Band] = OrderedDict()

    def has(self, key: str, index: int) -> bool:
        """Whether a tile is there whole."""
        return index in self._band(key)

    def get(self, key: str, index: int) -> NDArray[Any] | None:
        """The tile, read-only; None where there is none, or its checksum fails."""
        band = self._band(key)
        if index not in band:
            return None
        self._recent[key] = band
        self._recent.move_to_end(key)
        if len(self._recent) > _OPEN_FILES:
            self._recent.popitem(last=False)[1].release()
        return band.get(index)

    def put(self, key: str, index: int, tile: NDArray[Any]) -> None:
        """Append the tile, then the record that it is whole. Raises CapacityError on a full disk."""
        band = self._band(key)
        with room_for(band.tiles_path, tile.nbytes):
            band.tiles_path.parent.mkdir(parents=True, exist_ok=True)
        band.put(index, tile)

    def drop(self, key: str) -> None:
        """Delete the key's files."""
        self._band(key).delete()
        self._recent.pop(key, None)
        del self._bands[key]

    def close(self) -> None:
        """Let go of the files and of the lock; what is in the folder stays."""
        for band in self._bands.values():
            band.release()
        self._bands.clear()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _band(self, key: str) -> Band:
        band = self._bands.get(key)
        if band is None:
            if self._lock < 0:
                raise InputError(f"the store `{self.folder}` was closed; open it again to use it")
            if not _KEY.fullmatch(key):
                raise InputError(f"`{key}` is no key of a store: use names of letters, digits, - and _, joined by /")
            band = self._bands[key] = Band(self.folder / "tiles" / key)
        return band


def delete_store(folder: Path) -> None:
    """Remove a store's own files and its folder, once it is closed. Raises MismatchError while it is open elsewhere.

    Files that no store writes are left, and the folder with them.
    """
    _refuse_strangers(folder)
    lock = _hold(folder / "lock")
    try:
        tiles = sorted((folder / "tiles").rglob("*"), reverse=True)
        for path in [*tiles, folder / "tiles", folder / "manifest.json", folder / "lock"]:
            _remove(path)
    finally:
        os.close(lock)
    if not any(folder.iterdir()):
        folder.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir():
        if not any(path.iterdir()):
            path.rmdir()
    elif path.suffix in (".tiles", ".done") or path.name in ("manifest.json", "lock"):
        path.unlink(missing_ok=True)


def _refuse_strangers(folder: Path) -> None:
    known = {"manifest.json", "manifest.json.part", "lock", "tiles"}
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in known)
    if strangers:
        raise FormatError(f"`{folder}` is not a store of tiles: it holds `{strangers[0]}`; give a new or empty folder")


def _hold(path: Path) -> int:
    """Lock a file for as long as it is open. A lock whose process died is free: the kernel keeps it, not the file."""
    with room_for(path, 32):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with room_for(path, 32):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        owner = os.pread(handle, 32, 0).decode(errors="replace").strip()
        owner = f"process {owner}" if owner else "another process"
        os.close(handle)
        raise MismatchError(
            f"the store `{path.parent}` is in use by {owner}; wait until it ends, or name another folder with --work"
        ) from None
    except BaseException:
        os.close(handle)
        raise
    return handle


def _agree(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest into a new store; in an old one, raise MismatchError where it is another's."""
    path, wanted = folder / "manifest.json", json.loads(json.dumps(manifest))
    if not path.exists():
        part = folder / "manifest.json.part"
        text = json.dumps(wanted, indent=2, sort_keys=True) + "\n"
        with room_for(part, len(text)):
            part.write_text(text, encoding="utf-8")
        part.replace(path)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"`{path}` is damaged: {error}; delete the folder `{folder}` to start anew") from None
    differences = list(_differences(found, wanted, ""))
    if differences:
        raise MismatchError(
            f"the store `{folder}` belongs to another run, which was not finished: {'; '.join(differences)}. Repeat "
            "that command to finish it, name another folder with --work, or delete this one"
        )


def _shown(value: Any) -> str:
    """A value in a message; of a digest its beginning."""
    return f"{value:.19}" if isinstance(value, str) and value.startswith("sha256:") else f"{value!r:.80}"


def _differences(found: Any, wanted: Any, where: str) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            yield from _differences(found.get(key), wanted.get(key), f"{where}.{key}" if where else key)
    elif found != wanted:
        yield f"{where} is {_shown(found)} there and {_shown(wanted)} here"
