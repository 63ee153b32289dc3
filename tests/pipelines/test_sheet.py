"""A contact sheet: rows of pictures of one size or of several."""

from __future__ import annotations

import numpy as np

from patchloom.pipelines.sample import sheet


def test_pictures_lie_side_by_side_with_white_between() -> None:
    rows = [np.full((2, 3, 4, 6), value, np.uint8) for value in (10, 20)]
    made = sheet(rows)
    assert made.shape == (3, 4 + 4 + 4, 6 + 4 + 6)
    assert (made[:, :4, :6] == 10).all()
    assert (made[:, 8:, 10:] == 20).all()
    assert (made[:, 4:8] == 255).all()
    assert (made[:, :, 6:10] == 255).all()


def test_cells_smaller_than_patches_lie_in_the_middle() -> None:
    made = sheet([np.zeros((2, 3, 2, 2), np.uint8), np.zeros((2, 3, 6, 8), np.uint8)])
    assert made.shape == (3, 6 + 4 + 6, 8 + 4 + 8)
    assert (made[:, 2:4, 3:5] == 0).all()
    assert (made[:, :6] == 0).sum() == 2 * 3 * 2 * 2
