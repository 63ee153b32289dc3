"""Where finished tiles are kept: keys, indices and arrays, and nothing about what they mean.

A store holds what each window said, never a running sum: a tile is there whole or not at all, so a run that was
killed goes on where it stopped and ends with the same bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray


class Store(Protocol):
    """Tiles (channels, height, width) of any numeric dtype under a key and an index.

    Keys are names joined by `/`, such as `stage-003/17`. Whoever fills a store chooses keys so that what is
    finished together can be dropped together.
    """

    def has(self, key: str, index: int) -> bool:
        """Whether a tile is there; cheap."""
        ...

    def get(self, key: str, index: int) -> NDArray[Any] | None:
        """The tile, not to be written to; None where there is none, or where it turns out damaged."""
        ...

    def put(self, key: str, index: int, tile: NDArray[Any]) -> None:
        """Keep a copy. Raises CapacityError where there is no room; what was there before stays."""
        ...

    def drop(self, key: str) -> None:
        """Forget every tile of one key."""
        ...


@dataclass(slots=True)
class MemoryStore:
    """Tiles in memory; with `limit_bytes`, the tiles used longest ago make room for new ones.

    A limit turns the store into a cache: a weave makes again what was forgotten, to the same bytes.
    """

    limit_bytes: int | None = None
    nbytes: int = field(default=0, init=False)
    _tiles: OrderedDict[tuple[str, int], NDArray[Any]] = field(default_factory=OrderedDict, init=False, repr=False)
    _indices: dict[str, set[int]] = field(default_factory=dict, init=False, repr=False)

    def has(self, key: str, index: int) -> bool:
        """Whether a tile is in memory."""
        return (key, index) in self._tiles

    def get(self, key: str, index: int) -> NDArray[Any] | None:
        """The tile, read-only; it counts as used now."""
        tile = self._tiles.get((key, index))
        if tile is not None and self.limit_bytes is not None:
            self._tiles.move_to_end((key, index))
        return tile

    def put(self, key: str, index: int, tile: NDArray[Any]) -> None:
        """Keep a copy, and forget the oldest tiles while there are more bytes than the limit."""
        self._forget(key, index)
        kept = tile.copy()
        kept.flags.writeable = False
        self._tiles[key, index] = kept
        self._indices.setdefault(key, set()).add(index)
        self.nbytes += kept.nbytes
        while self.limit_bytes is not None and self.nbytes > self.limit_bytes and len(self._tiles) > 1:
            self._forget(*next(iter(self._tiles)))

    def drop(self, key: str) -> None:
        """Forget every tile of one key."""
        for index in list(self._indices.get(key, ())):
            self._forget(key, index)

    def _forget(self, key: str, index: int) -> None:
        tile = self._tiles.pop((key, index), None)
        if tile is not None:
            self.nbytes -= tile.nbytes
            self._indices[key].discard(index)
            if not self._indices[key]:
                del self._indices[key]
