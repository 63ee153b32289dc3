"""Antialiased resampling whose answer for a pixel depends on the pixel's place alone.

A region read alone must equal the crop of the whole, bit for bit, or tiles and windows would not fit each other.
So the weights are computed from places in the whole picture, rounded to whole numbers, and summed exactly:
whole numbers below 2^24 have no rounding in float32, whatever order a matrix product adds them in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from patchloom.rasters.source import Bool, UInt8

Float = NDArray[np.float32]

_UNIT = 4096  # the sum of a pixel's weights
_FRACTION = 8  # steps of a grey level that are kept between the two passes; 255 * 8 * 4096 * 1.3 < 2^24
_BLOCK = 64  # outputs a matrix product
_SUPPORT = 2.0  # of the cubic, in output pixels


@dataclass(frozen=True, slots=True)
class Axis:
    """Output pixels along one axis: pixel i covers offset + (first + i) * step, for the length of a step.

    Lengths are in source pixels. `first` is kept apart from `offset` so that parts compute the whole's own numbers.
    """

    first: int
    count: int
    step: float
    offset: float = 0.0

    def centres(self, scale: float, size: int) -> NDArray[np.float64]:
        """Middles of the output pixels, in pixels `scale` times as long as the source's, `size` of which exist."""
        places = self.first + np.arange(self.count, dtype=np.float64) + 0.5
        return np.clip((self.offset + places * self.step) / scale, 0, size)

    def reach(self, scale: float, size: int) -> tuple[int, int]:
        """The half-open range of pixels (of `size`, each `scale` long) that the outputs are made from."""
        centres, margin = self.centres(scale, size), _SUPPORT * max(self.step / scale, 1.0)
        return max(floor(centres[0] - margin), 0), min(ceil(centres[-1] + margin), size)

    def parts(self, count: int) -> Iterator[Axis]:
        """The axis cut into runs of at most `count` outputs."""
        for start in range(0, self.count, count):
            yield replace(self, first=self.first + start, count=min(count, self.count - start))


@dataclass(frozen=True, slots=True)
class Weights:
    """For each output the first source pixel it is made from, and the whole-numbered weights from there on."""

    first: NDArray[np.int64]
    taps: Float

    def blocks(self) -> Iterator[tuple[slice, slice, Float]]:
        """(outputs, source pixels, matrix (outputs, source pixels)) for runs of outputs."""
        width = self.taps.shape[1]
        for start in range(0, len(self.first), _BLOCK):
            first = self.first[start : start + _BLOCK]
            low, high = int(first.min()), int(first.max()) + width
            matrix = np.zeros((len(first), high - low), np.float32)
            columns = (first - low)[:, None] + np.arange(width)
            np.put_along_axis(matrix, columns, self.taps[start : start + _BLOCK], axis=1)
            yield slice(start, start + len(first)), slice(low, high), matrix


def weights(axis: Axis, scale: float, size: int, reach: tuple[int, int]) -> Weights:
    """Keys' cubic (1981, a = -0.5), widened by the step where that is above a pixel, cut at the picture's edge.

    Source pixels are `scale` long, `size` of them exist, and indices count from the start of `reach`.
    """
    centres, wide = axis.centres(scale, size), max(axis.step / scale, 1.0)
    count = min(ceil(2 * _SUPPORT * wide) + 1, reach[1] - reach[0])
    first = np.floor(centres - _SUPPORT * wide).astype(np.int64)
    first = np.clip(first, reach[0], reach[1] - count)
    places = first[:, None] + np.arange(count)
    taps = _cubic((places + 0.5 - centres[:, None]) / wide)
    taps = np.rint(taps / taps.sum(axis=1, keepdims=True) * _UNIT)
    rest = _UNIT - taps.sum(axis=1)
    taps[np.arange(len(taps)), taps.argmax(axis=1)] += rest
    return Weights(first - reach[0], taps.astype(np.float32))


def resample(pixels: UInt8, rows: Weights, cols: Weights) -> UInt8:
    """(channels, h, w) pixels to (channels, rows, cols), columns of the picture first summed, then rows."""
    out = np.empty((pixels.shape[0], len(rows.first), len(cols.first)), np.uint8)
    columns = list(cols.blocks())
    for down, above, matrix in rows.blocks():
        tall = matrix @ pixels[:, above].astype(np.float32)
        tall = np.rint(tall * (_FRACTION / _UNIT))
        for across, left, other in columns:
            wide = tall[:, :, left] @ other.T
            out[:, down, across] = np.clip(np.rint(wide * (1 / (_FRACTION * _UNIT))), 0, 255)
    return out


def reduced(pixels: UInt8, factor: int) -> UInt8:
    """Means of factor x factor blocks; blocks cut by the lower and right edge repeat their last row and column."""
    if factor == 1:
        return pixels
    down, across = (-side % factor for side in pixels.shape[1:])
    if down or across:
        pixels = np.pad(pixels, ((0, 0), (0, down), (0, across)), mode="edge")
    tall = pixels[:, ::factor].astype(np.uint32)
    for row in range(1, factor):
        tall += pixels[:, row::factor]
    total = tall[:, :, ::factor].copy()
    for col in range(1, factor):
        total += tall[:, :, col::factor]
    area = factor * factor
    return ((total + area // 2) // area).astype(np.uint8)


def block_means(mask: Bool, side: int) -> Float:
    """Shares of True in side x side blocks; blocks cut by the edge repeat their last row and column."""
    down, across = (-length % side for length in mask.shape)
    whole = np.pad(mask, ((0, down), (0, across)), mode="edge").view(np.uint8)
    rows = whole.reshape(-1, side, whole.shape[1]).sum(axis=1, dtype=np.uint16)
    means: Float = rows.reshape(len(rows), -1, side).sum(axis=2, dtype=np.uint32) / np.float32(side * side)
    return means.astype(np.float32)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
