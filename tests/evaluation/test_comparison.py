from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.comparison import Effort, compare
from patchloom.evaluation.estimates import Absent, Entry, Estimate, FeatureSpace, Figure, Side
from patchloom.evaluation.features import Features
from patchloom.evaluation.frechet import frechet

SPACE = FeatureSpace("tiny", "sha256:" + "0" * 64, 30, "none")
QUICK = Effort(components=8, splits=3, resamples=60, full_resamples=4)
NAMES = ("precision", "recall", "density", "coverage")


def some(
    n: int, seed: int, *, scale: float = 1.0, fields: int = 0, name: str = "real", codec: str = "png", dim: int = 30
) -> Features:
    spread = 1 / np.sqrt(np.arange(1, dim + 1))
    rows = np.random.default_rng(seed).normal(0, scale, (n, dim)) * spread
    groups = np.array([f"{name}{i % fields}" for i in range(n)]) if fields else None
    return Features(rows.astype(np.float32), SPACE, Side(name, n, codec), groups)


def estimates(entries: tuple[Entry, ...]) -> dict[str, Estimate]:
    return {entry.name: entry.estimate for entry in entries if isinstance(entry, Figure)}


def test_images_of_the_same_kind_stand_at_the_floor_and_others_above_it() -> None:
    real, training = some(240, 0), some(500, 1, name="training")
    same, poor = (
        estimates(compare(real, made, training=training, effort=QUICK))
        for made in (some(200, 2), some(200, 3, scale=0.5))
    )
    ratio = same["frechet_axes_over_floor"]
    assert ratio.interval is not None
    assert ratio.interval.contains(1)
    assert poor["frechet_axes_over_floor"].value > 5
    assert same["frechet_axes"].n == (120, 120)
    assert "first 8 principal axes" in same["frechet_axes"].how
    assert same["kernel"].interval is not None
    assert same["kernel"].interval.contains(0)
    assert poor["recall"].value < same["recall"].value - 0.2
    for name in ("frechet_axes", "frechet", "kernel", *NAMES):
        for figures in (same, poor):
            assert figures[name].floor is not None, name
            assert figures[name].interval is not None, name


def test_every_figure_says_what_it_was_measured_with() -> None:
    entries = compare(some(120, 0), some(90, 1, name="made"), training=some(100, 2), effort=QUICK)
    assert [entry.name for entry in entries][:4] == [
        "frechet_axes",
        "frechet_axes_over_floor",
        "frechet",
        "frechet_all_images",
    ]
    for entry in entries:
        assert isinstance(entry, Figure)
        assert entry.space == SPACE
        assert [side.n for side in entry.sides] == [120, 90]


def test_the_whole_distance_is_of_all_images_and_flagged() -> None:
    real, made = some(120, 0), some(90, 1)
    found = estimates(compare(real, made, effort=QUICK))
    assert found["frechet_all_images"].value == pytest.approx(frechet(real.rows, made.rows))
    assert found["frechet_all_images"].n == (120, 90)
    assert found["frechet_all_images"].floor is None
    assert "biased" in found["frechet_all_images"].warnings[0]
    assert "biased" in found["frechet"].warnings[0]


def test_a_fixed_split_is_held_against_its_own_other_half() -> None:
    source, real, made = some(100, 0, name="a", fields=10), some(80, 1, name="b", fields=8), some(90, 2, fields=9)
    found = estimates(compare(real, made, source=source, training=some(300, 4), effort=QUICK))
    assert found["frechet"].n == (80, 80)
    assert found["frechet"].floor is not None
    assert found["frechet"].floor.splits == 1
    assert found["frechet_all_images"].n == (80, 90)
    assert found["frechet_all_images"].value == pytest.approx(frechet(real.rows, made.rows))
    assert found["kernel"].n == (80, 90)


def test_without_training_features_the_axes_are_absent_with_the_reason() -> None:
    entries = {entry.name: entry for entry in compare(some(60, 0), some(60, 1), effort=QUICK)}
    for name in ("frechet_axes", "frechet_axes_over_floor"):
        missing = entries[name]
        assert isinstance(missing, Absent)
        assert "no training features were given" in missing.reason


def test_too_few_images_for_an_axis_or_neighbours_are_absent_with_the_reason() -> None:
    entries = {entry.name: entry for entry in compare(some(8, 0), some(8, 1), training=some(50, 2), effort=QUICK)}
    axes, precision = entries["frechet_axes"], entries["precision"]
    assert isinstance(axes, Absent)
    assert "4 images a side are too few" in axes.reason
    assert isinstance(precision, Absent)
    assert "nearest neighbours" in precision.reason
    assert isinstance(entries["kernel"], Figure)


def test_a_lossy_side_against_a_lossless_one_is_warned_of() -> None:
    found = estimates(compare(some(40, 0, codec="jpeg"), some(40, 1, name="made"), effort=QUICK))
    assert any("codecs differ (real went through jpeg, made through png)" in w for w in found["kernel"].warnings)
    same = estimates(compare(some(40, 0, codec="jpeg"), some(40, 1, codec="tiff (jpeg)"), effort=QUICK))
    assert same["kernel"].warnings == ()


def test_crops_of_one_picture_are_measured_and_said_to_be_so() -> None:
    found = estimates(compare(some(60, 0, fields=20), some(60, 1, name="large", fields=1), effort=QUICK))
    assert any("large: all images are of one group" in warning for warning in found["kernel"].warnings)
    few = estimates(compare(some(60, 0, fields=3), some(60, 1), effort=QUICK))
    assert any("only 3 groups" in warning for warning in few["kernel"].warnings)


def test_synthetic_images_are_taken_from_the_fields_on_the_other_side() -> None:
    real = some(80, 0, fields=10)
    made = replace(some(80, 1, name="made"), groups=real.groups)
    assert estimates(compare(real, made, sourced=True, effort=QUICK))["frechet"].n[0] <= 40
    with pytest.raises(InputError, match="groups of the synthetic images"):
        compare(real, some(80, 1, name="made", fields=10), sourced=True, effort=QUICK)


def test_one_seed_gives_one_answer() -> None:
    real, made, training = some(60, 0, fields=12), some(60, 1), some(80, 2, name="training")
    first, second = (compare(real, made, training=training, effort=QUICK) for _ in range(2))
    assert first == second


def test_what_does_not_belong_together_is_refused() -> None:
    real, made = some(40, 0, fields=8), some(40, 1)
    other = replace(made, space=replace(SPACE, resizer="bilinear"))
    with pytest.raises(MismatchError, match="one network and one resizer"):
        compare(real, other)
    with pytest.raises(
        MismatchError, match="8 groups stand on both sides of held-out and training images: real0, real1"
    ):
        compare(real, made, training=some(90, 3, fields=9))
    with pytest.raises(MismatchError, match="halves of the held-out images"):
        compare(real, made, source=some(90, 3, fields=9))
    spoilt = some(40, 1, name="spoilt")
    spoilt.rows[3, 2] = np.nan
    with pytest.raises(InputError, match="`spoilt`: 1 of 40 rows hold NaN or infinity, the first is row 3"):
        compare(real, spoilt)
