from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.memorisation import memorisation, nearest


def gaussian(n: int, seed: int, dim: int = 6) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(5, 1, (n, dim))


def test_nearest_is_its_definition() -> None:
    queries, training = gaussian(30, 0), gaussian(1100, 1)
    away = np.linalg.norm(queries[:, None] - training, axis=2)
    place, distance = nearest(queries, training)
    assert np.array_equal(place, away.argmin(1))
    assert distance == pytest.approx(away.min(1))


def test_fresh_images_are_as_far_as_unseen_ones() -> None:
    found = memorisation(gaussian(800, 0), gaussian(200, 1), gaussian(300, 2))
    assert found.ratio.interval is not None
    assert found.ratio.interval.contains(1)
    assert found.ratio.n == (800, 200, 300)
    assert found.suspects.value < 0.05


def test_copies_are_found_and_named() -> None:
    training, synthetic = gaussian(500, 0), gaussian(200, 2)
    synthetic[::4] = training[100:150] + 0.01
    found = memorisation(training, gaussian(200, 1), synthetic)
    assert found.ratio.interval is not None
    assert found.ratio.interval.high < 0.9
    assert found.suspects.value == pytest.approx(0.25, abs=0.03)
    assert found.nearest[::4].tolist() == list(range(100, 150))
    assert found.away[::4].max() < found.away.mean() / 10


def test_all_copies_give_a_ratio_of_zero() -> None:
    training = gaussian(100, 0)
    found = memorisation(training, gaussian(50, 1), training[:40])
    assert found.ratio.value == 0
    assert found.suspects.value == 1


def test_bad_input_is_refused() -> None:
    training = gaussian(100, 0)
    with pytest.raises(InputError, match="not held out"):
        memorisation(training, training[:20], gaussian(30, 1))
    with pytest.raises(MismatchError, match="same encoder"):
        memorisation(training, gaussian(20, 1), gaussian(20, 1, dim=5))
    with pytest.raises(InputError, match="held-out features: 1 images are too few"):
        memorisation(training, gaussian(1, 1), gaussian(30, 1))
