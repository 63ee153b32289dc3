"""The levels of a pyramid, each half the one above, made while the picture streams by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
Emit = Callable[[int, UInt8], None]


def level_sizes(height: int, width: int, tile: int) -> list[tuple[int, int]]:
    """(height, width) of each level: halved, rounded up, until one tile holds it all."""
    sizes = [(height, width)]
    while max(sizes[-1]) > tile:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def halved(pixels: UInt8) -> UInt8:
    """Means of 2 x 2 pixels of (h, w, channels); an odd last row or column is averaged with itself.

    Halves are rounded to even, so that a deep pyramid does not drift brighter.
    """
    down, across = pixels.shape[0] % 2, pixels.shape[1] % 2
    if down or across:
        pixels = np.pad(pixels, ((0, down), (0, across), (0, 0)), mode="edge")
    rows = pixels[::2].astype(np.uint16) + pixels[1::2]
    total = rows[:, ::2] + rows[:, 1::2]
    return np.asarray((total + 1 + ((total >> 2) & 1)) >> 2, np.uint8)


class Cascade:
    """Takes rows of level 0 from top to bottom and hands out bands of `tile` rows of every level.

    Holds less than a band a level. `emit(level, band)` gets (rows, width, channels), the last band as it is left.
    """

    def __init__(self, levels: int, tile: int, emit: Emit) -> None:
        self._tile, self._emit = tile, emit
        self._waiting: list[list[UInt8]] = [[] for _ in range(levels)]

    def push(self, rows: UInt8, level: int = 0) -> None:
        """Add rows (h, w, channels) below those pushed before."""
        self._waiting[level].append(rows)
        while sum(map(len, self._waiting[level])) >= self._tile:
            band = np.concatenate(self._waiting[level])
            self._waiting[level] = [band[self._tile :]] if len(band) > self._tile else []
            self._hand_out(level, band[: self._tile])

    def finish(self) -> None:
        """Hand out what is left of each level; the picture is complete."""
        for level, waiting in enumerate(self._waiting):
            if waiting:
                self._hand_out(level, np.concatenate(waiting))
                waiting.clear()

    def _hand_out(self, level: int, band: UInt8) -> None:
        self._emit(level, band)
        if level + 1 < len(self._waiting):
            self.push(halved(band), level + 1)
