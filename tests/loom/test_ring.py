"""Canvases that close upon themselves: no edge anywhere, in any order, and the lattice alone may break the symmetry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.loom.test_decode import Convolutions
from tests.loom.test_orders import HALO, PLANS, WIDE, noise, run, stages, whole

from patchloom.diffusion import samplers
from patchloom.errors import InputError
from patchloom.evaluation.estimates import Estimate
from patchloom.evaluation.seams import Borders, seams
from patchloom.fields.directory import DirectoryStore
from patchloom.fields.field import ArrayField, Field
from patchloom.fields.noise import Noise
from patchloom.fields.views import Around
from patchloom.geometry import Box, Frame
from patchloom.loom.decode import decode_field, latents_under, tiles
from patchloom.loom.denoise import Background
from patchloom.loom.keep import Kept, outside
from patchloom.loom.orders import weave_canvas, weave_down, weave_parts, weave_region
from patchloom.loom.plan import Plan
from patchloom.loom.ring import FLAT, Wrap, copies, periods
from patchloom.loom.run import Run
from patchloom.loom.workers import Workers
from patchloom.testing.fields import FieldLaws
from patchloom.testing.gaussian import FieldDenoiser, FlatScene, GaussianDenoiser, Means, SquaredExponential

WRAPS: dict[str, Wrap] = {"x": (False, True), "y": (True, False), "both": (True, True)}
FRAME = Frame(50, 43, 2, "float32")


def wrapped(plan: Plan, wrap: Wrap) -> Plan:
    return replace(plan, wrap=wrap)


def rolled(values: NDArray[Any], y: int, x: int) -> NDArray[Any]:
    return np.roll(values, (y, x), (-2, -1))


@dataclass(frozen=True)
class Rolled:
    """The noise of a run, moved round its torus."""

    y: int
    x: int

    def __call__(self, seed: int, stream: int, frame: Frame) -> Field:
        values = Noise(seed, stream, replace(frame, dtype="float32")).read(frame.box)
        return ArrayField(rolled(values, self.y, self.x))


class TestAroundIsAField(FieldLaws):
    bounded = False

    def field(self) -> Field:
        return Around(ArrayField(np.arange(2 * 12 * 9.0).reshape(2, 12, 9)), (12, 9))


@given(*[st.integers(-40, 40)] * 2, *[st.integers(1, 30)] * 2)
def test_around_repeats_what_is_there(y: int, x: int, height: int, width: int) -> None:
    plane = np.arange(7 * 5).reshape(1, 7, 5)
    found = Around(ArrayField(plane), (7, 5)).read(Box(y, x, height, width))
    np.testing.assert_array_equal(
        found[0], plane[0][np.arange(y, y + height)[:, None] % 7, np.arange(x, x + width) % 5]
    )


@given(*[st.integers(-30, 30)] * 2, *[st.integers(1, 25)] * 2, st.sampled_from([FLAT, *WRAPS.values()]))
def test_copies_of_a_region_are_where_it_comes_again(y: int, x: int, height: int, width: int, wrap: Wrap) -> None:
    region, box, period = Box(3, 2, 5, 9), Box(y, x, height, width), periods((20, 17), wrap)
    rows, cols = np.arange(y, y + height), np.arange(x, x + width)
    down = (rows % 20 if wrap[0] else rows)[:, None]
    across = (cols % 17 if wrap[1] else cols)[None]
    inside = (down >= 3) & (down < 8) & (across >= 2) & (across < 11)
    np.testing.assert_array_equal(outside(box, region, period), ~inside)
    assert sum(part.area for part in copies(region, box, period)) == inside.sum()


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("shape", [(50, 43), (48, 48), (7, 100), (1, 1)])
def test_cores_go_round_and_every_place_is_answered_for(plan: Plan, wrap: Wrap, shape: tuple[int, int]) -> None:
    for lattice in wrapped(plan, wrap).lattices(shape, [3.0, 0.5, 0.1]):
        assert lattice.box == Box(0, 0, *shape)
        counted = np.zeros(shape, int)
        for window in lattice:
            rows = np.arange(window.core.y, window.core.stop_y) % shape[0]
            cols = np.arange(window.core.x, window.core.stop_x) % shape[1]
            np.add.at(counted, (rows[:, None], cols), 1)
        assert counted.min() >= 1
        if plan.kind != "average":
            assert counted.max() == 1
        place = Box(shape[0] - 1, shape[1] // 2, 1, 1)
        direct = [window.index for window in lattice if any(copies(place, window.core, lattice.period))]
        assert lattice.meeting(place) == direct


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("sampler", ["dpmpp-2m", "ddpm"])
def test_windows_equal_the_whole_for_a_pointwise_denoiser(plan: Plan, wrap: Wrap, sampler: str) -> None:
    pointwise = GaussianDenoiser(variance=0.8)
    one = run(denoiser=pointwise, plan=wrapped(plan, wrap), stages=stages(sampler))
    start = one.stages[0].sigma * noise(one, 0)
    straight = samplers.run(pointwise, one.stages, start, Means.of(0.3), lambda number: noise(one, 1 + number))
    np.testing.assert_allclose(whole(one), straight[0].numpy(), atol=2e-5)


@pytest.mark.parametrize("plan", [replace(HALO, moving=False), Plan.of("average", 16, 6)], ids=["halo", "average"])
@pytest.mark.parametrize("sampler", ["dpmpp-2m", "ddpm"])
def test_rolled_noise_makes_the_rolled_image_where_the_lattice_permits(plan: Plan, sampler: str) -> None:
    """12 or 6 latents from core to core: a canvas of whole cores looks the same from each of them."""
    frame = Frame(48, 36, 2, "float32")
    one = run(plan=wrapped(plan, (True, True)), latents=frame, stages=stages(sampler))
    moved = replace(one, noise=Rolled(24, 12))
    np.testing.assert_allclose(whole(moved), rolled(whole(one), 24, 12), atol=1e-5)
    flat = replace(one, plan=wrapped(plan, FLAT))
    assert np.abs(whole(replace(flat, noise=Rolled(24, 12))) - rolled(whole(flat), 24, 12)).max() > 0.1


@pytest.mark.parametrize(
    ("plan", "wrap"),
    [*((plan, WRAPS["both"]) for plan in PLANS.values()), *((HALO, wrap) for wrap in WRAPS.values())],
)
def test_every_order_gives_the_same_bytes(plan: Plan, wrap: Wrap, tmp_path: Path) -> None:
    one = run(plan=wrapped(plan, wrap), stages=stages("ddpm", 3), batch=4)
    expected = whole(one)
    down = weave_down(one, keep=8)
    bands = [down.read(Box(y, 0, min(9, 50 - y), 43)) for y in range(0, 50, 9)]
    np.testing.assert_array_equal(np.concatenate(bands, axis=1), expected)
    parts = weave_parts(one)
    for box in (Box(40, 30, 10, 13), Box(0, 0, 1, 1), Box(17, 5, 20, 30), FRAME.box):
        np.testing.assert_array_equal(parts.read(box), expected[:, *box.inside(FRAME.box)])
    region = Box(3, 30, 10, 13)
    np.testing.assert_array_equal(weave_region(one, region).read(region), expected[:, *region.inside(FRAME.box)])
    with DirectoryStore(tmp_path / "store", {"seed": 5}) as store:
        np.testing.assert_array_equal(whole(one, store), expected)


class Stopped(Exception):  # noqa: N818 - not an error
    """The run was interrupted."""


def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    one = run(plan=wrapped(HALO, (True, True)))
    expected, told = whole(one), list[int]()

    def stop(done: int) -> None:
        told.append(done)
        if len(told) == 9:
            raise Stopped

    with DirectoryStore(tmp_path / "store", {}) as store, pytest.raises(Stopped):
        weave_canvas(one, store, stop)
    with DirectoryStore(tmp_path / "store", {}) as store:
        np.testing.assert_array_equal(whole(one, store), expected)


def test_memory_of_bands_does_not_grow_with_the_height() -> None:
    def alive(height: int) -> int:
        one = run(plan=wrapped(HALO, (True, True)), latents=Frame(height, 20, 2, "float32"), stages=stages(count=3))
        store = Peak()
        down = weave_down(one, store, keep=8)
        for y in range(0, height, 10):
            down.read(Box(y, 0, 10, 20))
        return store.most

    assert alive(1200) < 1.15 * alive(600)


@dataclass
class Peak:
    """A store that knows how many tiles it held at most."""

    most: int = 0

    def __post_init__(self) -> None:
        self.tiles: dict[tuple[str, int], NDArray[Any]] = {}

    def has(self, key: str, index: int) -> bool:
        return (key, index) in self.tiles

    def get(self, key: str, index: int) -> NDArray[Any] | None:
        return self.tiles.get((key, index))

    def put(self, key: str, index: int, tile: NDArray[Any]) -> None:
        self.tiles[key, index] = tile.copy()
        self.most = max(self.most, len(self.tiles))

    def drop(self, key: str) -> None:
        for place in [place for place in self.tiles if place[0] == key]:
            del self.tiles[place]


def joint(one: Run[Any]) -> Estimate:
    """The seam meter at the joined border: rolled by half, it lies in the middle."""
    frame = one.latents
    middle = Borders(frozenset([frame.height // 2]), frozenset([frame.width // 2]))
    found = seams(ArrayField(rolled(whole(one), frame.height // 2, frame.width // 2)), {"joint": middle}, 1)["joint"]
    assert isinstance(found, Estimate)
    return found


def test_the_joined_border_shows_no_seam_and_unjoined_edges_do() -> None:
    smooth = FieldDenoiser(SquaredExponential(3.0), SquaredExponential(3.0))
    one = run(denoiser=smooth, plan=Plan.of("halo", 32), latents=Frame(144, 144, 24, "float32"), batch=16)
    one = replace(one, scene=FlatScene(), stages=stages("dpmpp-2m", 10))
    closed = joint(replace(one, plan=wrapped(one.plan, (True, True))))
    assert closed.interval is not None
    assert closed.interval.low <= 1 <= closed.interval.high
    assert abs(closed.value - 1) < 0.06
    assert joint(one).value > 2


def test_a_canvas_smaller_than_a_window_is_seen_again_and_again() -> None:
    small = run(
        denoiser=GaussianDenoiser(), plan=wrapped(Plan.of("halo", 16), (True, True)), latents=Frame(5, 9, 2, "f4")
    )
    assert {window.box.shape for lattice in small.lattices for window in lattice} == {(16, 16)}
    assert np.isfinite(whole(small)).all()


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("reach", [3, None])
def test_decoding_equals_decoding_what_is_laid_round(wrap: Wrap, reach: int | None) -> None:
    latents = np.random.default_rng(0).standard_normal((4, 20, 26)).astype(np.float32)
    decoder = Convolutions(receptive_field=reach)
    made = decode_field(ArrayField(latents), decoder, tile=8, wrap=wrap).read(Box(0, 0, 20, 26).times(decoder.factor))
    laid = np.pad(latents, ((0, 0), *((10, 10) if joined else (0, 0) for joined in wrap)), mode="wrap")
    with torch.no_grad():
        straight = decoder.decode(torch.from_numpy(laid)[None])[0].numpy()
    place = Box(10 * wrap[0], 10 * wrap[1], 20, 26).times(decoder.factor)
    expected = straight[:, place.y : place.stop_y, place.x : place.stop_x].astype(int)
    if reach is not None:
        np.testing.assert_array_equal(made, expected)
    else:  # tiles that fade into one another see no halo: a difference inside, and none that is larger at the edges
        off = np.abs(made - expected).mean(0)
        middle = off[8:-8, 8:-8].mean()
        assert all(
            not joined or edge.mean() < 1.5 * middle for joined, edge in ((wrap[0], off[:4]), (wrap[1], off[:, :4]))
        )


@pytest.mark.parametrize("reach", [3, None])
def test_the_latents_under_pixels_at_an_edge_go_over_it(reach: int | None) -> None:
    lattice = tiles((64, 64), reach, 16, (True, True))
    under = latents_under(lattice, Box(0, 0, 8, 8), 8)
    assert under.y < 0 > under.x
    assert under.contains(Box(-1, -1, 17, 17))


def test_an_edit_at_the_joined_border_leaves_the_rest_and_is_seen_across() -> None:
    earlier = ArrayField(np.random.default_rng(3).standard_normal((2, 50, 43)).astype(np.float32))
    region = Box(0, 5, 9, 20)
    one = run(plan=wrapped(HALO, (True, True)), kept=Kept(earlier, region), seed=8)
    made = whole(one)
    places = outside(FRAME.box, region)
    np.testing.assert_array_equal(made[:, places], earlier.array[:, places])
    other = replace(one, kept=Kept(ArrayField(rolled_bottom(earlier.array)), region))
    assert np.abs(whole(other) - made)[:, ~places].max() > 1e-3, "what lies below the lower edge is seen from the top"


def rolled_bottom(values: NDArray[Any]) -> NDArray[Any]:
    changed = values.copy()
    changed[:, -3:] += 2
    return changed


def test_background_is_looked_for_over_the_border() -> None:
    asked: list[Box] = []

    def covers(box: Box) -> bool:
        asked.append(box)
        return True

    one = run(plan=wrapped(HALO, (True, True)), background=Background(np.zeros(2, np.float32), covers))
    np.testing.assert_array_equal(whole(one), whole(replace(one, background=None)))
    assert any(box.y < 0 or box.stop_x > 43 for box in asked)


def works_of_a_ring(number: int) -> Any:
    from patchloom.loom.run import works

    return works(run(plan=wrapped(HALO, (True, True))))


def test_workers_make_the_same_bytes() -> None:
    one = run(plan=wrapped(HALO, (True, True)))
    with Workers(1, works_of_a_ring) as crew:
        np.testing.assert_array_equal(weave_canvas(one, crew=crew).read(FRAME.box), whole(one))


def test_the_small_engine_refuses_a_ring() -> None:
    from patchloom.diffusion.windows import windowed

    lattice = wrapped(HALO, (True, False)).lattices((20, 20), [1.0])[0]
    with pytest.raises(InputError, match="made by the loom"):
        windowed(WIDE, lattice)(torch.zeros(1, 2, 20, 20), torch.ones(1), FlatScene())
