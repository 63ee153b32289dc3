"""Laws of boxes, pixel sizes and lattices."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from patchloom.errors import GeometryError, InputError
from patchloom.geometry import Box, Frame, Lattice, PixelSize, Span

SIDE = 24
places = st.integers(-SIDE, SIDE)
extents = st.integers(1, SIDE)
boxes = st.builds(Box, places, places, extents, extents)
factors = st.integers(1, 16)


def painted(box: Box) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """The oracle of box arithmetic: a picture of the plane in which the box is painted."""
    plane = np.zeros((4 * SIDE, 4 * SIDE), bool)
    if box.area:
        plane[box.y + SIDE : box.stop_y + SIDE, box.x + SIDE : box.stop_x + SIDE] = True
    return plane


@given(boxes, boxes)
def test_boxes_meet_where_both_are_painted(one: Box, other: Box) -> None:
    assert_array_equal(painted(one.meet(other)), painted(one) & painted(other))


@given(boxes, boxes)
def test_a_box_contains_another_where_painting_it_changes_nothing(one: Box, other: Box) -> None:
    assert one.contains(other) == bool((painted(one) | painted(other) == painted(one)).all())


@given(boxes)
def test_area_counts_the_painted_pixels(box: Box) -> None:
    assert box.area == painted(box).sum() == math.prod(box.shape)


@given(boxes, st.integers(0, 8))
def test_growing_and_moving_are_undone(box: Box, margin: int) -> None:
    assert box.grown(margin).grown(-margin) == box
    assert box.grown(margin).contains(box)
    assert box.moved(margin, -3).moved(-margin, 3) == box


@given(boxes, boxes)
def test_inside_cuts_the_same_pixels_out_of_any_array(inner: Box, outer: Box) -> None:
    inner = inner.meet(outer)
    if not inner.area:
        inner = outer
    numbers = np.add.outer(1000 * np.arange(-SIDE, 3 * SIDE), np.arange(-SIDE, 3 * SIDE))
    whole = numbers[outer.inside(Box(-SIDE, -SIDE, 4 * SIDE, 4 * SIDE))]
    assert_array_equal(whole[inner.inside(outer)], numbers[inner.inside(Box(-SIDE, -SIDE, 4 * SIDE, 4 * SIDE))])


@given(boxes, boxes)
def test_inside_refuses_a_box_that_leaves(inner: Box, outer: Box) -> None:
    if outer.contains(inner):
        inner.inside(outer)
    else:
        with pytest.raises(GeometryError, match="does not lie inside"):
            inner.inside(outer)


@given(boxes, factors)
def test_over_undoes_times(box: Box, factor: int) -> None:
    assert box.times(factor).over(factor) == box


@given(boxes, st.integers(2, 16))
def test_over_never_rounds(box: Box, factor: int) -> None:
    try:
        assert box.over(factor).times(factor) == box
    except GeometryError:
        assert any(value % factor for value in (box.y, box.x, box.height, box.width))


@given(boxes)
def test_a_region_is_written_x_first(box: Box) -> None:
    assert Box.parse(f"{box.x},{box.y}, {box.width} ,{box.height}") == box


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,3.5,4", "a,b,c,d", "0,0,0,5", "0,0,5,-1", "1;2;3;4"])
def test_what_is_no_region_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="region `"):
        Box.parse(text)


@pytest.mark.parametrize(
    ("text", "metres"),
    [
        ("0.5um", 0.5e-6),
        ("0.5 µm", 0.5e-6),
        ("0.5μm", 0.5e-6),
        ("250nm", 0.25e-6),
        ("20x", 0.5e-6),
        ("40x", 0.25e-6),
        ("0.3m", 0.3),
        ("30cm", 0.3),
        ("1.5e1 mm", 0.015),
    ],
)
def test_pixel_sizes_as_people_write_them(text: str, metres: float) -> None:
    assert PixelSize.parse(text).metres == pytest.approx(metres, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["", "0.5", "um", "0um", "0x", "-1um", "1.2.3um", "nanum", "infm", "0.5 inches", "1e999m"]
)
def test_what_is_no_pixel_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="pixel size"):
        PixelSize.parse(text)


@pytest.mark.parametrize("metres", [0.0, -1.0, math.nan, math.inf])
def test_a_pixel_has_a_positive_length(metres: float) -> None:
    with pytest.raises(InputError, match="positive length"):
        PixelSize(metres)


@given(st.floats(1e-9, 1e5))
def test_a_printed_pixel_size_reads_back(metres: float) -> None:
    size = PixelSize(metres)
    assert PixelSize.parse(str(size)).metres == pytest.approx(metres, rel=1e-5)


@given(st.floats(1e-9, 1e5), st.floats(1e-3, 1e3))
def test_ratio_counts_the_smaller_pixels(metres: float, factor: float) -> None:
    small, large = PixelSize(metres), PixelSize(metres * factor)
    assert large.ratio(small) == pytest.approx(factor)
    assert large.ratio(small) * small.ratio(large) == pytest.approx(1)


def test_sizes_agree_within_two_percent() -> None:
    assert PixelSize(0.5e-6).agrees(PixelSize(0.5047e-6))
    assert not PixelSize(0.5e-6).agrees(PixelSize(0.52e-6))
    assert PixelSize(0.5e-6).agrees(PixelSize(0.52e-6), tolerance=0.05)


def test_a_frame_starts_at_the_corner() -> None:
    assert Frame(3, 5, 1, "uint8").box == Box(0, 0, 3, 5)


@st.composite
def axes(draw: st.DrawFn) -> tuple[Span, ...]:
    """Cores that partition an axis, each in a window with its own halo."""
    edges, halo = [0], draw(st.integers(0, 3))
    for length in draw(st.lists(st.integers(1, 6), min_size=1, max_size=5)):
        edges.append(edges[-1] + length)
    return tuple(
        Span(max(start - halo, 0), min(stop + halo, edges[-1]), start, stop) for start, stop in pairwise(edges)
    )


lattices = st.builds(Lattice, axes(), axes())


@given(lattices)
def test_cores_of_a_partition_cover_each_pixel_once(lattice: Lattice) -> None:
    count = np.zeros(lattice.box.shape, int)
    for window in lattice:
        assert lattice.box.contains(window.box)
        assert window.box.contains(window.core)
        count[window.core.inside(lattice.box)] += 1
    assert (count == 1).all()
    assert not lattice.overlaps


@given(lattices)
def test_windows_are_numbered_row_by_row(lattice: Lattice) -> None:
    windows = list(lattice)
    assert [window.index for window in windows] == list(range(len(lattice)))
    assert [window.core for window in windows] == sorted(window.core for window in windows)
    assert [lattice.window(index) for index in range(len(lattice))] == windows


@given(lattices, boxes)
def test_meeting_lists_the_windows_whose_core_touches(lattice: Lattice, box: Box) -> None:
    assert lattice.meeting(box) == [window.index for window in lattice if window.core.meet(box).area]


def test_a_lattice_knows_its_overlap() -> None:
    overlapping = (Span(0, 4, 0, 4), Span(2, 6, 2, 6))
    assert Lattice((Span(0, 4, 0, 4),), overlapping, (0.5,) * 4).overlaps
    assert Lattice(overlapping, (Span(0, 4, 0, 4),)).box == Box(0, 0, 6, 4)


@pytest.mark.parametrize("span", [(0, 4, -1, 2), (0, 4, 2, 5), (0, 4, 3, 3), (0, 4, 3, 2)])
def test_a_core_lies_in_its_window(span: tuple[int, int, int, int]) -> None:
    with pytest.raises(GeometryError, match="leaves window"):
        Span(*span)
