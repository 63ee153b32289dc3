"""The large-image distance: the kernel against its definition, wholes against Pillow, and what few images say."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.encoders.fakes import HALF
from tests.evaluation.test_comparison import QUICK, SPACE, estimates, some
from torch import nn

from patchloom.encoders.encoder import EncoderSpec
from patchloom.encoders.network import NetworkEncoder
from patchloom.encoders.pixels import Transform
from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.estimates import Absent, Figure
from patchloom.evaluation.features import Features
from patchloom.evaluation.large_images import cmmd, kernel, large_image_distance, side_of, squeezed, whole_features
from patchloom.evaluation.patches import from_arrays
from patchloom.fields.field import ArrayField


def rows(n: int, seed: int, shift: float = 0.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(shift, 1, (n, 6))


def by_hand(real: NDArray[np.float64], synthetic: NDArray[np.float64], *, itself: bool) -> float:
    """Equation by equation, with loops: bandwidth 10, times 1000, rows of length 1."""
    sides = [[row / np.sqrt((row**2).sum()) for row in side] for side in (real, synthetic)]

    def mean(one: list[NDArray[np.float64]], two: list[NDArray[np.float64]], *, same: bool) -> float:
        pairs = [(i, j) for i in range(len(one)) for j in range(len(two)) if itself or not same or i != j]
        return sum(exp(-((one[i] - two[j]) ** 2).sum() / (2 * 10**2)) for i, j in pairs) / len(pairs)

    within = mean(sides[0], sides[0], same=True) + mean(sides[1], sides[1], same=True)
    return 1000 * (within - 2 * mean(sides[0], sides[1], same=False))


def test_both_estimators_are_the_definition() -> None:
    real, synthetic = rows(7, 0), rows(5, 1, 0.4)
    assert cmmd(real, synthetic) == pytest.approx(by_hand(real, synthetic, itself=True), rel=1e-9)
    assert kernel(real, synthetic) == pytest.approx(by_hand(real, synthetic, itself=False), rel=1e-9)
    assert cmmd(real, real) == pytest.approx(0, abs=1e-9)
    assert cmmd(3 * real, synthetic) == pytest.approx(cmmd(real, synthetic))  # directions alone count
    with pytest.raises(InputError, match="is zero"):
        cmmd(real * 0, synthetic)


def test_the_published_one_is_biased_at_few_images_and_the_other_is_not() -> None:
    pairs = [(rows(6, 2 * k), rows(6, 2 * k + 1)) for k in range(300)]
    biased, fair = (np.array([measure(*pair) for pair in pairs]) for measure in (cmmd, kernel))
    assert abs(fair.mean()) < 3 * fair.std() / np.sqrt(len(fair))
    assert biased.mean() > 10 * abs(fair.mean())


@pytest.mark.parametrize(("height", "width"), [(2300, 61), (40, 300), (17, 9), (24, 24)])
def test_a_whole_is_what_pillow_makes_of_it(height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    whole = Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))
    found = np.moveaxis(squeezed(ArrayField(pixels), 24), 0, -1)
    rows_first = whole.resize((24, height), Image.Resampling.BICUBIC).resize((24, 24), Image.Resampling.BICUBIC)
    assert np.array_equal(found, np.asarray(rows_first))
    at_once = np.asarray(whole.resize((24, 24), Image.Resampling.BICUBIC))
    assert np.abs(found.astype(int) - at_once).max() <= 1


def test_the_report_says_how_wholes_came_to_their_size() -> None:
    network = nn.Conv2d(3, 4, 5, 2)
    spec = EncoderSpec("tiny", 4, 16, HALF, HALF, "CC0-1.0", "sha256:" + "0" * 64)
    encoder = NetworkEncoder(spec, network, Transform(20, 16, HALF, HALF), lambda p: network(p).mean((2, 3)))
    assert side_of(encoder) == 20
    pictures = [np.full((3, 20, 20), value, np.uint8) for value in (0, 99)]
    found = whole_features(from_arrays(pictures), encoder)
    assert found.space.resizer == "whole images, antialiased bicubic to 20 x 20 px, centre 16 px"


def of_slides(n: int, seed: int, name: str = "real", *, shift: float = 0.0) -> Features:
    found = some(n, seed, fields=n, name="slide")
    return replace(found, rows=found.rows + shift, side=replace(found.side, name=name))


def test_few_large_images_are_measured_and_called_few() -> None:
    real, near, far = of_slides(12, 0), of_slides(12, 1, "made"), of_slides(12, 1, "made", shift=2.0)
    entries = large_image_distance(real, near, sourced=True, effort=QUICK)
    same = estimates(entries)
    assert list(same) == [f"large_image_distance: {n}" for n in ("kernel", "frechet", "cmmd", "frechet_all_images")]
    other = estimates(large_image_distance(real, far, sourced=True, effort=QUICK))
    for name, found in same.items():
        assert other[name].value > found.value
        assert any("large images a side" in warning for warning in found.warnings), name
    found = same["large_image_distance: kernel"]
    assert found.n == (6, 6)
    assert found.interval is not None
    assert found.interval.contains(0)
    assert found.floor is not None
    assert found.floor.n == 6
    assert same["large_image_distance: cmmd"].value == pytest.approx(cmmd(real.rows, near.rows))
    assert same["large_image_distance: cmmd"].n == (12, 12)
    assert all(isinstance(entry, Figure) and entry.space == SPACE for entry in entries)


def test_enough_images_are_not_called_few() -> None:
    found = estimates(large_image_distance(of_slides(60, 0), of_slides(60, 1, "made"), sourced=True, effort=QUICK))
    assert not any("large images a side" in warning for warning in found["large_image_distance: kernel"].warnings)


def test_an_image_made_from_a_half_is_not_held_against_it() -> None:
    """Copies of the real images: with their sources known, they stand at the floor and not below it."""
    real = of_slides(40, 0)
    copies = replace(real, side=replace(real.side, name="made"))
    known, unknown = (
        estimates(large_image_distance(real, copies, sourced=sourced, effort=QUICK))["large_image_distance: kernel"]
        for sourced in (True, False)
    )
    assert known.floor is not None
    assert known.value == pytest.approx(known.floor.value)
    assert unknown.value < known.value


def test_too_few_images_and_other_spaces_are_told() -> None:
    few = large_image_distance(of_slides(3, 0), of_slides(3, 1, "made"), sourced=True, effort=QUICK)
    absent = {entry.name: entry.reason for entry in few if isinstance(entry, Absent)}
    assert list(absent) == ["large_image_distance: kernel", "large_image_distance: frechet"]
    assert all("halves" in reason for reason in absent.values())
    assert estimates(few)["large_image_distance: cmmd"].n == (3, 3)
    other = replace(of_slides(8, 1, "made"), space=replace(SPACE, resizer="another"))
    with pytest.raises(MismatchError, match="one network and one resizer"):
        large_image_distance(of_slides(8, 0), other)
