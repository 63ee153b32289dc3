"""An edit leaves what lies outside its region as it was, to the bit, and asks the network about the region alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.loom.test_orders import FRAME, PLANS, Counting, left_half, run, stages, whole

from patchloom.diffusion.samplers import SAMPLERS
from patchloom.errors import GeometryError
from patchloom.fields.field import ArrayField, Field
from patchloom.fields.noise import Noise
from patchloom.fields.stores import MemoryStore
from patchloom.geometry import Box, Frame
from patchloom.loom.denoise import Background
from patchloom.loom.figures import cone
from patchloom.loom.keep import Kept, Noised, Patched, outside
from patchloom.loom.orders import weave_canvas, weave_down, weave_parts, weave_region
from patchloom.loom.plan import Plan
from patchloom.testing.fields import FieldLaws
from patchloom.testing.gaussian import FieldDenoiser, FlatScene, GaussianDenoiser, SquaredExponential

REGION = Box(21, 9, 14, 17)
EARLIER = ArrayField(np.random.default_rng(3).standard_normal((2, 50, 43)).astype(np.float32))
KEPT = Kept(EARLIER, REGION)


class TestPatchedIsAField(FieldLaws):
    def field(self) -> Field:
        return Patched(ArrayField(np.zeros((2, 50, 43), np.float32)), KEPT)


class TestNoisedIsAField(FieldLaws):
    bounded = False

    def field(self) -> Field:
        return Noised(Noise(1, 0, FRAME), Kept(ArrayField(np.ones((2, 50, 43), np.float32)), REGION))


@given(*[st.integers(0, 40)] * 2, *[st.integers(1, 9)] * 2)
def test_outside_is_the_complement_of_the_region(y: int, x: int, height: int, width: int) -> None:
    box, plane = Box(y, x, height, width), np.ones((60, 60), bool)
    plane[REGION.inside(Box(0, 0, 60, 60))] = False
    np.testing.assert_array_equal(outside(box, REGION), plane[box.inside(Box(0, 0, 60, 60))])


@pytest.mark.parametrize(
    ("plan", "sampler"),
    [*((plan, "dpmpp-2m") for plan in PLANS.values()), *((PLANS["halo"], sampler) for sampler in SAMPLERS)],
)
def test_latents_outside_the_region_are_equal_bit_for_bit(plan: Plan, sampler: str) -> None:
    one = run(plan=plan, stages=stages(sampler, 3), kept=KEPT, seed=8)
    made = whole(one)
    places = outside(FRAME.box, REGION)
    if plan.kind != "average":  # blending rounds, and the patch puts the earlier latents back
        np.testing.assert_array_equal(made[:, places], EARLIER.array[:, places])
    np.testing.assert_allclose(made[:, places], EARLIER.array[:, places], atol=1e-5)
    assert np.abs(made[:, ~places] - EARLIER.array[:, ~places]).mean() > 0.1


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_region_is_the_crop_of_the_whole(plan: Plan) -> None:
    for one in (run(plan=plan), run(plan=plan, kept=KEPT), run(plan=plan, stages=stages("ddpm", 4))):
        made = weave_region(one, REGION).read(REGION)
        np.testing.assert_array_equal(made, whole(one)[:, *REGION.inside(FRAME.box)])


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_region_evaluates_its_cone_and_tells_it(plan: Plan) -> None:
    counting, told = Counting(), list[int]()
    one = run(plan=plan, denoiser=counting, batch=1)
    weave_region(one, REGION, progress=told.append).read(REGION)
    expected = sum(map(len, cone(one.lattices, REGION)))
    assert len(counting.shapes) == sum(told) == expected < sum(map(len, one.lattices))


def test_every_order_makes_the_same_edit() -> None:
    one = run(kept=KEPT)
    expected = whole(one)
    np.testing.assert_array_equal(weave_down(one).read(FRAME.box), expected)
    np.testing.assert_array_equal(weave_parts(one).read(FRAME.box), expected)
    np.testing.assert_array_equal(Patched(weave_region(one, REGION), KEPT).read(FRAME.box), expected)


def test_only_windows_whose_core_touches_the_region_are_evaluated() -> None:
    counting = Counting()
    one = run(denoiser=counting, kept=KEPT, batch=1)
    weave_canvas(one)
    touching = [w for lattice in one.lattices for w in lattice if w.core.meet(REGION).area]
    assert len(counting.shapes) == len(touching) < sum(map(len, one.lattices)) / 2


def test_an_edit_of_everything_is_a_run_of_its_own() -> None:
    np.testing.assert_array_equal(whole(run(kept=Kept(EARLIER, FRAME.box))), whole(run()))


def test_background_inside_the_region_is_background_and_outside_it_is_kept() -> None:
    background = Background(np.array([3.0, -1.0], np.float32), left_half)
    region = Box(10, 20, 20, 23)
    made = whole(run(background=background, kept=Kept(EARLIER, region)))
    np.testing.assert_allclose(made[:, 10:30, 36:], np.broadcast_to([[[3.0]], [[-1.0]]], (2, 20, 7)), atol=1e-5)
    places = outside(FRAME.box, region)
    np.testing.assert_array_equal(made[:, places], EARLIER.array[:, places])


def test_an_edit_continues_what_lies_around_it() -> None:
    """What is new joins what is kept; samplers that add noise forget the first steps' mismatch and join better."""
    smooth = FieldDenoiser(SquaredExponential(3.0), SquaredExponential(3.0))
    frame, region = Frame(48, 48, 8, "float32"), Box(20, 0, 8, 48)
    one = run(
        denoiser=smooth, plan=Plan.of("halo", 48), latents=frame, stages=stages("dpmpp-2m-sde", 14), scene=FlatScene()
    )
    earlier = ArrayField(whole(one))
    joined = whole(replace(one, seed=99, kept=Kept(earlier, region)))

    def edge(image: NDArray[Any]) -> float:
        return float(np.abs(image[:, 20] - image[:, 19]).mean() / np.abs(np.diff(image[:, :20], axis=1)).mean())

    pasted = earlier.array.copy()
    pasted[:, 20:28] = whole(replace(one, seed=99))[:, 20:28]
    assert edge(joined) < 1.25
    assert edge(pasted) > 3, "the meter must be able to see an edge"


def test_a_pointwise_denoiser_makes_inside_what_it_makes_without_an_edit() -> None:
    one = run(denoiser=GaussianDenoiser())
    inside = REGION.inside(FRAME.box)
    np.testing.assert_array_equal(whole(replace(one, kept=KEPT))[:, *inside], whole(one)[:, *inside])


def test_finished_regions_leave_no_earlier_state_behind() -> None:
    store = MemoryStore()
    weave_region(run(), REGION, store)
    assert {key.split("/")[0] for key, _ in store._tiles} == {f"meeting-{len(run().lattices) - 1:04d}"}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(GeometryError, match="does not lie inside the canvas of 50 x 43 latents"):
        Kept(EARLIER, Box(40, 0, 11, 5))
    with pytest.raises(GeometryError, match="does not lie inside"):
        Kept(EARLIER, Box(4, 4, 0, 5))
    with pytest.raises(GeometryError, match="the run keeps"):
        run(kept=Kept(ArrayField(np.zeros((2, 50, 44), np.float32)), REGION))
