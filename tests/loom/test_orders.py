"""The loom's laws, with exact Gaussian denoisers: it equals the small engine, in any order, after any interruption."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchloom.diffusion import samplers
from patchloom.diffusion.levels import karras
from patchloom.diffusion.stage import Stage
from patchloom.diffusion.windows import windowed
from patchloom.errors import GeometryError, InputError
from patchloom.fields.directory import DirectoryStore
from patchloom.fields.field import ArrayField
from patchloom.fields.noise import Noise
from patchloom.fields.stores import MemoryStore, Store
from patchloom.geometry import Box, Frame
from patchloom.loom.denoise import Background
from patchloom.loom.figures import guided_evaluations
from patchloom.loom.orders import weave_canvas, weave_down, weave_parts
from patchloom.loom.plan import Plan, Sizes
from patchloom.loom.run import Run, figures
from patchloom.testing.gaussian import FieldDenoiser, FlatScene, GaussianDenoiser, Means, SquaredExponential

FRAME = Frame(50, 43, 2, "float32")
WIDE = FieldDenoiser(SquaredExponential(6.0), SquaredExponential(4.0))  # its answer depends on the window
HALO = Plan.of("halo", 16)
PLANS = {
    "halo": HALO,
    "fixed": replace(HALO, moving=False),
    "shift": Plan.of("shift", 16),
    "average": Plan.of("average", 16, 6),
    "gaussian": replace(Plan.of("average", 16, 6), profile="gaussian"),
    "two sizes": Plan("halo", (Sizes(1.0, 32, 28), Sizes(0.0, 16, 12))),
}
SAMPLERS = ["euler", "dpmpp-2m", "heun", "ddpm", "dpmpp-2m-sde", "unipc"]


def stages(name: str = "dpmpp-2m", count: int = 5) -> list[Stage]:
    return samplers.SAMPLERS[name](karras(count, 0.02, 20))


def run(**changes: Any) -> Run[Means]:
    usual = Run(WIDE, stages(), FlatScene(0.3), HALO, FRAME, seed=5, batch=4)
    return replace(usual, **changes)


def whole(one: Run[Means], store: Store | None = None) -> NDArray[Any]:
    return weave_canvas(one, store).read(one.latents.box)


def noise(one: Run[Means], stream: int) -> Tensor:
    return torch.from_numpy(Noise(one.seed, stream, one.latents).read(one.latents.box))[None]


def small_engine(one: Run[Means]) -> NDArray[Any]:
    """The sampler's own loop on the windowed denoiser of a whole canvas, with each stage's lattice."""
    lattices = iter(one.lattices)

    def denoiser(x: Tensor, sigma: Tensor, condition: FlatScene) -> Tensor:
        return windowed(one.denoiser, next(lattices))(x, sigma, condition)

    assert isinstance(one.scene, FlatScene)
    start = one.stages[0].sigma * noise(one, 0)
    answer = samplers.run(denoiser, one.stages, start, one.scene, lambda number: noise(one, 1 + number))
    return np.asarray(answer[0].numpy())


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("sampler", ["euler", "ddpm"])
def test_one_step_a_stage_equals_the_sampler_on_the_windowed_denoiser(plan: Plan, sampler: str) -> None:
    one = run(plan=plan, stages=stages(sampler))
    np.testing.assert_allclose(whole(one), small_engine(one), atol=2e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_s_state_travels_between_lattices(sampler: str) -> None:
    one = run(stages=stages(sampler))
    np.testing.assert_allclose(whole(one), small_engine(one), atol=2e-5)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("sampler", ["dpmpp-2m", "ddpm"])
def test_windows_equal_the_whole_for_a_pointwise_denoiser(plan: Plan, sampler: str) -> None:
    pointwise = GaussianDenoiser(variance=0.8)
    one = run(denoiser=pointwise, plan=plan, stages=stages(sampler))
    start = one.stages[0].sigma * noise(one, 0)
    straight = samplers.run(pointwise, one.stages, start, Means.of(0.3), lambda number: noise(one, 1 + number))
    np.testing.assert_allclose(whole(one), straight[0].numpy(), atol=2e-5)


def test_a_pointwise_denoiser_shows_no_seam_and_a_fixed_lattice_of_windows_does() -> None:
    def seam(denoiser: Any, plan: Plan) -> float:
        one = run(denoiser=denoiser, plan=plan, latents=Frame(240, 240, 2, "float32"), batch=32)
        steps = np.abs(np.diff(whole(one), axis=1)).mean((0, 2))
        lines = np.array([span.core_start for span in one.lattices[-1].rows[1:]]) - 1
        return float(steps[lines].mean() / np.delete(steps, lines).mean())

    assert abs(seam(GaussianDenoiser(), HALO) - 1) < 0.03
    assert seam(WIDE, replace(PLANS["shift"], moving=False)) > 1.3, "the meter must be able to see a seam"


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("sampler", ["dpmpp-2m", "ddpm"])
def test_every_order_gives_the_same_bytes(plan: Plan, sampler: str, tmp_path: Path) -> None:
    one = run(plan=plan, stages=stages(sampler, 4), batch=2)
    expected = whole(one)
    down = weave_down(one, keep=8)
    bands = [down.read(Box(y, 0, min(9, 50 - y), 43)) for y in range(0, 50, 9)]
    np.testing.assert_array_equal(np.concatenate(bands, axis=1), expected)
    parts = weave_parts(one)
    for box in (Box(40, 30, 10, 13), Box(0, 0, 1, 1), Box(17, 5, 20, 30), FRAME.box):
        np.testing.assert_array_equal(parts.read(box), expected[:, *box.inside(FRAME.box)])
    with DirectoryStore(tmp_path / "store", {"seed": 5}) as store:
        np.testing.assert_array_equal(whole(one, store), expected)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_no_order_evaluates_a_window_twice(plan: Plan) -> None:
    expected = figures(run(plan=plan), factor=8).windows
    straight, going_down, parts = Counting(), Counting(), Counting()
    whole(run(plan=plan, denoiser=straight, batch=1))
    down = weave_down(run(plan=plan, denoiser=going_down, batch=1), keep=0)
    cones = weave_parts(run(plan=plan, denoiser=parts, batch=1))
    for y in range(0, 50, 7):
        down.read(Box(y, 0, min(7, 50 - y), 43))
        cones.read(Box(49 - y, 0, 1, 43))
    cones.read(FRAME.box)
    assert [len(one.shapes) for one in (straight, going_down, parts)] == [expected] * 3


def test_a_reader_that_goes_up_again_is_answered_too() -> None:
    down = weave_down(run(batch=1), keep=0)
    first = down.read(Box(0, 0, 10, 43))
    down.read(Box(30, 0, 20, 43))
    np.testing.assert_array_equal(down.read(Box(0, 0, 10, 43)), first)


@dataclass
class Counting:
    """Notes the shape of every batch, and fails at the n-th if told to."""

    denoiser: FieldDenoiser = WIDE
    fails_at: int = -1
    shapes: list[torch.Size] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Means) -> Tensor:
        self.shapes.append(x.shape)
        assert len(condition) == len(sigma) == len(x)
        if len(self.shapes) == self.fails_at:
            raise InterruptedError("stopped by the test")
        return self.denoiser(x, sigma, condition)


@pytest.mark.parametrize("fails_at", [1, 2, 7, 11, 17, 23])
def test_an_interrupted_run_resumes_to_the_same_bytes_and_evaluates_nothing_twice(
    tmp_path: Path, fails_at: int
) -> None:
    expected, counting = whole(run()), Counting()
    whole(run(denoiser=counting))
    with DirectoryStore(tmp_path / "s", {}) as store, pytest.raises(InterruptedError):
        whole(run(denoiser=Counting(fails_at=fails_at)), store)
    again, told = Counting(), list[int]()
    with DirectoryStore(tmp_path / "s", {}) as store:
        made = weave_canvas(run(denoiser=again), store, told.append)
        np.testing.assert_array_equal(made.read(FRAME.box), expected)
    assert len(again.shapes) <= len(counting.shapes) - (fails_at - 1) + 1  # one more tail at most
    assert sum(told) == sum(map(len, run().lattices))


def test_a_run_that_was_interrupted_between_two_bands_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    expected = whole(run(batch=1))
    for fails_at in (9, 20, 30, 10**9):
        with DirectoryStore(tmp_path / "s", {}) as store:
            down = weave_down(run(denoiser=Counting(fails_at=fails_at), batch=1), store)
            if fails_at < 100:
                with pytest.raises(InterruptedError):
                    down.read(FRAME.box)
            else:
                np.testing.assert_array_equal(down.read(FRAME.box), expected)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.loom.test_orders import WIDE, Counting, run, whole
from patchloom.fields.directory import DirectoryStore

class Deadly(Counting):
    def __call__(self, x, sigma, condition):
        if len(self.shapes) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(x, sigma, condition)

with DirectoryStore(Path(sys.argv[1]), {"seed": 5}) as store:
    whole(run(denoiser=Deadly()), store)
"""


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "s"), "13"]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root, check=False).returncode == -signal.SIGKILL
    with DirectoryStore(tmp_path / "s", {"seed": 5}) as store:
        np.testing.assert_array_equal(whole(run(), store), whole(run()))


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    np.testing.assert_array_equal(whole(run()), whole(run()))
    assert not np.array_equal(whole(run(seed=6)), whole(run()))


