"""The ratio of two sides' distances: what both share cancels, and its interval knows that."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.evaluation.comparison import Effort, compare
from patchloom.evaluation.estimates import Absent, Estimate, FeatureSpace, Figure, Side
from patchloom.evaluation.features import Features
from patchloom.evaluation.ratios import NAMES, NOT_ABOVE, ratios

SPACE = FeatureSpace("toy", "sha256:0", 6, "none")
EFFORT = Effort(resamples=120, full_resamples=20)


def sides(rows: NDArray[np.float64], name: str, field: int = 3) -> Features:
    groups = np.array([f"{name[0]}{k // field}" for k in range(len(rows))], dtype=object)
    return Features(rows.astype(np.float32), SPACE, Side(name, len(rows), "png"), groups)


@pytest.fixture(scope="module")
def parts() -> dict[str, Features]:
    rng = np.random.default_rng(0)
    made = rng.standard_normal((120, 6)) + 1
    return {
        "reference": sides(rng.standard_normal((120, 6)), "B"),
        "source": sides(rng.standard_normal((120, 6)), "A"),
        "training": sides(rng.standard_normal((300, 6)) * np.arange(6, 0, -1), "T"),
        "bottom": sides(made, "made"),
        "top": sides(made + 0.01 * rng.standard_normal((120, 6)), "made"),
        "worse": sides(made + 1, "made"),
    }


def of(parts: dict[str, Features], top: str, bottom: str) -> dict[str, Estimate]:
    found = ratios(
        parts["reference"],
        parts[top],
        parts[bottom],
        source=parts["source"],
        training=parts["training"],
        effort=EFFORT,
    )
    assert [one.name for one in found] == list(NAMES)
    return {one.name: one.estimate for one in found if isinstance(one, Figure)}


def test_a_side_over_itself_is_one_without_doubt(parts: dict[str, Features]) -> None:
    for estimate in of(parts, "bottom", "bottom").values():
        assert estimate.interval is not None
        assert (estimate.value, estimate.interval.low, estimate.interval.high) == (1, 1, 1)


def test_what_both_sides_share_does_not_widen_the_interval(parts: dict[str, Features]) -> None:
    for estimate in of(parts, "top", "bottom").values():
        assert estimate.interval is not None
        assert estimate.value == pytest.approx(1, abs=0.05)
        assert estimate.interval.high - estimate.interval.low < 0.1


def test_a_worse_side_is_told_apart(parts: dict[str, Features]) -> None:
    for estimate in of(parts, "worse", "bottom").values():
        assert estimate.interval is not None
        assert estimate.interval.low > 1.5


def test_values_are_those_of_compare(parts: dict[str, Features]) -> None:
    above, below = (
        compare(parts["reference"], parts[side], source=parts["source"], training=parts["training"], effort=EFFORT)
        for side in ("worse", "bottom")
    )
    for name, estimate in of(parts, "worse", "bottom").items():
        one, two = (next(entry for entry in found if entry.name == name) for found in (above, below))
        assert isinstance(one, Figure)
        assert isinstance(two, Figure)
        assert estimate.value == pytest.approx(one.estimate.value / two.estimate.value)


def test_no_distance_is_no_divisor(parts: dict[str, Features]) -> None:
    exact = Features(parts["reference"].rows, SPACE, Side("made", 120, "png"), parts["bottom"].groups)
    found = ratios(parts["reference"], parts["top"], exact, source=parts["source"], effort=EFFORT)
    assert {one.name: one.reason for one in found if isinstance(one, Absent)}["kernel"] == NOT_ABOVE


def test_other_places_are_refused(parts: dict[str, Features]) -> None:
    fewer = Features(parts["top"].rows[:9], SPACE, Side("made", 9, "png"), parts["top"].groups)
    with pytest.raises(InputError, match="9 pictures over 120"):
        ratios(parts["reference"], fewer, parts["bottom"], source=parts["source"])
