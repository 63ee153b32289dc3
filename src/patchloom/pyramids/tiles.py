"""Encoded tiles: the codec, and where a level's tiles wait until the file's layout is known."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
Compression = Literal["jpeg", "deflate"]
Encode = Callable[[UInt8], bytes]

_FULL_CHROMA = 90  # quality from which colour is kept at full resolution, as libvips does
_DEFLATE_LEVEL = 6


def chroma(quality: int) -> int:
    """The factor by which JPEG colour is reduced at a quality: 2 (4:2:0) or 1 (4:4:4)."""
    return 1 if quality >= _FULL_CHROMA else 2


def encoder(compression: Compression, quality: int) -> Encode:
    """From a tile (side, side, 3) of RGB to what a TIFF holds: YCbCr JPEG, or deflate after horizontal differences."""
    import imagecodecs

    def jpeg(tile: UInt8) -> bytes:
        subsampling = "444" if chroma(quality) == 1 else "420"
        return bytes(
            imagecodecs.jpeg8_encode(
                tile, level=quality, colorspace="RGB", outcolorspace="YCBCR", subsampling=subsampling
            )
        )

    def deflate(tile: UInt8) -> bytes:
        steps = tile.copy()
        steps[:, 1:] -= tile[:, :-1]  # uint8 wraps around, as predictor 2 wants
        return bytes(imagecodecs.deflate_encode(steps.tobytes(), level=_DEFLATE_LEVEL, raw=False))

    return jpeg if compression == "jpeg" else deflate


class TileSpool:
    """The encoded tiles of one level, row by row, in an unnamed file beside the picture."""

    def __init__(self, folder: Path) -> None:
        self.file = tempfile.TemporaryFile(dir=folder, prefix=".patchloom-")  # noqa: SIM115 - close() is below
        self.sizes: list[int] = []

    def add(self, band: UInt8, side: int, encode: Encode, pool: Executor) -> int:
        """Cut a band (up to `side` rows) into tiles and keep them encoded; the bytes that were added.

        Tiles cut by the edge repeat the last row and column, which leaves JPEG no step to ring at.
        """
        down, across = -band.shape[0] % side, -band.shape[1] % side
        if down or across:
            band = np.pad(band, ((0, down), (0, across), (0, 0)), mode="edge")
        tiles = [np.ascontiguousarray(band[:, left : left + side]) for left in range(0, band.shape[1], side)]
        before = len(self.sizes)
        for data in pool.map(encode, tiles):
            self.file.write(data)
            self.sizes.append(len(data))
        return sum(self.sizes[before:])

    def close(self) -> None:
        """Let the file go."""
        self.file.close()
