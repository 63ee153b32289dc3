"""Noise as a function of place: any order of reading, any worker, any machine draws the same values.

Blocks of 64 x 64 latents have a key of their own: numpy's Philox with key (seed, stream) and counter
(0, channel, block row, block column), all modulo 2^64; the transform of Box and Muller (1958) makes normals of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from patchloom.geometry import Box, Frame

BLOCK = 64
_CACHED_BLOCKS = 2048  # of 16 KiB each: two rows of blocks of a canvas 8,192 latents wide in 8 channels


def raw(seed: int, stream: int, channel: int, row: int, col: int) -> NDArray[np.uint64]:
    """The 4,096 random words of one block; every number counts modulo 2^64, so negative blocks are well defined."""
    # uint64 arrays: a list with a number above 2^63 goes through float, and loses its low bits without a word.
    key, counter = _words(seed, stream), _words(0, channel, row, col)
    return np.random.Philox(key=key, counter=counter).random_raw(BLOCK * BLOCK)


@lru_cache(maxsize=_CACHED_BLOCKS)
def block(seed: int, stream: int, channel: int, row: int, col: int) -> NDArray[np.float32]:
    """Standard normals (64, 64) of one block, read-only."""
    uniform = ((raw(seed, stream, channel, row, col) >> np.uint64(11)) + 0.5) * 2.0**-53
    half = uniform.size // 2
    radius, angle = np.sqrt(-2 * np.log(uniform[:half])), 2 * np.pi * uniform[half:]
    normals = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    values = normals.astype(np.float32).reshape(BLOCK, BLOCK)
    values.flags.writeable = False
    return values


@dataclass(frozen=True, slots=True)
class Noise:
    """Independent standard normals over the plane, as a field.

    Stream 0 is the noise that a run starts from; stream 1 + k is what stage k adds. The frame says how far readers
    need to look; the noise itself has no border, and boxes outside the frame are answered too.
    """

    seed: int
    stream: int
    frame: Frame

    def read(self, box: Box) -> NDArray[np.float32]:
        """Float32 (channels, box.height, box.width)."""
        out = np.empty((self.frame.channels, box.height, box.width), np.float32)
        rows = range(box.y // BLOCK, -(-box.stop_y // BLOCK))
        cols = range(box.x // BLOCK, -(-box.stop_x // BLOCK))
        for row, col in product(rows, cols):
            place = Box(row * BLOCK, col * BLOCK, BLOCK, BLOCK)
            part = place.meet(box)
            to, of = part.inside(box), part.inside(place)
            for channel in range(self.frame.channels):
                out[channel, *to] = block(self.seed, self.stream, channel, row, col)[of]
        return out


def _words(*numbers: int) -> NDArray[np.uint64]:
    return np.array([number % 2**64 for number in numbers], dtype=np.uint64)
