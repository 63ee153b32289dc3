"""Noise by place: DESIGN.md's golden table, and the laws that make it a field."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchloom.fields.field import Field
from patchloom.fields.noise import Noise, block, raw
from patchloom.geometry import Box, Frame
from patchloom.testing.fields import FieldLaws

FRAME = Frame(height=200, width=150, channels=3, dtype="float32")

# seed, stream, channel, block row, block column; raw[0], raw[1]; normal[0, :3]; normal[63, 63]
GOLDEN = [
    (
        (0, 0, 0, 0, 0),
        (0x2F4BA6408E4D89B, 0x3DD62B0B9CA8C5B2),
        (2.9464333, -1.4996963, -0.8044181),
        0.524827,
    ),
    (
        (1234, 0, 3, -1, 2),
        (0x3B4AC8E9EAF49903, 0x2685A46BD38C0BD7),
        (1.701538, 1.1750951, 0.12976393),
        0.6637382,
    ),
    (
        (1234, 5, 0, 1000, -7),
        (0xBAFAAF7BB2F9E2E2, 0x92664747C5CF4104),
        (0.02527151, -0.9316995, -0.51100224),
        0.54888153,
    ),
]


class TestNoiseIsAField(FieldLaws):
    bounded = False

    def field(self) -> Field:
        return Noise(seed=7, stream=2, frame=FRAME)


@pytest.mark.parametrize(("place", "words", "first", "last"), GOLDEN)
def test_golden_table(
    place: tuple[int, int, int, int, int], words: tuple[int, int], first: tuple[float, ...], last: float
) -> None:
    assert tuple(int(word) for word in raw(*place)[:2]) == words
    values = block(*place)
    np.testing.assert_array_equal(values[0, :3], np.array(first, np.float32))
    assert values[63, 63] == np.float32(last)


@given(st.integers(-200, 200), st.integers(-200, 200), st.integers(1, 150), st.integers(1, 150))
def test_any_box_is_a_cut_of_the_same_plane(y: int, x: int, height: int, width: int) -> None:
    noise = Noise(seed=3, stream=1, frame=FRAME)
    plane, whole = noise.read(Box(-256, -256, 640, 640)), Box(-256, -256, 640, 640)
    box = Box(y, x, height, width)
    np.testing.assert_array_equal(noise.read(box), plane[:, *box.inside(whole)])


def test_place_in_the_plane_is_the_block_of_the_table() -> None:
    np.testing.assert_array_equal(Noise(1234, 0, FRAME).read(Box(-64, 128, 64, 64))[2], block(1234, 0, 2, -1, 2))


def test_normals_are_normal_and_streams_are_strangers() -> None:
    one, two = (Noise(11, stream, FRAME).read(Box(0, 0, 512, 512)) for stream in (0, 1))
    count = one.size
    assert abs(one.mean()) < 5 / np.sqrt(count)
    assert abs(one.var() - 1) < 5 * np.sqrt(2 / count)
    assert abs((one**4).mean() - 3) < 5 * np.sqrt(96 / count)
    for other in (two, np.roll(one, 1, axis=0), np.roll(one, 1, axis=2), np.roll(one, 64, axis=1)):
        assert abs((one * other).mean()) < 5 / np.sqrt(count)


def test_seeds_above_two_to_the_63_keep_their_low_bits() -> None:
    assert not np.array_equal(raw(2**64 - 1, 0, 0, 0, 0), raw(2**64 - 2, 0, 0, 0, 0))
    np.testing.assert_array_equal(raw(-1, 0, 0, 0, 0), raw(2**64 - 1, 0, 0, 0, 0))


def test_blocks_are_read_only_and_reads_are_copies() -> None:
    noise, box = Noise(5, 0, FRAME), Box(0, 0, 64, 64)
    noise.read(box)[:] = 0
    assert noise.read(box).any()
    assert not block(5, 0, 0, 0, 0).flags.writeable
