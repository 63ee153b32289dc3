"""Which windows a canvas gets where none are told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchloom.geometry import Box, Lattice, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.pipelines.generate import generate
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.request import Request
from patchloom.pipelines.settings import BATCH_LATENTS, Settings, lattices_of, settled, sized

SIDES = st.integers(1, 3000)


@pytest.fixture(scope="module")
def wide(tiny: Pipeline) -> Pipeline:
    """A pipeline whose network bears windows of 256 latents, and was trained on 8."""
    record = replace(tiny.record, defaults=replace(tiny.record.defaults, window=256, core=248, steps=4))
    return replace(tiny, record=record)


def shown(lattices: list[Lattice]) -> int:
    return sum(window.box.area for lattice in lattices for window in lattice)


def test_a_canvas_that_fits_is_one_window_without_neighbours(wide: Pipeline) -> None:
    chosen = sized(wide, Settings(), (256, 128))
    assert [len(lattice) for lattice in lattices_of(wide, chosen, (256, 128))] == [1] * 4
    assert chosen.batch == 1


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 256), width=st.integers(1, 256))
def test_no_side_is_too_odd_for_one_window(wide: Pipeline, height: int, width: int) -> None:
    for lattice in lattices_of(wide, sized(wide, Settings(), (height, width)), (height, width)):
        assert [window.core for window in lattice] == [Box(0, 0, height, width)]


@pytest.mark.parametrize("sides", [(64, 72), (72, 120)])
def test_images_of_odd_sides_are_made(wide: Pipeline, sides: tuple[int, int]) -> None:
    dim = wide.record.encoder.dim
    cells = np.random.default_rng(0).standard_normal((1, 1, dim)).astype(np.float32)
    one = EmbeddingGrid(cells, np.ones((1, 1), bool), 64, 32, (0, 0), sides, PixelSize(5e-7), wide.record.encoder)
    whole = generate(Request(wide, one), order="canvas").pixels
    assert whole.frame.box == Box(0, 0, *sides)
    part = generate(Request(wide, one, only=Box(8, 16, 40, 56))).pixels
    np.testing.assert_array_equal(part.read(part.frame.box), whole.read(Box(8, 16, 40, 56)))


@settings(max_examples=25, deadline=None)
@given(height=SIDES, width=SIDES)
def test_no_half_of_the_window_shows_the_network_fewer_latents(wide: Pipeline, height: int, width: int) -> None:
    shape = (height, width)
    chosen = sized(wide, Settings(), shape)
    assert chosen.window is not None
    assert chosen.core == chosen.window - 8
    least = shown(lattices_of(wide, chosen, shape))
    for window in (256, 128, 64, 32, 16):
        assert least <= shown(lattices_of(wide, replace(chosen, window=window, core=window - 8), shape))


@settings(max_examples=25, deadline=None)
@given(height=SIDES, width=SIDES)
def test_batches_hold_what_fits_and_are_filled_evenly(wide: Pipeline, height: int, width: int) -> None:
    chosen = sized(wide, Settings(), (height, width))
    lattices = lattices_of(wide, chosen, (height, width))
    windows, area = max(map(len, lattices)), max(lattice.window(0).box.area for lattice in lattices)
    assert chosen.batch is not None
    assert chosen.batch * area <= max(BATCH_LATENTS, area)
    assert -(-windows // chosen.batch) * chosen.batch - windows < -(-windows // chosen.batch)


def test_what_is_told_stays(wide: Pipeline) -> None:
    shape = (700, 300)
    assert sized(wide, Settings(window=256, batch=3), shape) == settled(wide, Settings(window=256, batch=3))
    assert sized(wide, Settings(core=100), shape).window == 256
    assert sized(wide, Settings(plan="average"), shape).window == 256
    chosen = sized(wide, Settings(), shape)
    assert sized(wide, chosen, shape) == chosen
