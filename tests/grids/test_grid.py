"""The laws of an embedding grid as a value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.grids.examples import encoder, grids, make_grid

from patchloom.errors import GeometryError, InputError, MismatchError
from patchloom.geometry import Box
from patchloom.grids.grid import EmbeddingGrid


@given(grids(), st.data())
def test_cropping_keeps_each_cell_where_it_lies_in_the_reference(grid: EmbeddingGrid, data: st.DataObject) -> None:
    row, col = data.draw(st.sampled_from(np.argwhere(grid.valid).tolist()))
    top, left = data.draw(st.integers(0, row)), data.draw(st.integers(0, col))
    box = Box(top, left, data.draw(st.integers(row - top + 1, grid.rows - top)), grid.cols - left)
    crop = grid.cropped(box)
    whole, part = grid.cell_box(row, col), crop.cell_box(row - top, col - left)
    assert (grid.origin[0] + whole.y, grid.origin[1] + whole.x) == (crop.origin[0] + part.y, crop.origin[1] + part.x)
    np.testing.assert_array_equal(crop.embeddings[row - top, col - left], grid.embeddings[row, col])
    assert crop.origin[0] + crop.canvas[0] <= grid.origin[0] + grid.canvas[0]


@given(grids())
def test_cropping_to_everything_changes_nothing(grid: EmbeddingGrid) -> None:
    assert grid.cropped(Box(0, 0, grid.rows, grid.cols)).digest() == grid.digest()


def test_a_crop_covers_its_cells_and_the_last_one_keeps_the_tail() -> None:
    grid = make_grid(rows=5, cols=5)
    assert grid.cropped(Box(0, 0, 2, 2)).canvas == (32 + 64, 32 + 64)
    assert grid.cropped(Box(3, 4, 2, 1)).canvas == (grid.canvas[0] - 96, grid.canvas[1] - 128)


@given(grids(), st.integers(1, 7))
def test_subsampling_keeps_cells_where_they_are(grid: EmbeddingGrid, step: int) -> None:
    sparse = grid.subsampled(step)
    assert (sparse.canvas, sparse.origin) == (grid.canvas, grid.origin)
    for row in range(sparse.rows):
        for col in range(sparse.cols):
            assert sparse.cell_box(row, col) == grid.cell_box(row * step, col * step)
            np.testing.assert_array_equal(sparse.embeddings[row, col], grid.embeddings[row * step, col * step])


@given(grids(), st.integers(0, 5))
def test_shuffling_permutes_the_valid_cells_and_touches_no_other(grid: EmbeddingGrid, seed: int) -> None:
    shuffled = grid.shuffled(seed)
    order = np.lexsort(grid.embeddings[grid.valid].T), np.lexsort(shuffled.embeddings[grid.valid].T)
    np.testing.assert_array_equal(grid.embeddings[grid.valid][order[0]], shuffled.embeddings[grid.valid][order[1]])
    np.testing.assert_array_equal(grid.valid, shuffled.valid)
    np.testing.assert_array_equal(grid.embeddings[~grid.valid], shuffled.embeddings[~grid.valid])
    assert shuffled.digest() == grid.shuffled(seed).digest()


def test_shuffling_moves_cells() -> None:
    grid = make_grid(rows=6, cols=6)
    assert grid.shuffled(0).digest() not in (grid.digest(), grid.shuffled(1).digest())


def test_the_digest_follows_content_and_nothing_else() -> None:
    grid = make_grid()
    copy = replace(grid, embeddings=np.asfortranarray(grid.embeddings))
    assert copy.digest() == grid.digest()
    other = grid.embeddings.copy()
    other[~grid.valid] = np.nan
    assert replace(grid, embeddings=other).digest() == grid.digest()
    other = grid.embeddings.copy()
    other[0, 0, 0] += 1
    assert replace(grid, embeddings=other).digest() != grid.digest()
    assert replace(grid, origin=(96.5, 160.0)).digest() != grid.digest()
    assert replace(grid, encoder=replace(grid.encoder, name="another")).digest() != grid.digest()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_valid_cell_that_is_not_finite_is_named(value: float) -> None:
    grid = make_grid()
    embeddings = grid.embeddings.copy()
    embeddings[2, 3, 1] = value
    with pytest.raises(InputError, match=r"row 2, column 3.*NaN or infinity"):
        replace(grid, embeddings=embeddings)


def test_a_grid_without_a_valid_cell_is_refused() -> None:
    grid = make_grid()
    with pytest.raises(InputError, match="no valid cell"):
        replace(grid, valid=np.zeros_like(grid.valid))


def test_parts_that_do_not_fit_are_refused() -> None:
    grid = make_grid()
    with pytest.raises(MismatchError, match="5-d, but encoder `tiny` gives 7-d"):
        replace(grid, encoder=encoder(7))
    with pytest.raises(InputError, match="float16 or float32, not float64"):
        replace(grid, embeddings=grid.embeddings.astype(np.float64))
    with pytest.raises(InputError, match="not empty"):
        replace(grid, embeddings=grid.embeddings[:0])
    with pytest.raises(InputError, match="valid must be bool"):
        replace(grid, valid=grid.valid[:2])
    with pytest.raises(InputError, match="both must be positive"):
        replace(grid, stride_px=0)
    with pytest.raises(GeometryError, match="leave a canvas"):
        replace(grid, canvas=(64, 1000))
    with pytest.raises(GeometryError, match="does not lie inside"):
        grid.cropped(Box(0, 0, 4, 4))
    with pytest.raises(InputError, match="at least 1"):
        grid.subsampled(0)
