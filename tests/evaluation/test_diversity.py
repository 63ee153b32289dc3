from __future__ import annotations

import numpy as np
import pytest

from patchloom.errors import InputError
from patchloom.evaluation.diversity import diversity


def images(
    cells: int, seeds: int, between: float, within: float, seed: int = 0
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    rng = np.random.default_rng(seed)
    means = rng.normal(0, between, (cells, 1, 16)) + 2
    return np.asarray(means + rng.normal(0, within, (cells, seeds, 16)))


def test_is_its_definition() -> None:
    cube = images(4, 3, 1, 0.5)
    pairs = [(a, i, b, j) for a in range(4) for i in range(3) for b in range(4) for j in range(3) if (a, i) != (b, j)]
    same = np.mean([((cube[a, i] - cube[b, j]) ** 2).sum() for a, i, b, j in pairs if a == b])
    apart = np.mean([((cube[a, i] - cube[b, j]) ** 2).sum() for a, i, b, j in pairs if a != b])
    units = cube / np.linalg.norm(cube, axis=2, keepdims=True)
    found = diversity(cube, repeats=50)
    assert found.share.value == pytest.approx(same / apart)
    assert found.same_cell == pytest.approx(np.mean([units[a, i] @ units[b, j] for a, i, b, j in pairs if a == b]))
    assert found.different_cells == pytest.approx(
        np.mean([units[a, i] @ units[b, j] for a, i, b, j in pairs if a != b])
    )
    assert found.share.n == (4, 3)


@pytest.mark.parametrize(("between", "within", "truth"), [(1, 0, 0), (0, 1, 1), (1, 1, 0.5), (3, 1, 0.1)])
def test_is_the_share_of_variance_that_the_condition_leaves_open(between: float, within: float, truth: float) -> None:
    found = diversity(images(150, 3, between, within)).share
    assert found.interval is not None
    assert found.value == pytest.approx(truth, abs=0.05)
    assert found.interval.low - 1e-9 <= truth <= found.interval.high + 1e-9


def test_more_seeds_do_not_move_it() -> None:
    """Two seeds and eight estimate the same number: no bias of the seed count."""
    two, eight = (
        np.mean([diversity(images(40, k, 1, 1, s), repeats=20).share.value for s in range(20)]) for k in (2, 8)
    )
    assert two == pytest.approx(eight, abs=0.02)


def test_bad_input_is_refused() -> None:
    cube = images(4, 3, 1, 1)
    with pytest.raises(InputError, match="two or more of each; found shape \\(4, 1, 16\\)"):
        diversity(cube[:, :1])
    with pytest.raises(InputError, match="no variance"):
        diversity(np.ones((4, 3, 16)))
    cube[2, 1, 0] = np.nan
    with pytest.raises(InputError, match="cell 2 hold NaN"):
        diversity(cube)
