"""The difference that guidance carries travels with the canvas: the loom equals the small engine, in every order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.loom.test_keep import EARLIER, KEPT
from tests.loom.test_orders import FRAME, HALO, Counting, left_half, noise, run, stages, whole

from patchloom.diffusion import samplers
from patchloom.diffusion.guidance_sparse import Sparse
from patchloom.loom.denoise import Background
from patchloom.loom.keep import outside
from patchloom.loom.orders import weave_down
from patchloom.loom.run import Run, figures
from patchloom.testing.gaussian import GaussianDenoiser, Means


def sparse(one: Run[Means], every: int = 2) -> Run[Means]:
    how = Sparse.of(one.stages, 2.5, every)
    return replace(one, denoiser=how.denoiser(one.denoiser), stages=how.stages(one.stages), evaluations=how.evaluations)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp-2m", "heun", "ddpm"])
def test_the_loom_equals_the_small_engine(sampler: str) -> None:
    """Of a pointwise denoiser, for which windows are the whole."""
    one = sparse(run(denoiser=GaussianDenoiser(0.5, 1.5), stages=stages(sampler)))
    start = one.stages[0].sigma * noise(one, 0)
    straight = samplers.run(one.denoiser, one.stages, start, Means.of(0.3), lambda number: noise(one, 1 + number))
    np.testing.assert_allclose(whole(one), straight[0].numpy(), atol=5e-5)


def test_bands_and_meetings_of_two_steps_give_the_same() -> None:
    one = sparse(run(denoiser=GaussianDenoiser(0.5, 1.5)))
    np.testing.assert_array_equal(weave_down(one, keep=8).read(FRAME.box), whole(one))
    together = replace(one, plan=replace(HALO, sync=2))
    np.testing.assert_allclose(whole(together), whole(one), atol=5e-5)


def test_what_is_kept_stays_and_background_is_not_guided() -> None:
    made = whole(sparse(run(denoiser=GaussianDenoiser(0.5, 1.5), kept=KEPT, seed=8)))
    places = outside(FRAME.box, KEPT.region)
    np.testing.assert_array_equal(made[:, places], EARLIER.array[:, places])
    background = Background(np.array([3.0, -1.0], np.float32), left_half)
    flat = whole(sparse(run(denoiser=GaussianDenoiser(0.5, 1.5), background=background)))
    np.testing.assert_allclose(flat[0, :, 40:], 3.0, atol=1e-4)


def test_evaluations_are_counted() -> None:
    counting = Counting()
    one = sparse(run(denoiser=counting, batch=1), every=3)
    whole(one)
    assert figures(one, 8).network_evaluations == sum(shape[0] for shape in counting.shapes)
