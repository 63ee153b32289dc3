"""Two scales of one Gaussian field: windows of the fine one follow the coarse one, and so know what is beyond them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from patchloom.diffusion.denoiser import Denoiser
from patchloom.diffusion.levels import karras
from patchloom.diffusion.measured import measured
from patchloom.diffusion.samplers import dpmpp_2m
from patchloom.errors import GeometryError
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box, Frame
from patchloom.loom.measured import MeasuredScene
from patchloom.loom.orders import weave_canvas, weave_down
from patchloom.loom.plan import Plan
from patchloom.loom.run import Run
from patchloom.testing.gaussian import Exponential, FieldDenoiser, FlatScene, Kernel, Matrix, Means

FACTOR, CANVAS, DRAWS = 4, (8, 96), 128
KY, KX = Exponential(8.0), Exponential(30.0)
STAGES = dpmpp_2m(karras(20, 0.02, 40.0))
FIELD: Denoiser[Means] = FieldDenoiser(KY, KX)


@dataclass(frozen=True)
class OfBlocks:
    """The covariance of the means of blocks that lie side by side, of which the distance is counted."""

    kernel: Kernel

    def __call__(self, distance: Matrix) -> Matrix:
        places = np.arange(FACTOR)
        apart = np.abs(distance[..., None, None] * FACTOR + places[:, None] - places)
        return np.asarray(self.kernel(apart).mean((-1, -2)), np.float64)


def coarse_run() -> Run[Means]:
    """Every channel is a draw of its own. One window overlooks the whole of it."""
    height, width = (side // FACTOR for side in CANVAS)
    coarse = FieldDenoiser(OfBlocks(KY), OfBlocks(KX))
    return Run(coarse, STAGES, FlatScene(), Plan.of("halo", width), Frame(height, width, DRAWS, "float32"), seed=7)


@cache
def coarse() -> NDArray[np.float32]:
    """The coarse field."""
    made = weave_canvas(coarse_run())
    return np.asarray(made.read(made.frame.box), np.float32)


def fine(steps: int | None) -> NDArray[np.float32]:
    """The fine field in windows of 16, told the coarse one; None leaves it untold."""
    frame, plan = Frame(*CANVAS, DRAWS, "float32"), Plan.of("halo", 16, 10)
    if steps is None:
        made = weave_canvas(Run(FIELD, STAGES, FlatScene(), plan, frame, seed=8))
    else:
        scene = MeasuredScene(FlatScene(), ArrayField(coarse()), CANVAS, FACTOR)
        made = weave_canvas(Run(measured(FIELD, steps=steps), STAGES, scene, plan, frame, seed=8))
    return np.asarray(made.read(made.frame.box), np.float32)


def covariance(values: NDArray[np.float32], apart: int) -> tuple[float, float]:
    """Across, `apart` latents from one another: the mean, and its deviation, over independent draws."""
    each = (values[..., : values.shape[2] - apart] * values[..., apart:]).mean((1, 2))
    return float(each.mean()), float(each.std() / np.sqrt(len(each)))


def downsampled(values: NDArray[np.float32]) -> NDArray[np.float64]:
    height, width = (side // FACTOR for side in CANVAS)
    return np.asarray(values.reshape(-1, height, FACTOR, width, FACTOR).mean((2, 4)), np.float64)


@pytest.fixture(scope="module")
def followed() -> NDArray[np.float32]:
    return fine(1)


def test_downsampling_the_fine_gives_the_coarse(followed: NDArray[np.float32]) -> None:
    """All but blocks that a border of two cores cuts: halves of two windows, whose means agree to what is left."""
    error = np.abs(downsampled(followed) - coarse())
    assert float(np.quantile(error, 0.6)) < 1e-5
    assert float(error.max()) < 0.02


@pytest.mark.parametrize("apart", [0, 1, 16, 40, 64])
def test_covariance_within_its_interval(followed: NDArray[np.float32], apart: int) -> None:
    found, deviation = covariance(followed, apart)
    wanted = float(KX(np.array([float(apart)]))[0])
    assert abs(found - wanted) < 3 * deviation + 0.01  # of the solver, 1 %


def test_untold_windows_know_nothing_beyond_them() -> None:
    found, deviation = covariance(fine(None), 40)
    assert found + 3 * deviation < 0.6 * float(KX(np.array([40.0]))[0])


def test_texture_is_the_field_s(followed: NDArray[np.float32]) -> None:
    """Energy of neighbour differences over its true value: replaced means alone add some, a step takes it away."""
    truth = 2 * (1 - float(KX(np.ones(1))[0]))
    plain, stepped = (float((np.diff(one, axis=2) ** 2).mean()) / truth for one in (fine(0), followed))
    assert 1.02 < plain < 1.25
    assert abs(stepped - 1) < 0.09
    assert stepped < plain


def test_any_order_gives_the_same() -> None:
    frame = Frame(32, 24, 2, "float32")
    values = np.random.default_rng(0).standard_normal((2, 8, 6)).astype(np.float32)
    scene = MeasuredScene(FlatScene(), ArrayField(values), (32, 24), FACTOR)
    run = Run(measured(FIELD), STAGES[-4:], scene, Plan.of("halo", 12, 7), frame, seed=3, batch=4)
    one, other = (order(run).read(frame.box) for order in (weave_canvas, weave_down))
    assert np.array_equal(one, other)


def test_values_lie_where_the_blocks_do() -> None:
    """Of pixels, two a latent: the means of a plane are those that the scene reads of its coarse picture."""
    plane = np.random.default_rng(0).standard_normal((1, 24, 36)).astype(np.float32)
    coarser = plane.reshape(1, 8, 3, 12, 3).mean((2, 4))
    scene = MeasuredScene(FlatScene(), ArrayField(coarser), (12, 18), 3, per_latent=2)
    for box in (Box(0, 0, 6, 9), Box(1, 2, 6, 9), Box(5, 8, 6, 9)):
        known = scene.condition([box]).known
        seen = torch.from_numpy(plane[:, 2 * box.y : 2 * box.stop_y, 2 * box.x : 2 * box.stop_x])[None]
        assert float(known.missing(seen).abs().max()) < 1e-5
        assert bool(known.rows.any())


def test_a_picture_of_another_size() -> None:
    with pytest.raises(GeometryError, match="does not show a canvas of 18 x 12"):
        MeasuredScene(FlatScene(), ArrayField(np.zeros((1, 4, 5), np.float32)), (12, 18), 3)
