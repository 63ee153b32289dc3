"""Stores keep what they were given; a folder survives kills, torn writes and full disks, and knows its run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from patchloom.errors import CapacityError, FormatError, InputError, MismatchError
from patchloom.fields.directory import DirectoryStore, delete_store
from patchloom.fields.stores import MemoryStore, Store
from patchloom.testing.fields import StoreLaws

RUN = {"seed": 7, "weights": {"digest": "sha256:aa"}, "plan": "halo"}


def tile(value: int, size: int = 6) -> NDArray[np.float32]:
    return np.full((2, size, size), value, np.float32)


class TestMemoryStore(StoreLaws):
    def store(self, folder: Path) -> Store:
        return MemoryStore()


class TestDirectoryStore(StoreLaws):
    def store(self, folder: Path) -> Store:
        return DirectoryStore(folder, RUN)


class TestReopenedDirectoryStore(StoreLaws):
    """Every answer comes from a folder that was closed and opened again."""

    def store(self, folder: Path) -> Store:
        return Reopened(folder)


class Reopened:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, key: str, index: int) -> bool:
        with DirectoryStore(self.folder, RUN) as store:
            return store.has(key, index)

    def get(self, key: str, index: int) -> NDArray[np.float32] | None:
        with DirectoryStore(self.folder, RUN) as store:
            return store.get(key, index)

    def put(self, key: str, index: int, tile: NDArray[np.float32]) -> None:
        with DirectoryStore(self.folder, RUN) as store:
            store.put(key, index, tile)

    def drop(self, key: str) -> None:
        with DirectoryStore(self.folder, RUN) as store:
            store.drop(key)


def test_memory_with_a_limit_forgets_what_was_used_longest_ago() -> None:
    store = MemoryStore(limit_bytes=3 * tile(0).nbytes)
    for index in range(3):
        store.put("k", index, tile(index))
    store.get("k", 0)
    store.put("k", 3, tile(3))
    assert [store.has("k", index) for index in range(4)] == [True, False, True, True]
    assert store.nbytes == 3 * tile(0).nbytes


def test_another_run_is_refused_and_the_message_names_what_differs(tmp_path: Path) -> None:
    DirectoryStore(tmp_path / "s", RUN).close()
    with pytest.raises(MismatchError, match=r"weights\.digest is sha256:aa there and sha256:bb here") as caught:
        DirectoryStore(tmp_path / "s", {**RUN, "weights": {"digest": "sha256:bb"}})
    assert "seed" not in str(caught.value)
    with pytest.raises(MismatchError, match="grid is None there"):
        DirectoryStore(tmp_path / "s", {**RUN, "grid": "sha256:cc"})
    DirectoryStore(tmp_path / "s", RUN).close()


def test_a_manifest_holds_no_clock(tmp_path: Path) -> None:
    for name in ("a", "b"):
        DirectoryStore(tmp_path / name, RUN).close()
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()
    assert json.loads((tmp_path / "a/manifest.json").read_text())["seed"] == 7


def test_two_runs_on_one_store_the_second_is_refused(tmp_path: Path) -> None:
    with DirectoryStore(tmp_path / "s", RUN):
        with pytest.raises(MismatchError, match=f"in use by process {os.getpid()}"):
            DirectoryStore(tmp_path / "s", RUN)
        with pytest.raises(MismatchError, match="in use"):
            delete_store(tmp_path / "s")
    DirectoryStore(tmp_path / "s", RUN).close()


def test_a_lock_whose_process_died_is_free(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "s")], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(MismatchError, match=f"process {child.pid}"):
        DirectoryStore(tmp_path / "s", RUN)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with DirectoryStore(tmp_path / "s", RUN) as store:
        whole = sum(store.has("k", index) for index in range(100_000))
        assert whole > 0
        assert all(np.array_equal(found, tile(i)) for i in range(whole) if (found := store.get("k", i)) is not None)
        assert store.get("k", whole - 1) is not None


# Fills a store until it is killed; the first line of output says that it is open and writing.
CHILD = f"""
import sys
from pathlib import Path
import numpy as np
from patchloom.fields.directory import DirectoryStore
store = DirectoryStore(Path(sys.argv[1]), {RUN!r})
for index in range(100_000):
    store.put("k", index, np.full((2, 6, 6), index, np.float32))
    if index == 200:
        print("writing", flush=True)
