from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from patchloom.errors import GeometryError, InputError
from patchloom.evaluation.estimates import Absent, Estimate
from patchloom.evaluation.seams import Borders, seams
from patchloom.fields.field import ArrayField
from patchloom.geometry import Lattice, Span

Float = NDArray[np.float32]


def texture(height: int, width: int, seed: int, channels: int = 3) -> Float:
    """Noise that neighbours share, with a slow change of contrast over the plane."""
    rng = np.random.default_rng(seed)
    plane = rng.normal(size=(channels, height + 4, width + 4))
    for axis in (1, 2):
        for _ in range(2):
            plane = plane + np.roll(plane, 1, axis)
    contrast = 1 + 0.8 * np.sin(np.linspace(0, 4, width))
    return (plane[:, 4:, 4:] * contrast * 4 + 128).astype(np.float32)


def every(period: int, height: int, width: int, start: int = 0) -> Borders:
    rows, cols = range(start or period, height, period), range(start or period, width, period)
    return Borders(frozenset(rows), frozenset(cols))


def measured(picture: NDArray[np.generic], borders: Borders, factor: int, **kinds: Borders) -> Estimate:
    found = seams(ArrayField(picture), {"borders": borders, **kinds}, factor)["borders"]
    assert isinstance(found, Estimate), found
    assert found.interval is not None
    return found


def test_is_its_definition() -> None:
    picture = texture(40, 48, 0)
    borders = Borders(frozenset({8, 20}), frozenset({17}))
    down, across = np.abs(np.diff(picture, axis=1)).mean(0), np.abs(np.diff(picture, axis=2)).mean(0)
    on = [down[7], down[19], across[:, 16]]

    def expected(lines: Float, phase: int, taken: set[int]) -> float:
        return float(np.mean([lines[y - 1] for y in range(1, len(lines) + 1) if y % 4 == phase and y not in taken]))

    off = 2 * 48 * expected(down, 0, {8, 20}) + 40 * expected(across.T, 1, {17})
    found = seams(ArrayField(picture), {"k": borders}, 4)["k"]
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(sum(line.sum() for line in on) / off, rel=1e-5)
    assert found.n == (7 + 11, 3)


def test_a_planted_seam_is_found() -> None:
    picture = texture(256, 320, 0)
    borders = every(48, 256, 320)
    for row in borders.rows:
        picture[:, row:] += np.random.default_rng(row).choice([-20, 20])
    found = measured(np.clip(picture, 0, 255).astype(np.uint8), borders, 8)
    assert found.interval is not None
    assert found.interval.low > 1.05


def test_a_blur_across_borders_is_found_too() -> None:
    picture = texture(256, 320, 0)
    borders = every(48, 256, 320)
    for row in borders.rows:
        picture[:, row] = picture[:, row - 1] * 0.5 + picture[:, row] * 0.5
    found = measured(picture, borders, 1)
    assert found.interval is not None
    assert found.interval.high < 0.9


def test_the_decoders_period_alone_is_no_seam() -> None:
    """Every eighth line is a strong edge; the borders lie on some of them. Without phases the meter would cry out."""
    picture = texture(256, 320, 0)
    steps = np.random.default_rng(1).choice([-25, 25], size=32)
    for number, row in enumerate(range(8, 256, 8)):
        picture[:, row:] += steps[number]
    borders = every(48, 256, 320)
    borders = Borders(borders.rows, frozenset())
    with_phase, without = measured(picture, borders, 8), measured(picture, borders, 1)
    assert with_phase.interval is not None
    assert with_phase.interval.contains(1)
    assert with_phase.value == pytest.approx(1, abs=0.05)
    assert without.value > 1.3


def test_interval_holds_one_on_pictures_without_seams_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(40):
        found = measured(texture(128, 160, seed, channels=1), every(24, 128, 160, 7 + seed % 8), 8)
        assert found.interval is not None
        hits += found.interval.contains(1)
    assert hits >= 32