def test_batches_have_one_shape_and_windows_their_place_in_them_does_not_matter() -> None:
    counting = Counting()
    one = run(denoiser=counting, batch=7)
    made = whole(one)
    assert set(counting.shapes) == {torch.Size((7, 2, 16, 16))}
    np.testing.assert_allclose(made, whole(run(batch=3)), atol=1e-5)


def test_states_are_dropped_when_the_next_is_whole(tmp_path: Path) -> None:
    alive: list[int] = []

    @dataclass(slots=True)
    class Watched(MemoryStore):
        def put(self, key: str, index: int, tile: NDArray[Any]) -> None:
            MemoryStore.put(self, key, index, tile)
            alive.append(self.nbytes)

    one = run(stages=stages("euler", 6))
    whole(one, Watched())
    state = FRAME.channels * FRAME.height * FRAME.width * 4
    assert max(alive) <= 2 * state
    assert alive[-1] == max(alive)


def test_going_down_the_picture_memory_does_not_grow_with_the_height() -> None:
    def peak(height: int) -> int:
        alive = 0

        @dataclass(slots=True)
        class Watched(MemoryStore):
            def put(self, key: str, index: int, tile: NDArray[Any]) -> None:
                nonlocal alive
                MemoryStore.put(self, key, index, tile)
                alive = max(alive, self.nbytes)

        one = run(denoiser=GaussianDenoiser(), latents=Frame(height, 40, 2, "float32"), batch=2)
        down = weave_down(one, Watched(), keep=8)
        for y in range(0, height, 10):
            down.read(Box(y, 0, 10, 40))
        return alive

    assert peak(800) <= 1.1 * peak(400)
    assert peak(400) < 400 * 40 * 2 * 4 * 5 / 2  # half of five whole states


