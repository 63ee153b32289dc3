from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.evaluation.matrices import BLOCK
from patchloom.evaluation.neighbourhoods import neighbourhoods, radii

Array = NDArray[np.float64]


def gaussian(n: int, dim: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(shift, scale, (n, dim))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(7, 25), m=st.integers(7, 25))
def test_is_its_definition(seed: int, n: int, m: int) -> None:
    real, synthetic = gaussian(n, 3, seed), gaussian(m, 3, seed + 1, 0.5)
    within = np.sort(np.linalg.norm(real[:, None] - real, axis=2), axis=1)
    reach = np.sort(np.linalg.norm(synthetic[:, None] - synthetic, axis=2), axis=1)[:, 3]
    away = np.linalg.norm(real[:, None] - synthetic, axis=2)
    found = neighbourhoods(real, synthetic)
    assert found.precision == pytest.approx((away <= within[:, 3, None]).any(axis=0).mean())
    assert found.recall == pytest.approx((away <= reach).any(axis=1).mean())
    assert found.density == pytest.approx((away <= within[:, 5, None]).sum() / (5 * m))
    assert found.coverage == pytest.approx((away <= within[:, 5, None]).any(axis=1).mean())


def test_equal_sets_agree_wholly_even_where_images_repeat() -> None:
    real = np.repeat(gaussian(20, 5, 0, shift=1000.0), 8, axis=0)
    found = neighbourhoods(real, real)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density >= 1


def test_disjoint_sets_share_nothing() -> None:
    found = neighbourhoods(gaussian(40, 5, 0), gaussian(40, 5, 1, shift=50))
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)


def test_collapse_is_precise_and_covers_little() -> None:
    found = neighbourhoods(gaussian(300, 4, 0), gaussian(300, 4, 1, scale=0.2))
    assert found.precision > 0.95
    assert found.recall < 0.2
    assert found.coverage < 0.5
    assert found.density > 1


def test_blocks_make_no_difference() -> None:
    real, synthetic = gaussian(BLOCK + 70, 3, 0), gaussian(BLOCK + 10, 3, 1)
    order = np.random.default_rng(0).permutation(len(synthetic))
    found, again = neighbourhoods(real, synthetic), neighbourhoods(real, synthetic[order])
    assert np.array_equal(found.precise[order], again.precise)
    assert np.array_equal(found.recalled, again.recalled)
    assert np.array_equal(found.covered, again.covered)


def test_radius_leaves_the_point_itself_out() -> None:
    line = np.array([[0.0], [1.0], [3.0], [10.0]])
    assert radii(line, 1).tolist() == pytest.approx([1, 1, 2, 7])


@pytest.mark.parametrize("k", [0, 4])
def test_more_neighbours_than_images_are_refused(k: int) -> None:
    with pytest.raises(InputError, match=f"{k} nearest neighbours were asked of 4 images"):
        radii(np.zeros((4, 1)), k)
