"""Weaving is the same as doing it whole, in any order, reading only declared windows and making nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from patchloom.errors import GeometryError
from patchloom.fields.field import ArrayField, Field
from patchloom.fields.stores import MemoryStore
from patchloom.fields.views import Channels
from patchloom.fields.weave import Weave, weave
from patchloom.geometry import Box, Frame, Lattice, Span, Window
from patchloom.testing.fields import FieldLaws


def spans(length: int, window: int, core: int) -> tuple[Span, ...]:
    """Cores of `core` from 0 on, windows of one length clamped into the axis."""
    window, halo = min(window, length), (window - core) // 2
    starts = range(0, length, core)
    places = [(min(max(start - halo, 0), length - window), start, min(start + core, length)) for start in starts]
    return tuple(Span(place, place + window, start, stop) for place, start, stop in places)


def halo(height: int, width: int, window: int = 12, core: int = 8) -> Lattice:
    return Lattice(spans(height, window, core), spans(width, window, core))


def overlapping(height: int, width: int, window: int, stride: int, profile: tuple[float, ...] | None) -> Lattice:
    def axis(length: int) -> tuple[Span, ...]:
        starts = [*range(0, length - window, stride), length - window]
        return tuple(Span(s, s + window, s, s + window) for s in starts)

    return Lattice(axis(height), axis(width), profile)


@dataclass
class Smooth:
    """The mean of the (2 reach + 1) square around a pixel, edges repeated: a network of that reach."""

    reach: int = 2
    batch: int = 4
    seen: Counter[int] = field(default_factory=Counter)
    shapes: set[tuple[int, ...]] = field(default_factory=set)

    def frame(self, source: Frame) -> Frame:
        return replace(source, dtype="float32")

    def idle(self, window: Window) -> bool:
        return False

    def __call__(self, windows: Sequence[Window], arrays: NDArray[Any]) -> NDArray[Any]:
        self.seen.update({window.index for window in windows})
        self.shapes.add(arrays.shape)
        return smooth(arrays, self.reach)


def smooth(arrays: NDArray[Any], reach: int) -> NDArray[Any]:
    height, width = arrays.shape[-2:]
    edges = [(0, 0)] * (arrays.ndim - 2) + [(reach, reach)] * 2
    wide = np.pad(arrays.astype(np.float64), edges, mode="edge")
    offsets = range(2 * reach + 1)
    total: Any = sum(wide[..., y : y + height, x : x + width] for y in offsets for x in offsets)
    return np.asarray(total / len(offsets) ** 2).astype(np.float32)


@dataclass
class Watched:
    """A field that remembers what was read of it."""

    source: Field
    boxes: list[Box] = field(default_factory=list)

    @property
    def frame(self) -> Frame:
        return self.source.frame

    def read(self, box: Box) -> NDArray[Any]:
        self.boxes.append(box)
        return self.source.read(box)


def picture(height: int, width: int, channels: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(height * 1000 + width).standard_normal((channels, height, width), np.float32)


class TestWeaveIsAField(FieldLaws):
    def field(self) -> Field:
        return weave(ArrayField(picture(37, 29)), halo(37, 29), Smooth(), MemoryStore(), "k")


class TestBlendedWeaveIsAField(FieldLaws):
    def field(self) -> Field:
        lattice = overlapping(37, 29, 12, 5, tuple(np.hanning(14)[1:-1]))
        return weave(ArrayField(picture(37, 29)), lattice, Smooth(), MemoryStore(), "k")


class TestWeaveInAForgetfulStoreIsAField(FieldLaws):
    def field(self) -> Field:
        return chain(picture(37, 29), MemoryStore(limit_bytes=12_000))[-1]


def chain(array: NDArray[Any], store: MemoryStore, batch: int = 4) -> list[Weave]:
    """Three weaves on one another, on three lattices."""
    fields: list[Field] = [ArrayField(array)]
    for step, core in enumerate((8, 6, 7)):
        lattice = halo(array.shape[1], array.shape[2], core + 4 + core % 2, core)
        fields.append(weave(fields[-1], lattice, Smooth(batch=batch), store, f"stage/{step}"))
    return [one for one in fields if isinstance(one, Weave)]


def work_of(one: Weave) -> Smooth:
    assert isinstance(one._work, Smooth)
    return one._work


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_windows_with_enough_halo_equal_the_whole(height: int, width: int) -> None:
    array = picture(height, width)
    made = weave(ArrayField(array), halo(height, width), Smooth(), MemoryStore(), "k").read(Box(0, 0, height, width))
    np.testing.assert_array_equal(made, smooth(array, 2))


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(12)), st.integers(1, 9))
def test_every_order_and_batch_size_gives_the_same(order: list[int], batch: int) -> None:
    array = picture(36, 32)
    whole = chain(array, MemoryStore())[-1].read(Box(0, 0, 36, 32))
    fields = chain(array, MemoryStore(), batch)
    parts = [Box(y, x, 12, 8) for y in (0, 12, 24) for x in (0, 8, 16, 24)]
    for number in order:
        np.testing.assert_array_equal(
            fields[-1].read(parts[number]), whole[:, *parts[number].inside(Box(0, 0, 36, 32))]
        )
    for one in fields:
        assert set(work_of(one).seen.values()) == {1}, "a window was evaluated twice"
        assert len(work_of(one).shapes) == 1, "a batch had another shape"
        assert next(iter(work_of(one).shapes))[0] == batch


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 20), st.integers(1, 20))
def test_a_box_evaluates_the_windows_whose_core_meets_it_and_reads_those_alone(
    y: int, x: int, height: int, width: int
) -> None:
    source, work, lattice = Watched(ArrayField(picture(60, 60))), Smooth(), halo(60, 60)
    box = Box(y, x, height, width)
    weave(source, lattice, work, MemoryStore(), "k").read(box)
    meeting = [window for window in lattice if window.core.meet(box).area]
    assert set(work.seen) == {window.index for window in meeting}
    assert sorted(source.boxes) == sorted(window.box for window in meeting)


def test_the_cone_of_a_box_is_what_the_lattices_say() -> None:
    fields, box = chain(picture(60, 60), MemoryStore()), Box(20, 24, 9, 3)
    fields[-1].read(box)
    boxes = [box]
    for one in reversed(fields):
        windows = [w for w in one.lattice if any(w.core.meet(b).area for b in boxes)]
        assert set(work_of(one).seen) == {w.index for w in windows}
        assert len(windows) < len(one.lattice)
        boxes = [w.box for w in windows]


def test_the_cone_is_made_in_full_batches_through_a_view_of_channels() -> None:
    store = MemoryStore()
    below = weave(ArrayField(picture(60, 60, 3)), halo(60, 60), Smooth(batch=8), store, "below")
    above = weave(Channels(below, 1), halo(60, 60), Smooth(), store, "above")
    calls: list[int] = []
    original = Smooth.__call__

    def counted(self: Smooth, windows: Sequence[Window], arrays: NDArray[Any]) -> NDArray[Any]:
        calls.append(len(windows))
        return original(self, windows, arrays)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Smooth, "__call__", counted)
        assert above.read(Box(0, 0, 60, 60)).shape == (1, 60, 60)
    assert calls.count(8) == 8  # 64 windows below


@pytest.mark.parametrize("profile", [None, tuple(np.exp(-(((np.arange(12) - 5.5) / 3) ** 2) / 2))])
def test_overlapping_cores_are_blended_with_weights_that_sum_to_one(profile: tuple[float, ...] | None) -> None:
    lattice = overlapping(31, 26, 12, 5, profile)
    constant = np.full((1, 31, 26), 3, np.float32)
    made = weave(ArrayField(constant), lattice, Smooth(0), MemoryStore(), "k").read(Box(0, 0, 31, 26))
    np.testing.assert_allclose(made, constant, rtol=1e-6)


def test_blending_is_the_weighted_mean_of_what_the_windows_said() -> None:
    profile = tuple(float(1 + k) for k in range(12))
    lattice, array = overlapping(20, 17, 12, 4, profile), picture(20, 17)
    made = weave(ArrayField(array), lattice, Smooth(), MemoryStore(), "k").read(Box(0, 0, 20, 17))
    total, weight = np.zeros(array.shape), np.zeros(array.shape[1:])
    for window in lattice:
        place = window.box.inside(Box(0, 0, 20, 17))
        share = np.outer(profile, profile)
        total[:, *place] += smooth(array[:, *place], 2) * share
        weight[place] += share
    np.testing.assert_allclose(made, total / weight, atol=1e-6)


@dataclass
class Enlarge:
    """Repeats each pixel `factor` times along both axes, as uint8."""

    factor: int
    batch: int = 2

    def frame(self, source: Frame) -> Frame:
        return Frame(source.height * self.factor, source.width * self.factor, source.channels, "uint8")

    def idle(self, window: Window) -> bool:
        return False

    def __call__(self, windows: Sequence[Window], arrays: NDArray[Any]) -> NDArray[Any]:
        return arrays.repeat(self.factor, -1).repeat(self.factor, -2)


class TestEnlargedWeaveIsAField(FieldLaws):
    def field(self) -> Field:
        array = np.random.default_rng(0).integers(0, 255, (3, 21, 30)).astype(np.uint8)
        return weave(ArrayField(array), halo(21, 30), Enlarge(3), MemoryStore(), "k")


@pytest.mark.parametrize("overlap", [False, True])
def test_answers_may_be_finer_than_their_source(overlap: bool) -> None:
    array = np.random.default_rng(1).integers(0, 255, (3, 21, 30)).astype(np.uint8)
    lattice = overlapping(21, 30, 8, 3, None) if overlap else halo(21, 30)
    made = weave(ArrayField(array), lattice, Enlarge(4), MemoryStore(), "k")
    np.testing.assert_array_equal(made.read(made.frame.box), array.repeat(4, 1).repeat(4, 2))


@dataclass
class HalfIdle(Smooth):
    """Windows left of column 20 need no evaluation."""

    calls: list[set[bool]] = field(default_factory=list)

    def idle(self, window: Window) -> bool:
        return window.box.x < 20

    def __call__(self, windows: Sequence[Window], arrays: NDArray[Any]) -> NDArray[Any]:
        self.calls.append({self.idle(window) for window in windows})
        return super().__call__(windows, arrays)


def test_idle_windows_do_not_share_a_batch_with_others() -> None:
    work = HalfIdle()
    weave(ArrayField(picture(40, 40)), halo(40, 40), work, MemoryStore(), "k").read(Box(0, 0, 40, 40))
    assert {True} in work.calls
    assert {False} in work.calls
    assert {True, False} not in work.calls


def test_dropped_rows_are_made_again_and_the_others_are_not() -> None:
    work = Smooth()
    made = weave(ArrayField(picture(40, 40)), halo(40, 40), work, MemoryStore(), "k")
    before = made.read(made.frame.box)
    made.drop(rows=[1])
    np.testing.assert_array_equal(made.read(made.frame.box), before)
    again = {index for index, times in work.seen.items() if times == 2}
    assert again == {w.index for w in made.lattice if w.core.meet(made.row(1)).area}


def test_a_chain_of_two_thousand_weaves_is_no_deep_recursion() -> None:
    one: Field = ArrayField(picture(4, 4))
    store, lattice = MemoryStore(), halo(4, 4)
    for step in range(2000):
        one = weave(one, lattice, Smooth(0), store, f"stage/{step}")
    np.testing.assert_array_equal(one.read(Box(1, 1, 2, 2)), picture(4, 4)[:, 1:3, 1:3])


def test_what_does_not_fit_is_refused() -> None:
    source = ArrayField(picture(20, 20))
    with pytest.raises(GeometryError, match="covers"):
        weave(source, halo(20, 19), Smooth(), MemoryStore(), "k")
    with pytest.raises(GeometryError, match="gap"):
        weave(source, Lattice((Span(0, 9, 0, 9), Span(10, 20, 10, 20)), spans(20, 12, 8)), Smooth(), MemoryStore(), "k")
    with pytest.raises(GeometryError, match="declared"):
        weave(source, halo(20, 20), Wrong(), MemoryStore(), "k").read(Box(0, 0, 1, 1))


class Wrong(Smooth):
    def __call__(self, windows: Sequence[Window], arrays: NDArray[Any]) -> NDArray[Any]:
        return arrays[:, :, 1:]