def test_sync_runs_stages_inside_a_window_before_neighbours_meet() -> None:
    one = run(plan=replace(HALO, sync=2), stages=stages("ddpm", 5))
    assert [len(some) for some in one.meetings] == [2, 2, 1]
    x = one.stages[0].sigma * noise(one, 0)
    for number, (lattice, some) in enumerate(zip(one.lattices, one.meetings, strict=True)):
        out = torch.zeros_like(x)
        for window in lattice:
            seen = window.box.inside(FRAME.box)
            alone = samplers.run(
                one.denoiser,
                some,
                x[..., *seen],
                Means.of(0.3),
                lambda k, seen=seen, first=2 * number: noise(one, 1 + first + k)[..., *seen],  # type: ignore[misc]
            )
            out[..., *window.core.inside(FRAME.box)] = alone[..., *window.core.inside(window.box)]
        x = out
    np.testing.assert_allclose(whole(one), x[0].numpy(), atol=2e-5)


def test_sync_does_not_matter_to_a_pointwise_denoiser() -> None:
    one = run(denoiser=GaussianDenoiser(), stages=stages("dpmpp-2m-sde", 6))
    for sync in (2, 3, 6, 9):
        np.testing.assert_allclose(whole(replace(one, plan=replace(HALO, sync=sync))), whole(one), atol=1e-5)


def left_half(box: Box) -> bool:
    return box.x < 20


def test_windows_without_a_valid_cell_are_background_and_cost_nothing() -> None:
    counting = Counting()
    background = Background(np.array([3.0, -1.0], np.float32), left_half)
    one = run(denoiser=counting, background=background, batch=1)
    made = whole(one)
    np.testing.assert_allclose(made[:, :, 36:], np.broadcast_to([[[3.0]], [[-1.0]]], (2, 50, 7)), atol=1e-5)
    assert made[:, :, :20].std() > 0.1
    counted = figures(one, factor=8)
    assert len(counting.shapes) == counted.windows
    assert counted.windows + counted.background_windows == sum(map(len, one.lattices))
    assert 0 < counted.background_windows < counted.windows * 2


