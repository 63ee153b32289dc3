"""The pairs that a search for copies must be looked at with."""

from __future__ import annotations

import numpy as np

from patchloom.evaluation.memorisation import memorisation
from patchloom.evaluation.patches import from_arrays
from patchloom.trials.copies import nearest_pairs


def test_copies_stand_beside_what_they_are_copies_of() -> None:
    rng = np.random.default_rng(0)
    training = list(rng.integers(0, 256, (9, 3, 8, 8), dtype=np.uint8))
    unseen = list(rng.integers(0, 256, (9, 3, 8, 8), dtype=np.uint8))
    made = [unseen[2] // 2, training[7], unseen[3], training[1]]
    rows = [np.stack(some).reshape(len(some), -1).astype(np.float64) for some in (training, unseen, made)]

    beside = nearest_pairs(memorisation(*rows, repeats=10), from_arrays(made), from_arrays(training), "pixels")

    (_, ours), (_, theirs) = beside.pictures
    assert np.array_equal(ours[..., :16], np.concatenate([training[7], training[1]], axis=2))
    assert np.array_equal(theirs[..., :16], ours[..., :16])
    assert ours.shape == (3, 8, 8 * len(made))
    assert "pixels, at a distance of 0, 0, " in beside.title
