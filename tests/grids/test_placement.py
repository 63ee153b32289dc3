"""Corners in any order find their lattice; a corner that is on none is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchloom.errors import FormatError
from patchloom.grids.placement import place


@st.composite
def lattices(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Distinct cells, two of them neighbours and one in row 0 and column 0, in any order."""
    rows, cols = draw(st.integers(1, 12)), draw(st.integers(2, 12))
    every = [(row, col) for row in range(rows) for col in range(cols)]
    some = {(0, 0), (0, 1)} | set(draw(st.lists(st.sampled_from(every))))
    return np.array(draw(st.permutations(sorted(some)))), np.array([rows, cols])


@given(lattices(), st.integers(20, 600), st.integers(-5000, 90000), st.integers(0, 90000))
def test_whole_lattices_are_found_exactly(lattice: tuple[np.ndarray, np.ndarray], stride: int, y: int, x: int) -> None:
    cells, _ = lattice
    found = place((cells * stride + [y, x]).astype(float), patch=256, stride=None, tolerance=0.01)
    np.testing.assert_array_equal(found.cells, cells)
    assert (found.stride, found.origin) == (stride, (y, x))


@given(lattices(), st.floats(100, 600), st.floats(0, 5000), st.booleans())
def test_a_rounded_lattice_is_fitted(
    lattice: tuple[np.ndarray, np.ndarray], stride: float, start: float, told: bool
) -> None:
    cells, _ = lattice
    corners = np.rint(cells * stride + start)
    found = place(corners, patch=stride, stride=float(round(stride)) if told else None, tolerance=0.01)
    np.testing.assert_array_equal(found.cells, cells)
    assert abs(found.stride - stride) <= 1
    assert found.off.max() <= 1


def test_a_long_rounded_row_does_not_add_up_its_error() -> None:
    cells = np.stack([np.zeros(900, int), np.arange(900)], axis=1)
    found = place(np.rint(cells * 506.53), patch=506, stride=506, tolerance=0.01)
    np.testing.assert_array_equal(found.cells, cells)
    assert found.stride == pytest.approx(506.53, abs=1e-4)


def test_supertiles_that_drift_are_one_lattice() -> None:
    """STAMP steps by its tile size inside a supertile, and by whole slide pixels from one to the next."""
    places = np.concatenate([supertile * 512.6 + np.array([0, 256.0]) for supertile in range(40)])
    cells = np.stack([np.repeat(np.arange(80), 80), np.tile(np.arange(80), 80)], axis=1)
    found = place(places[cells], patch=256, stride=None, tolerance=0.01)
    np.testing.assert_array_equal(found.cells, cells)
    assert found.stride == pytest.approx(256.3, abs=1e-3)


def test_a_single_patch_is_a_lattice_of_its_own_size() -> None:
    found = place(np.array([[70.0, 30.0]]), patch=256, stride=None, tolerance=0.01)
    assert (found.shape, found.stride, found.origin) == ((1, 1), 256, (70, 30))


def test_patches_without_a_neighbour_are_a_patch_apart() -> None:
    found = place(np.array([[0.0, 0.0], [512.0, 256.0]]), patch=256, stride=None, tolerance=0.01)
    assert found.cells.tolist() == [[0, 0], [2, 1]]


def test_a_coordinate_off_the_lattice_is_named() -> None:
    corners = np.array([[y * 256.0, x * 256.0] for y in range(4) for x in range(4)])
    corners[5] += [0, 37]
    with pytest.raises(FormatError, match=r"1 of 16 coordinates .* stride 256 .* by up to 37: \(293, 256\)\. CLAM"):
        place(corners, patch=256, stride=None, tolerance=0.01)
    found = place(corners, patch=256, stride=None, tolerance=0.5)
    assert found.cells[5].tolist() == [1, 1]
    assert found.off[5] == 37


def test_two_pieces_of_tissue_with_lattices_of_their_own() -> None:
    one = np.array([[y * 256.0, x * 256.0] for y in range(5) for x in range(5)])
    two = np.array([[y * 256.0 + 90, x * 256.0 + 5000] for y in range(3) for x in range(3)])
    corners = np.concatenate([one, two])
    with pytest.raises(FormatError, match="9 of 34"):
        place(corners, patch=256, stride=None, tolerance=0.01)
    found = place(corners, patch=256, stride=None, tolerance=0.5)
    np.testing.assert_array_equal(found.cells[:25], one / 256)
    np.testing.assert_array_equal(found.cells[25:], np.rint(two / 256))
