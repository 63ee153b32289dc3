"""Plans cover any canvas, count what DESIGN.md says they count, and move so that no line is a border twice in a row."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchloom.diffusion.levels import karras
from patchloom.errors import GeometryError, InputError
from patchloom.geometry import Box, Lattice
from patchloom.loom.plan import Plan, Sizes, average, gaussian, halo, origins, shift

SIDES = st.integers(1, 150)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Window, core and multiple."""
    multiple = draw(st.sampled_from([1, 1, 2, 4, 8]))
    window = multiple * draw(st.integers(1, 64 // multiple))
    return window, draw(st.integers(1, window)), multiple


def cover(lattice: Lattice, canvas: tuple[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """How many cores each latent lies in."""
    count = np.zeros(canvas, np.int64)
    for window in lattice:
        count[window.core.inside(Box(0, 0, *canvas))] += 1
    return count


def check_windows(lattice: Lattice, canvas: tuple[int, int], window: int, multiple: int) -> None:
    whole = Box(0, 0, *canvas)
    assert lattice.box == whole
    assert all(whole.contains(one.box) and one.box.contains(one.core) for one in lattice)
    (shape,) = {one.box.shape for one in lattice}
    for found, length in zip(shape, canvas, strict=True):
        assert found <= window
        if length >= window:
            assert found == window
        elif length >= multiple:
            assert found == length - length % multiple
        else:
            assert found == length


@settings(deadline=None)
@given(SIDES, SIDES, sizes(), st.integers(0, 200), st.integers(0, 200))
def test_halo_covers_any_canvas_once(height: int, width: int, size: tuple[int, int, int], y: int, x: int) -> None:
    window, core, multiple = size
    lattice = halo((height, width), window, core, (y, x), multiple)
    check_windows(lattice, (height, width), window, multiple)
    assert (cover(lattice, (height, width)) == 1).all()


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 40), st.integers(0, 100))
def test_a_core_has_its_halo_wherever_something_lies_beyond(length: int, window: int, core: int, origin: int) -> None:
    window, core = max(window, core), min(window, core)
    margin = (window - core) // 2
    for span in halo((length, 1), window, core, (origin, 0)).rows:
        assert span.core_start - span.start >= margin or span.start == 0
        assert span.stop - span.core_stop >= margin or span.stop == length
        assert span.core_stop - span.core_start <= window - margin or span.stop - span.start == length


@settings(deadline=None)
@given(SIDES, SIDES, sizes(), st.integers(0, 200))
def test_borders_lie_at_the_origin_and_multiples_of_the_core(
    height: int, width: int, size: tuple[int, int, int], origin: int
) -> None:
    window, core, _ = size
    lattice = halo((height, width), window, core, (origin, origin))
    for spans in (lattice.rows, lattice.cols):
        assert all((span.core_start - origin) % core == 0 for span in spans[1:])


@settings(deadline=None)
@given(SIDES, SIDES, sizes(), st.integers(0, 200))
def test_shift_covers_once_with_whole_windows(height: int, width: int, size: tuple[int, int, int], origin: int) -> None:
    window, _, multiple = size
    lattice = shift((height, width), window, (origin, origin // 2), multiple)
    check_windows(lattice, (height, width), window, multiple)
    assert (cover(lattice, (height, width)) == 1).all()
    if multiple == 1 and min(height, width) >= window:
        assert len(lattice) <= (height // window + 2) * (width // window + 2)


@settings(deadline=None)
@given(SIDES, SIDES, sizes())
def test_average_covers_every_latent(height: int, width: int, size: tuple[int, int, int]) -> None:
    window, stride, multiple = size
    lattice = average((height, width), window, stride, "gaussian", multiple)
    check_windows(lattice, (height, width), window, multiple)
    assert (cover(lattice, (height, width)) >= 1).all()
    assert lattice.profile == gaussian(window)
    assert min(gaussian(window)) > 0


@pytest.mark.parametrize(
    ("canvas", "windows"),
    [
        ((1, 1), 1),
        ((5, 31), 1),
        ((32, 32), 1),
        ((33, 32), 2),  # one latent wider than a window
        ((33, 33), 4),
        ((1, 1000), 42),  # 28 + 39 * 24 + 28 = 992, one more
        ((32, 1000), 42),
    ],
)
def test_odd_canvases(canvas: tuple[int, int], windows: int) -> None:
    lattice = halo(canvas, 32, 24)
    assert len(lattice) == windows
    assert (cover(lattice, canvas) == 1).all()


# Evaluations per block of 32 x 32 latents (256 x 256 px at f8), as DESIGN.md counts them.
@pytest.mark.parametrize(("side", "expected"), [(128, 31), (256, 28)])
def test_the_default_counts_of_design(side: int, expected: int) -> None:
    lattices = Plan.of("halo", 32).lattices((side, side), [float(sigma) for sigma in karras(14, 0.02, 20)])
    assert round(sum(map(len, lattices)) / (side / 32) ** 2) == expected


def test_the_default_s_limit() -> None:
    per_axis = [len(lattice.cols) for lattice in Plan.of("halo", 32).lattices((1, 10**5), [1.0] * 14)]
    assert round(sum((count * 32 / 10**5) ** 2 for count in per_axis)) == 25


@pytest.mark.parametrize(("side", "expected"), [(128, 1056), (256, 1314)])
def test_the_paper_s_counts_of_design(side: int, expected: int) -> None:
    lattices = Plan.of("average", 32).lattices((side, side), [1.0] * 50)
    assert int(2 * sum(map(len, lattices)) / (side / 32) ** 2) == expected


def test_the_paper_s_limit() -> None:
    per_axis = len(average((1, 10**6), 32, 8).cols)
    assert round(2 * 50 * (per_axis * 32 / 10**6) ** 2) == 1600


@settings(deadline=None)
@given(st.lists(st.sampled_from([2, 6, 12, 24, 48, 96, 120]), min_size=2, max_size=60))
def test_no_line_is_a_border_twice_in_a_row(cores: list[int]) -> None:
    for (core, place), (core_after, after) in pairwise(zip(cores, origins(cores), strict=True)):
        for axis in (0, 1):
            before = set(range(place[axis] % core, 1000, core))
            assert not before & set(range(after[axis] % core_after, 1000, core_after))


@pytest.mark.parametrize("core", [5, 12, 24, 33, 64])
def test_every_line_is_a_border_equally_often(core: int) -> None:
    rounds = 20
    places = np.array(origins([core] * core * rounds))
    for axis in (0, 1):
        count = np.bincount(places[:, axis], minlength=core)
        assert len(count) == core
        assert abs(count - rounds).max() <= 4
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.1


def test_a_plan_is_the_same_on_every_machine() -> None:
    assert origins([24] * 6) == [(12, 12), (21, 2), (7, 17), (17, 8), (3, 23), (13, 14)]


def test_sizes_follow_the_noise_level() -> None:
    plan = Plan("halo", (Sizes(1.0, 128, 120), Sizes(0.1, 64, 48), Sizes(0.0, 32, 24)))
    lattices = plan.lattices((400, 400), [80.0, 1.01, 1.0, 0.5, 0.1, 0.02])
    assert [next(iter(one)).box.height for one in lattices] == [128, 128, 64, 64, 32, 32]
    for lattice in lattices:
        assert (cover(lattice, (400, 400)) == 1).all()


def test_a_fixed_plan_stands_still_and_a_moving_one_does_not() -> None:
    fixed = Plan("halo", (Sizes(0.0, 32, 24),), moving=False).lattices((200, 200), [1.0] * 5)
    moving = Plan.of("halo", 32).lattices((200, 200), [1.0] * 5)
    assert len(set(fixed)) == 1
    assert len(set(moving)) == 5


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(GeometryError, match="core 33 must lie between 1 and the window, 32"):
        halo((100, 100), 32, 33)
    with pytest.raises(GeometryError, match="empty"):
        halo((0, 100), 32, 24)
    with pytest.raises(GeometryError, match="nearest are 24 and 32"):
        halo((100, 100), 30, 24, multiple=8)
    with pytest.raises(InputError, match="end above sigma 0"):
        Plan("halo", (Sizes(1.0, 32, 24),))
    with pytest.raises(InputError, match="from high noise to low"):
        Plan("halo", (Sizes(0.0, 32, 24), Sizes(1.0, 64, 48)))
    with pytest.raises(InputError, match="must equal window"):
        Plan("shift", (Sizes(0.0, 32, 24),))
    with pytest.raises(InputError, match="sync"):
        Plan.of("halo", 32, sync=0)