def test_borders_of_another_kind_are_no_other_lines() -> None:
    picture = texture(256, 256, 0)
    decode = Borders(frozenset(range(64, 256, 64)), frozenset())
    for row in decode.rows:
        picture[:, row:] += 60
    stage = Borders(frozenset(range(40, 256, 40)) - decode.rows, frozenset())
    assert measured(picture, stage, 8, decode=decode).value == pytest.approx(1, abs=0.1)
    assert measured(picture, stage, 8).value < 0.9


def test_bands_and_tiles_make_no_difference_to_the_value() -> None:
    """A field read by bands of any height gives what the array gives: heights around the tile's side."""
    for height in (97, 96, 95):
        picture = texture(height, 96, 0)
        borders = Borders(frozenset({31, 32, 33, 64}), frozenset({48}))
        found = seams(ArrayField(picture), {"k": borders}, 1)["k"]
        turned = seams(ArrayField(picture.swapaxes(1, 2)), {"k": Borders(borders.cols, borders.rows)}, 1)["k"]
        assert isinstance(found, Estimate)
        assert isinstance(turned, Estimate)
        assert found.value == pytest.approx(turned.value, rel=1e-6)


def test_bytes_do_not_wrap_around() -> None:
    picture = np.zeros((1, 32, 32), dtype=np.uint8)
    picture[:, 1::2] = 255
    assert measured(picture, Borders(frozenset({5, 9}), frozenset()), 1).value == pytest.approx(1)


def test_what_cannot_be_computed_is_absent_with_its_reason() -> None:
    picture = texture(64, 64, 0)
    none, all_of_a_phase = Borders(frozenset(), frozenset()), every(8, 64, 64)
    flat = np.full((3, 64, 64), 7, np.uint8)
    cases: list[tuple[NDArray[Any], Borders, str]] = [
        (picture, none, "no border"),
        (picture, all_of_a_phase, "nothing to compare"),
        (flat, every(16, 64, 64), "flat"),
    ]
    for array, borders, reason in cases:
        found = seams(ArrayField(array), {"k": borders}, 8)["k"]
        assert isinstance(found, Absent)
        assert reason in found.reason


def test_bad_input_is_refused() -> None:
    picture = texture(64, 64, 0)
    with pytest.raises(GeometryError, match="row border 64 does not lie inside an extent of 64"):
        seams(ArrayField(picture), {"k": Borders(frozenset({64}), frozenset())}, 1)
    with pytest.raises(InputError, match="at least 1, not 0"):
        seams(ArrayField(picture), {"k": every(16, 64, 64)}, 0)
    picture[0, 40, 3] = np.nan
    with pytest.raises(InputError, match="NaN or infinity in rows 36 to 42"):
        seams(ArrayField(picture), {"k": every(16, 64, 64)}, 1)


def test_borders_of_a_lattice_are_where_its_cores_meet() -> None:
    spans = (Span(0, 20, 0, 16), Span(12, 36, 16, 32), Span(28, 48, 32, 48))
    borders = Borders.of(Lattice(spans, spans[:1]))
    assert borders == Borders(frozenset({16, 32}), frozenset())
    assert borders.times(8).rows == {128, 256}
    assert borders.without(Borders(frozenset({16}), frozenset())).rows == {32}


def test_real_sections_have_no_seams(shared: Path) -> None:
    """Phases modulo 16: those files went through JPEG, whose blocks have a period of their own."""
    found = []
    for path in sorted((shared / "data" / "he" / "atlas_sections").glob("*.jpg"))[::8]:
        picture = np.moveaxis(np.asarray(Image.open(path).convert("RGB"))[:768, :768], -1, 0)
        found += [measured(picture, every(176, 768, 768, start), 16) for start in (48, 112, 160)]
    assert len(found) >= 12
    assert np.mean([estimate.value for estimate in found]) == pytest.approx(1, abs=0.02)
    held = [estimate.interval is not None and estimate.interval.contains(1) for estimate in found]
    assert np.mean(held) >= 0.8
