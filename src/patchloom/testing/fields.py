"""Laws of fields and of stores. Subclass, say how one is made, and inherit the tests.

class TestMyStore(StoreLaws):
    def store(self, folder: Path) -> Store:
        return MyStore(folder / "store")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from patchloom.errors import GeometryError
from patchloom.fields.field import Field
from patchloom.fields.stores import Store
from patchloom.geometry import Box


class FieldLaws:
    """What every field keeps: its frame's shape and dtype, one answer however it is cut, no answer outside."""

    bounded = True  # False for fields that go on beyond their frame, as noise does

    def field(self) -> Field:
        """A new field, at least 8 x 8; two calls make equal ones."""
        raise NotImplementedError("subclasses of FieldLaws say how their field is made")

    def test_answers_have_the_frame_s_channels_and_dtype(self) -> None:
        """`read` gives (channels, height, width) of the frame's dtype."""
        field = self.field()
        frame = field.frame
        answer = field.read(Box(1, 2, 3, 5))
        assert answer.shape == (frame.channels, 3, 5)
        assert answer.dtype == np.dtype(frame.dtype)

    def test_a_part_read_alone_is_the_part_of_the_whole(self) -> None:
        """Cutting before or after reading is the same, in any order, on a field that was never read before."""
        frame = self.field().frame
        whole = self.field().read(frame.box)
        fresh = self.field()
        for box in reversed(_parts(frame.height, frame.width)):
            np.testing.assert_array_equal(fresh.read(box), whole[:, *box.inside(frame.box)])

    def test_reading_twice_gives_the_same(self) -> None:
        """A read changes nothing."""
        field = self.field()
        box = field.frame.box
        np.testing.assert_array_equal(np.array(field.read(box)), field.read(box))

    def test_boxes_outside_are_refused(self) -> None:
        """GeometryError, never a short or padded answer."""
        if not self.bounded:
            return
        field = self.field()
        height, width = field.frame.height, field.frame.width
        for box in (Box(-1, 0, 4, 4), Box(0, -1, 4, 4), Box(height - 3, 0, 4, 4), Box(0, width - 3, 4, 4)):
            with pytest.raises(GeometryError):
                field.read(box)


class StoreLaws:
    """What every store of tiles keeps: arrays as they were given, under the key and index they were given."""

    def store(self, folder: Path) -> Store:
        """A new, empty store; `folder` is empty and the store's own."""
        raise NotImplementedError("subclasses of StoreLaws say how their store is made")

    @pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64", "bool"])
    def test_what_is_put_is_got(self, tmp_path: Path, dtype: str) -> None:
        """Same shape, dtype and bytes, for arrays that are not contiguous too."""
        store = self.store(tmp_path)
        tile = _tile(3, dtype).transpose(0, 2, 1)
        store.put("stage/7", 5, tile)
        _same(store.get("stage/7", 5), tile)
        assert store.has("stage/7", 5)

    def test_nothing_is_there_that_was_not_put(self, tmp_path: Path) -> None:
        """Other indices and other keys stay empty; one key is no prefix of another."""
        store = self.store(tmp_path)
        store.put("stage/1", 0, _tile(1))
        for key, index in (("stage/1", 1), ("stage/10", 0), ("stage", 0), ("other", 0)):
            assert not store.has(key, index)
            assert store.get(key, index) is None

    def test_a_tile_is_a_copy(self, tmp_path: Path) -> None:
        """What the caller does to its array afterwards does not reach the store, nor the other way."""
        store = self.store(tmp_path)
        tile = _tile(2)
        store.put("k", 0, tile)
        kept = tile.copy()
        tile[:] = 0
        _same(store.get("k", 0), kept)

    def test_many_tiles_of_many_shapes(self, tmp_path: Path) -> None:
        """Edge tiles have other shapes; the order of putting does not matter."""
        store = self.store(tmp_path)
        tiles = {i: np.full((2, 1 + i % 3, 1 + i % 5), i, np.float32) for i in (7, 3, 11, 0, 200, 4)}
        for index, tile in tiles.items():
            store.put(f"stage/{index % 2}", index, tile)
        for index, tile in tiles.items():
            _same(store.get(f"stage/{index % 2}", index), tile)

    def test_the_last_put_stands(self, tmp_path: Path) -> None:
        """Putting again replaces."""
        store = self.store(tmp_path)
        store.put("k", 0, _tile(1))
        store.put("k", 0, _tile(2))
        _same(store.get("k", 0), _tile(2))

    def test_a_dropped_key_is_empty_and_can_be_filled_again(self, tmp_path: Path) -> None:
        """`drop` forgets one key, leaves its neighbours, and is no error where there is nothing."""
        store = self.store(tmp_path)
        store.put("stage/1", 0, _tile(1))
        store.put("stage/10", 0, _tile(2))
        store.drop("stage/1")
        store.drop("stage/99")
        assert store.get("stage/1", 0) is None
        _same(store.get("stage/10", 0), _tile(2))
        store.put("stage/1", 0, _tile(3))
        _same(store.get("stage/1", 0), _tile(3))


def _parts(height: int, width: int) -> list[Box]:
    third, half = height // 3, width // 2
    return [
        Box(0, 0, third, half),
        Box(0, half, third, width - half),
        Box(third, 0, height - third, width),
        Box(third, half, 1, 1),
        Box(height - 1, width - 1, 1, 1),
        Box(0, 0, height, 1),
    ]


def _tile(seed: int, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 100, (2, 5, 7)).astype(dtype)


def _same(found: NDArray[Any] | None, expected: NDArray[Any]) -> None:
    assert found is not None
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