def test_figures_count_what_is_evaluated() -> None:
    counting = Counting()
    one = run(denoiser=counting, batch=1)
    counted = figures(one, factor=8)
    whole(one)
    assert counted.windows == counted.network_evaluations == len(counting.shapes)
    assert counted.canvas_px == (400, 344)
    assert counted.evaluations_per_block == pytest.approx(counted.windows / (400 * 344 / 65536))
    shown = sum(shape[-2] * shape[-1] for shape in counting.shapes)
    assert counted.evaluations_per_latent == pytest.approx(shown / (50 * 43))


def test_figures_of_a_region_count_its_cone() -> None:
    counting = Counting()
    one = run(denoiser=counting, batch=1)
    box = Box(20, 8, 6, 7)
    counted = figures(one, factor=8, region=box)
    weave_parts(one).read(box)
    assert counted.windows == len(counting.shapes) < figures(one, factor=8).windows


def test_guidance_counts_twice_inside_its_interval() -> None:
    one = run(stages=stages("euler", 6), evaluations=guided_evaluations(3.0, (0.1, 5.0)))
    levels = [float(sigma) for sigma in karras(6, 0.02, 20)]
    expected = sum(len(lattice) * (2 if 0.1 < s <= 5 else 1) for lattice, s in zip(one.lattices, levels, strict=True))
    assert figures(one, factor=8).network_evaluations == expected
    assert guided_evaluations(1.0)(2.0) == 1
    assert guided_evaluations(2.0)(2.0) == 2


def test_the_default_plan_s_figures_are_design_s() -> None:
    one = run(plan=Plan.of("halo", 32), stages=stages("euler", 14), latents=Frame(128, 128, 2, "float32"))
    assert round(figures(one, factor=8).evaluations_per_block) == 31
    paper = replace(one, plan=Plan.of("average", 32), stages=stages("euler", 50), evaluations=guided_evaluations(2.0))
    assert int(figures(paper, factor=8).evaluations_per_block) == 1056
    assert figures(paper, factor=8).evaluations_per_latent == figures(paper, factor=8).evaluations_per_block


def test_figures_of_one_window_count_its_evaluations_once_a_latent() -> None:
    one = run(plan=Plan.of("halo", 128), stages=stages("euler", 10), latents=Frame(128, 128, 2, "float32"))
    assert figures(one, factor=8).evaluations_per_latent == 10
    assert figures(one, factor=8).evaluations_per_block == pytest.approx(10 / 16)


def test_a_run_starts_from_a_given_image() -> None:
    start = np.random.default_rng(0).standard_normal((2, 50, 43)).astype(np.float32)
    one = run(start=ArrayField(start), stages=samplers.euler([1.0]), denoiser=GaussianDenoiser())
    np.testing.assert_allclose(whole(one), 0.3 + (start - 0.3) / 2, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (17, 16), (100, 3), (16, 16)])
def test_canvases_of_any_shape(shape: tuple[int, int]) -> None:
    one = run(latents=Frame(*shape, 2, "float32"), stages=stages("euler", 3))
    np.testing.assert_allclose(whole(one), small_engine(one), atol=2e-5)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="at least one stage"):
        run(stages=[])
    with pytest.raises(InputError, match="batch"):
        run(batch=0)
    with pytest.raises(GeometryError, match="starts from"):
        run(start=ArrayField(np.zeros((2, 50, 44), np.float32)))


@dataclass
class Sequenced:
    """A scene whose mean is the window's own place: what a condition may depend on."""

    asked: list[Box] = field(default_factory=list)

    def condition(self, boxes: Sequence[Box]) -> Means:
        self.asked += boxes
        return Means.of(*[float(box.y) for box in boxes])


def test_each_window_is_told_its_own_condition() -> None:
    scene = Sequenced()
    last = samplers.euler([1e-3, 1e-4])[-1:]
    certain = GaussianDenoiser(variance=0.0)
    one = run(scene=scene, denoiser=certain, stages=last)
    made = whole(one)
    for window in one.lattices[0]:
        np.testing.assert_allclose(made[:, *window.core.inside(FRAME.box)], window.box.y)
    assert set(scene.asked) == {window.box for window in one.lattices[0]}
