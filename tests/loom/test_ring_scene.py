"""Scenes of canvases that wrap: told the same a turn later, and told evenly over the joined border."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.loom.test_scene import interpolant
from tests.loom.test_slerp import embedder
from tests.loom.test_slerp import grid as vectors

from patchloom.errors import InputError
from patchloom.geometry import Box
from patchloom.loom.ring import Cells, straight
from patchloom.loom.scene import GridScene
from patchloom.loom.slerp import SlerpScene

SHAPE = (32, 48)  # cells of 16 latents, 8 apart: 3 x 5 of them, and the ring has room for 4 x 6


def scene() -> GridScene:
    cells = np.random.default_rng(0).standard_normal((3, 5, 4)).astype(np.float32)
    return GridScene(cells, np.ones((3, 5), bool), (8.0, 8.0), (8.0, 8.0)).joined((True, True), SHAPE)


@settings(deadline=None, max_examples=40)
@given(*[st.integers(-70, 70)] * 2, *[st.integers(1, 40)] * 2)
def test_a_window_is_told_one_periodic_function_of_the_canvas(y: int, x: int, height: int, width: int) -> None:
    one = scene()
    whole = interpolant(one.condition([Box(0, 0, *SHAPE)]), *SHAPE)[0].numpy()
    part = interpolant(one.condition([Box(y, x, height, width)]), height, width)[0].numpy()
    rows, cols = np.arange(y, y + height)[:, None] % SHAPE[0], np.arange(x, x + width) % SHAPE[1]
    np.testing.assert_allclose(part, whole[rows, cols], atol=2e-5)


def test_over_the_joined_border_the_last_cell_fades_into_the_first() -> None:
    one = scene()
    row = interpolant(one.condition([Box(8, 40, 1, 16)]), 1, 16)[0, 0].numpy()  # from the last centre to the first
    np.testing.assert_allclose(np.diff(row, 2, axis=0), 0, atol=1e-5)


def test_without_wrap_the_scene_stays_and_does_not_go_round() -> None:
    cells = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    flat = GridScene(cells, np.ones((2, 3), bool), (4.0, 4.0), (8.0, 8.0))
    same, box = flat.joined((False, False), (16, 24)), [Box(0, 16, 16, 12)]
    torch.testing.assert_close(same.condition(box).cells, flat.condition(box).cells)
    across = flat.joined((False, True), (16, 24)).condition(box).cells
    assert not torch.equal(across, flat.condition(box).cells)


def test_a_window_over_the_border_is_covered_by_cells_of_the_other_side() -> None:
    valid = np.array([[True, False, False, False]])
    one = GridScene(np.ones((1, 4, 2), np.float32), valid, (4.0, 4.0), (8.0, 8.0))
    far = Box(0, 29, 4, 8)
    assert not one.covers(Box(0, 16, 4, 6))
    assert not one.covers(far)
    assert one.joined((False, True), (8, 32)).covers(far)


def test_cells_in_between_follow_what_is_known() -> None:
    values = np.array([[[0.0], [np.nan], [8.0]]], np.float32)
    both = Cells(values, np.array([[True, False, True]])).closed((1, 1), (1, 6), (False, True), straight)
    np.testing.assert_allclose(both.embeddings[0, 3:, 0], [6, 4, 2])
    assert both.valid[0].tolist() == [True, False, True, True, True, True]
    one = Cells(values, np.array([[True, False, False]])).closed((1, 1), (1, 6), (False, True), straight)
    np.testing.assert_allclose(one.embeddings[0, 3:, 0], 0)
    assert one.valid[0].tolist() == [True, False, False, False, True, True]


def test_a_canvas_of_no_whole_number_of_steps_is_refused() -> None:
    cells = Cells(np.ones((2, 2, 1), np.float32), np.ones((2, 2), bool))
    with pytest.raises(InputError, match=r"width of 26 latents is 3\.25 steps of 8"):
        cells.closed((8.0, 8.0), (24, 26), (True, True), straight)


def test_a_token_scene_goes_round() -> None:
    values = vectors(3, 4)
    one = SlerpScene(values, np.ones((3, 4), bool), (8, 8), (8, 8), embedder()).joined((True, True), (32, 40))
    boxes = [Box(0, 0, 16, 16), Box(20, 33, 16, 16), Box(30, 4, 6, 6)]
    turned = [box.moved(-32, 40) for box in boxes]
    np.testing.assert_allclose(one.embedding(boxes), one.embedding(turned), atol=1e-6)
    between = one.embedding([Box(0, x, 16, 16) for x in range(24, 41, 4)])  # from the last centre to the first
    np.testing.assert_allclose(between[[0, -1]], values[0, [3, 0]], atol=1e-5)
    steps = np.linalg.norm(np.diff(between, axis=0), axis=1)
    assert steps.max() < 2 * steps.mean()
