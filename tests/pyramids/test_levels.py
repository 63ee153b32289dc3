"""Halving, and the cascade that halves a stream."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from patchloom.pyramids.levels import Cascade, UInt8, halved, level_sizes

sides = st.integers(1, 70)


def random(height: int, width: int) -> UInt8:
    return np.random.Generator(np.random.PCG64(height * 97 + width)).integers(0, 256, (height, width, 3), np.uint8)


@given(sides, sides)
def test_halved_is_the_mean_of_the_pixels_that_exist(height: int, width: int) -> None:
    pixels = random(height, width)
    exact = np.array(
        [
            [pixels[y : y + 2, x : x + 2].reshape(-1, 3).mean(axis=0) for x in range(0, width, 2)]
            for y in range(0, height, 2)
        ]
    )
    small = halved(pixels)
    assert small.shape == (-(-height // 2), -(-width // 2), 3)
    assert np.abs(small - exact).max() <= 0.5


def test_a_deep_pyramid_does_not_drift() -> None:
    pixels = random(1024, 1024)
    mean = pixels.mean()
    for _ in range(7):
        pixels = halved(pixels)
    assert abs(pixels.mean() - mean) < 0.15  # rounding halves up would add 0.125 a level


@given(sides, sides, st.sampled_from([2, 4, 16]), st.lists(st.integers(1, 20), min_size=1))
def test_the_cascade_makes_what_halving_the_whole_makes(height: int, width: int, tile: int, pushes: list[int]) -> None:
    pixels, sizes = random(height, width), level_sizes(height, width, tile)
    bands: list[list[UInt8]] = [[] for _ in sizes]
    cascade = Cascade(len(sizes), tile, lambda level, band: bands[level].append(band))
    row, turn = 0, 0
    while row < height:
        step = pushes[turn % len(pushes)]
        cascade.push(pixels[row : row + step])
        row, turn = row + step, turn + 1
    cascade.finish()
    for level, size in enumerate(sizes):
        assert all(len(band) == tile for band in bands[level][:-1])
        assert np.array_equal(np.concatenate(bands[level]), pixels)
        assert pixels.shape[:2] == size
        pixels = halved(pixels)


def test_levels_end_where_one_tile_holds_the_picture() -> None:
    assert level_sizes(1025, 300, 256) == [(1025, 300), (513, 150), (257, 75), (129, 38)]
    assert level_sizes(1, 1, 256) == [(1, 1)]
    assert level_sizes(1, 1000, 256)[-1] == (1, 250)
