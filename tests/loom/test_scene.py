"""A window is told what the whole canvas is told about the same place."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from patchloom.diffusion.condition import GridCondition
from patchloom.errors import MismatchError
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.spec import EncoderSpec
from patchloom.loom.scene import GridScene

CANVAS = Box(0, 0, 70, 90)


def grid(cell_px: int = 64, stride_px: int = 48, rows: int = 9, cols: int = 12) -> EmbeddingGrid:
    random = np.random.default_rng(1)
    valid = random.random((rows, cols)) < 0.5
    embeddings = random.standard_normal((rows, cols, 3)).astype(np.float16)
    embeddings[~valid] = np.nan
    spec = EncoderSpec("test", 3, 64, (0, 0, 0), (1, 1, 1), "CC0-1.0", "sha256:" + "0" * 64)
    return EmbeddingGrid(
        embeddings, valid, cell_px, stride_px, (0.0, 0.0), (560, 720), PixelSize(5e-7), spec, reference=None
    )


def scene(step: float, origin: float, rows: int = 9, cols: int = 12) -> GridScene:
    source = grid(rows=rows, cols=cols)
    return GridScene(source.embeddings, source.valid, (origin, origin / 2), (step, step * 1.25))


def interpolant(condition: GridCondition, height: int, width: int) -> Tensor:
    rows, cols = condition.weights(height, width)
    return torch.einsum("bhr,bwc,brcd->bhwd", rows, cols, condition.cells)


@lru_cache
def canvas_interpolant(step: float) -> Tensor:
    return interpolant(scene(step, origin=4.0).condition([CANVAS]), 70, 90)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 60), st.integers(0, 80), st.integers(1, 10), st.integers(1, 10), st.sampled_from([0.7, 3, 6, 16, 40])
)
def test_a_window_sees_the_canvas_s_interpolant(y: int, x: int, height: int, width: int, step: float) -> None:
    one, whole = scene(step, origin=4.0), canvas_interpolant(step)
    box = Box(y, x, height, width)
    part = interpolant(one.condition([box]), height, width)
    torch.testing.assert_close(part, whole[:, y : y + height, x : x + width], atol=2e-5, rtol=0)


def test_the_interpolant_is_a_cell_at_its_centre_and_constant_beyond_the_last() -> None:
    one, source = GridScene.of(grid(cell_px=72), factor=8), grid(cell_px=72)
    values = interpolant(one.condition([CANVAS]), 70, 90)[0].numpy()
    cells = np.where(source.valid[:, :, None], source.embeddings, 0).astype(np.float32)
    # cell (r, c) has its centre at 36 + 48 r px: latent 4 + 6 r, whose middle is 4.5 + 6 r latents
    for row, col in ((0, 0), (2, 3), (8, 11), (5, 7)):
        np.testing.assert_allclose(values[4 + 6 * row, 4 + 6 * col], cells[row, col], atol=1e-5)
    np.testing.assert_allclose(values[0, 0], cells[0, 0], atol=1e-6)
    np.testing.assert_allclose(values[69, 89], cells[8, 11], atol=1e-6)


def test_windows_of_a_shape_see_equally_many_cells_so_that_batches_stack() -> None:
    one = scene(step=7.3, origin=3.65)
    boxes = [Box(y, x, 32, 17) for y in range(0, 39) for x in (0, 5, 40, 73)]
    batch = one.condition(boxes)
    assert len(batch) == len(boxes)
    assert batch.cells.shape[0] == len(boxes)
    for number, box in enumerate(boxes):
        alone = one.condition([box])
        torch.testing.assert_close(alone.cells[0], batch.cells[number])
        torch.testing.assert_close(alone.origin[0], batch.origin[number])


def test_shifting_scene_and_window_together_changes_nothing() -> None:
    here = scene(step=6.0, origin=4.0)
    there = GridScene(here.embeddings, here.valid, (here.origin[0] + 10, here.origin[1] + 3), here.step)
    a, b = here.condition([Box(5, 6, 20, 20)]), there.condition([Box(15, 9, 20, 20)])
    torch.testing.assert_close(a.cells, b.cells)
    torch.testing.assert_close(a.origin, b.origin)


def test_invalid_cells_are_zeros_and_marked() -> None:
    condition = scene(step=6.0, origin=4.0).condition([CANVAS])
    assert not condition.cells[~condition.valid].any()
    assert bool(condition.cells.isfinite().all())
    assert not condition.dropped.any()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 60), st.integers(0, 80), st.integers(1, 10), st.integers(1, 10), st.sampled_from([0.7, 3, 6, 16, 40])
)
def test_coverage_is_whether_a_valid_cell_has_weight(y: int, x: int, height: int, width: int, step: float) -> None:
    one, box = scene(step, origin=4.0), Box(y, x, height, width)
    assert in_reach(one, box, slack=-1e-6) <= one.covers(box) <= in_reach(one, box, slack=1e-6)


def in_reach(one: GridScene, box: Box, slack: float) -> bool:
    """Whether a valid cell lies less than a step from a latent of the box, both held to the grid's own extent."""
    near = []
    for axis, (start, length) in enumerate(((box.y, box.height), (box.x, box.width))):
        count = one.valid.shape[axis]
        latents = (np.arange(start, start + length) + 0.5 - one.origin[axis]) / one.step[axis]
        distance = np.abs(np.clip(latents, 0, count - 1)[:, None] - np.arange(count)[None, :])
        near.append((distance < 1 + slack).any(axis=0))
    return bool(one.valid[np.ix_(*near)].any())


def test_a_window_far_from_every_valid_cell_is_not_covered() -> None:
    source = grid()
    valid = np.zeros_like(source.valid)
    valid[0, 0] = True
    one = GridScene(source.embeddings, valid, (4.0, 4.0), (6.0, 6.0))
    assert one.covers(Box(0, 0, 5, 5))
    assert one.covers(Box(9, 9, 8, 8))  # latent 9 spans 9 to 10, and the next centre lies at 10
    assert not one.covers(Box(10, 0, 8, 8))
    assert not one.covers(Box(0, 10, 8, 8))
    assert one.covers(Box(0, 0, 70, 90))


def test_another_pixel_size_is_refused() -> None:
    with pytest.raises(MismatchError, match=r"0\.5um.*0\.25um.*--pixel-size"):
        GridScene.of(grid(), factor=8, pixel_size=PixelSize(2.5e-7))
    GridScene.of(grid(), factor=8, pixel_size=PixelSize(5e-7))
