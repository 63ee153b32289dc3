"""Stains are found again in pictures made of them, and a picture goes to another slide's colours and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import ROOT

from patchloom import records
from patchloom.datasets.macenko import Staining, UInt8, stained_as, staining_of
from patchloom.errors import InputError

HE = ROOT.parent / "shared" / "data" / "he"


def unit(*density: float) -> tuple[float, float, float]:
    length = float(np.linalg.norm(density))
    return density[0] / length, density[1] / length, density[2] / length


ONE = Staining(unit(0.65, 0.70, 0.29), unit(0.07, 0.99, 0.11), (0.9, 0.5))
OTHER = Staining(unit(0.55, 0.75, 0.40), unit(0.20, 0.80, 0.55), (0.6, 0.7))


def picture(staining: Staining, glass: int = 500) -> UInt8:
    """(n, 3): pixels of one stain alone, of both in all proportions, and glass; 2 % have the most of a stain."""
    rng = np.random.default_rng(0)
    share = np.concatenate([np.zeros(300), np.ones(300), rng.random(3000)])
    amounts = np.where(np.arange(len(share)) % 4 == 0, 1.0, rng.uniform(0.3, 1.0, len(share)))
    both = np.stack([share * amounts, (1 - share) * amounts], axis=1) * staining.most
    made = 255 * 10 ** -(both @ staining.matrix())
    pixels: UInt8 = np.rint(np.concatenate([made, np.full((glass, 3), 255.0)])).clip(0, 255).astype(np.uint8)
    return pixels


def degrees(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return float(np.degrees(np.arccos(np.clip(np.dot(one, other), -1, 1))))


@pytest.mark.parametrize("staining", [ONE, OTHER])
def test_stains_are_found_again(staining: Staining) -> None:
    found = staining_of(picture(staining))
    assert degrees(found.haematoxylin, staining.haematoxylin) < 1
    assert degrees(found.eosin, staining.eosin) < 1
    np.testing.assert_allclose(found.most, staining.most, rtol=0.05)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 20_000))
def test_neither_the_order_of_pixels_nor_glass_counts(seed: int, glass: int) -> None:
    pixels = picture(ONE, glass=glass)
    shuffled = np.random.default_rng(seed).permutation(pixels)
    one, other = staining_of(pixels), staining_of(shuffled[:, None])
    np.testing.assert_allclose(one.matrix(), other.matrix(), atol=1e-9)
    np.testing.assert_allclose(one.most, other.most)
    np.testing.assert_allclose(one.matrix(), staining_of(picture(ONE, glass=0)).matrix(), atol=1e-9)


def test_a_picture_takes_the_other_s_stains() -> None:
    made = stained_as(picture(ONE), staining_of(picture(ONE)), OTHER)
    found = staining_of(made)
    assert degrees(found.haematoxylin, OTHER.haematoxylin) < 1.5
    assert degrees(found.eosin, OTHER.eosin) < 1.5
    np.testing.assert_allclose(found.most, OTHER.most, rtol=0.05)
    assert (made[-500:] == 255).all()  # glass


def test_there_and_back_is_what_was_there() -> None:
    pixels = picture(ONE).reshape(41, 100, 3)
    there = stained_as(pixels, ONE, OTHER)
    back = stained_as(there, OTHER, ONE)
    assert there.shape == back.shape == pixels.shape
    assert np.abs(back.astype(int) - pixels).max() <= 3
    assert np.abs(there.astype(int) - pixels).max() > 20


def test_the_same_stains_change_nothing() -> None:
    pixels = picture(ONE)
    assert np.abs(stained_as(pixels, ONE, ONE).astype(int) - pixels).max() <= 1


def test_a_record_keeps_it() -> None:
    found = staining_of(picture(ONE))
    assert records.load(Staining, records.dump(found), "staining") == found


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((50, 50, 3), 250, np.uint8), "0 pixels are stained, too few"),
        (np.full((50, 50, 3), (150, 90, 160), np.uint8), "stained in one colour"),
    ],
)
def test_what_has_no_two_stains_is_refused(pixels: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(InputError, match=message):
        staining_of(pixels)


@pytest.mark.skipif(not HE.is_dir(), reason="needs the real images in ../shared")
def test_sections_of_two_laboratories_come_together() -> None:
    ours, theirs = (_pixels(HE / folder) for folder in ("atlas_sections", "brca_m2c"))
    before, other = staining_of(ours), staining_of(theirs)
    found = staining_of(stained_as(ours, before, other))
    for stain in ("haematoxylin", "eosin"):  # what is lighter than white is cut off, so they do not meet
        there, here, then = (getattr(one, stain) for one in (other, found, before))
        assert degrees(here, there) < 0.8 * degrees(then, there)
    assert (np.abs(np.subtract(found.most, other.most)) < 0.5 * np.abs(np.subtract(before.most, other.most))).all()


def _pixels(folder: Path) -> UInt8:
    path = sorted(folder.rglob("*.jpg"))[0]
    with Image.open(path) as image:
        side = min(*image.size, 400)
        return np.asarray(image.convert("RGB").crop((0, 0, side, side)))