"""


@pytest.mark.parametrize("name", ["k.done", "k.tiles"])
def test_a_write_torn_at_any_byte_loses_that_tile_alone(tmp_path: Path, name: str) -> None:
    with DirectoryStore(tmp_path / "s", RUN) as store:
        for index in range(3):
            store.put("k", index, tile(index))
    path = tmp_path / "s/tiles" / name
    whole = path.read_bytes()
    size = len(whole) // 3
    for cut in range(2 * size, 3 * size, 13 if name == "k.tiles" else 1):
        path.write_bytes(whole[:cut])
        with DirectoryStore(tmp_path / "s", RUN) as store:
            assert [store.has("k", index) for index in range(3)] == [True, True, False]
            store.put("k", 2, tile(2))
        with DirectoryStore(tmp_path / "s", RUN) as store:
            for index in range(3):
                np.testing.assert_array_equal(store.get("k", index), tile(index))
        assert path.read_bytes() == whole, "after the tile is put again the bytes are those of an unbroken run"


def test_records_of_lost_tiles_do_not_come_back_when_the_file_has_grown_again(tmp_path: Path) -> None:
    with DirectoryStore(tmp_path / "s", RUN) as store:
        for index in range(3):
            store.put("k", index, tile(index))
    os.truncate(tmp_path / "s/tiles/k.tiles", tile(0).nbytes)
    with DirectoryStore(tmp_path / "s", RUN) as store:
        store.put("k", 9, tile(9, size=20))
    with DirectoryStore(tmp_path / "s", RUN) as store:
        assert [store.has("k", index) for index in (0, 1, 2, 9)] == [True, False, False, True]


def test_a_damaged_tile_is_missing_not_wrong(tmp_path: Path) -> None:
    with DirectoryStore(tmp_path / "s", RUN) as store:
        store.put("k", 0, tile(0))
        store.put("k", 1, tile(1))
    path = tmp_path / "s/tiles/k.tiles"
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    with DirectoryStore(tmp_path / "s", RUN) as store:
        assert store.get("k", 0) is None
        assert not store.has("k", 0)
        np.testing.assert_array_equal(store.get("k", 1), tile(1))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full to stand for a full disk")
@pytest.mark.parametrize("name", ["k.tiles", "k.done"])
def test_a_full_disk_stops_with_the_size_and_goes_on_when_there_is_room(tmp_path: Path, name: str) -> None:
    path = tmp_path / "s/tiles" / name
    with DirectoryStore(tmp_path / "s", RUN) as store:
        store.put("k", 0, tile(0))
        kept = path.rename(tmp_path / "kept")
        path.symlink_to("/dev/full")
        with pytest.raises(CapacityError, match=r"no room for \d+ more bytes in .*run the same command again"):
            store.put("k", 1, tile(1))
        path.unlink()
        kept.rename(path)
        assert not store.has("k", 1)
        store.put("k", 1, tile(1))
    with DirectoryStore(tmp_path / "s", RUN) as store:
        for index in range(2):
            np.testing.assert_array_equal(store.get("k", index), tile(index))


def test_files_are_a_pair_a_key_and_go_when_the_key_is_dropped(tmp_path: Path) -> None:
    with DirectoryStore(tmp_path / "s", RUN) as store:
        for index in range(300):
            store.put("stage-001/4", index, tile(index))
        assert sorted(p.name for p in (tmp_path / "s/tiles/stage-001").iterdir()) == ["4.done", "4.tiles"]
        store.drop("stage-001/4")
        assert not list((tmp_path / "s/tiles/stage-001").iterdir())


def test_more_keys_than_files_may_be_open(tmp_path: Path) -> None:
    with DirectoryStore(tmp_path / "s", RUN) as store:
        for key in range(300):
            store.put(f"k{key}", 0, tile(key))
        before = len(list(Path("/dev/fd").iterdir()))
        for key in range(300):
            np.testing.assert_array_equal(store.get(f"k{key}", 0), tile(key))
        assert len(list(Path("/dev/fd").iterdir())) - before <= 70


def test_a_finished_store_is_removed_and_strangers_are_left(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with DirectoryStore(tmp_path / name, RUN) as store:
            store.put("stage/1", 0, tile(0))
    delete_store(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (tmp_path / "b/thesis.doc").write_text("years of work")
    with pytest.raises(FormatError, match=r"thesis\.doc"):
        delete_store(tmp_path / "b")
    with pytest.raises(FormatError, match="not a store"):
        DirectoryStore(tmp_path / "b", RUN)
    assert (tmp_path / "b/thesis.doc").exists()


@pytest.mark.parametrize("key", ["../out", "/etc/x", "a//b", "", "a/.."])
def test_keys_stay_in_the_folder(tmp_path: Path, key: str) -> None:
    with DirectoryStore(tmp_path / "s", RUN) as store, pytest.raises(InputError, match="no key"):
        store.put(key, 0, tile(0))


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "s", RUN)
    store.close()
    store.close()
    with pytest.raises(InputError, match="was closed"):
        store.get("k", 0)


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    DirectoryStore(tmp_path / "s", RUN).close()
    (tmp_path / "s/manifest.json").write_text("{")
    with pytest.raises(FormatError, match=r"manifest\.json` is damaged"):
        DirectoryStore(tmp_path / "s", RUN)
