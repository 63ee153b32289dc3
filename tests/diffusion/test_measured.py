"""Denoisers held to a coarser picture: the means are kept to the bit of rounding, the rest is the exact posterior."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from patchloom.diffusion.denoiser import Denoiser
from patchloom.diffusion.measured import MeasuredCondition, Measurement, block_means, measured
from patchloom.errors import InputError
from patchloom.testing.gaussian import Exponential, FieldDenoiser, Means, wiener_plane

KY, KX = Exponential(3.0), Exponential(9.0)
FIELD: Denoiser[Means] = FieldDenoiser(KY, KX)
SIGMAS = (0.05, 0.7, 6.0)


def known(starts: list[int], side: tuple[int, int], factor: int, values: Tensor) -> MeasuredCondition[Means]:
    """Windows that begin at `starts` down and at 0 across."""
    rows, cols = block_means(starts, side[0], factor), block_means([0] * len(starts), side[1], factor)
    return MeasuredCondition(Means.of(*[0.0] * len(starts)), Measurement(rows, cols, values, factor))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(-9, 40), st.integers(1, 20), st.integers(1, 5))
def test_block_means_are_of_whole_blocks_on_the_canvas(start: int, length: int, factor: int) -> None:
    canvas = np.arange(-20, 80, dtype=np.float64) ** 2
    seen = canvas[start + 20 : start + 20 + length]
    (matrix,) = block_means([start], length, factor).double().numpy()
    whole = [b for b in range(-20, 60) if start <= b * factor and (b + 1) * factor <= start + length]
    wanted = [canvas[b * factor + 20 : (b + 1) * factor + 20].mean() for b in whole]
    np.testing.assert_allclose((matrix @ seen)[: len(whole)], wanted, rtol=1e-6)
    assert not matrix[len(whole) :].any()
    assert len(matrix) - len(whole) <= 1


@pytest.mark.parametrize("starts", [[0, 8], [3, 2]])
@pytest.mark.parametrize("steps", [0, 2])
def test_the_answer_has_the_known_means(starts: list[int], steps: int) -> None:
    condition = known(starts, (12, 8), 4, draw(2, 3, 3, 2, seed=1))
    x, sigma = draw(2, 3, 12, 8), torch.tensor([0.5, 3.0])
    found = measured(FIELD, steps=steps)(x, sigma, condition)
    one = condition.known
    means = one.rows.double()[:, None] @ found @ one.cols.double()[:, None].mT
    there = one.rows.any(-1)
    for entry in range(2):
        torch.testing.assert_close(means[entry][:, there[entry]], one.values[entry][:, there[entry]])
    assert not torch.equal(there[0], torch.zeros_like(there[0]))
    assert not torch.allclose(FIELD(x, sigma, condition.told), found)  # they were not there before


def test_without_steps_nothing_else_is_changed() -> None:
    condition = known([0], (8, 8), 4, draw(1, 1, 2, 2, seed=1))
    x, sigma = draw(1, 1, 8, 8), torch.tensor([0.5])
    change = measured(FIELD)(x, sigma, condition) - FIELD(x, sigma, condition.told)
    blocks = change.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    torch.testing.assert_close(blocks, blocks[..., :1].expand_as(blocks))  # one number a block


@pytest.mark.parametrize("sigma", SIGMAS)
def test_steps_lead_to_the_posterior_of_a_gaussian_field(sigma: float) -> None:
    """E[x | x + sigma n, A x = y], by the formula for Gaussians with all matrices written out."""
    height, width, factor = 8, 12, 4
    x, y = draw(1, 1, height, width), draw(1, 1, 2, 3, seed=1)
    condition = known([0], (height, width), factor, y)
    one = condition.known
    A = np.kron(one.rows[0].double().numpy(), one.cols[0].double().numpy())
    J = wiener_plane(KY, KX, (height, width), sigma)
    D = J @ x.flatten().numpy()
    wanted = D + J @ A.T @ np.linalg.solve(A @ J @ A.T, y.flatten().numpy() - A @ D)
    errors = []
    for steps in (0, 1, 2, 12):
        found = measured(FIELD, steps=steps)(x, torch.tensor([sigma]), condition).flatten().numpy()
        errors.append(float(np.abs(found - wanted).max()))
    assert errors[-1] < 1e-6
    assert errors[1] <= errors[0]
    assert errors[2] <= errors[1]
    assert errors[0] > 1e-4  # so that the test tells the two answers apart


class Grey:
    """Two pixels a latent, equal values: 0 is grey, 1 a hundred levels more. Beyond 0 and 255 it clips."""

    def encode(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(pixels.double(), 2) / 100 - 1.28

    def decode(self, latents: Tensor) -> Tensor:
        pixels = (100 * (latents + 1.28)).round().clamp(0, 255).to(torch.uint8)
        return pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_means_of_pixels() -> None:
    values = torch.tensor([90.0, 130.0, 160.0, 200.0]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
    condition = known([0], (16, 16), 8, values)
    found = measured(FIELD, through=Grey())(draw(1, 3, 8, 8) * 0.2, torch.tensor([0.4]), condition)
    seen = torch.nn.functional.avg_pool2d(Grey().decode(found).double(), 8)
    assert (seen - values).abs().max() < 1.1  # two roundings to whole levels


def test_conditions_are_joined_and_dropped() -> None:
    one, two = (known([start], (8, 8), 4, draw(1, 1, 2, 2, seed=start)) for start in (0, 3))
    both = one.join(two).to(torch.device("cpu"), torch.float32)
    assert len(both) == 2
    assert torch.equal(both.known.values, torch.cat([one.known.values, two.known.values]))
    assert torch.equal(both.known.rows[1], two.known.rows[0])
    assert both.null().told.dropped.all()
    assert both.null().known is both.known


def test_an_entry_that_already_agrees_stays() -> None:
    x, sigma = draw(1, 1, 8, 8), torch.tensor([0.5])
    D = FIELD(x, sigma, Means.of(0.0))
    condition = known([0], (8, 8), 4, torch.nn.functional.avg_pool2d(D, 4))
    torch.testing.assert_close(measured(FIELD, steps=2)(x, sigma, condition), D)


def test_steps_are_for_latents() -> None:
    with pytest.raises(InputError, match="latents alone"):
        measured(FIELD, steps=1, through=Grey())
    with pytest.raises(InputError, match="counted from 0"):
        measured(FIELD, steps=-1)


def test_under_inference_mode() -> None:
    with torch.inference_mode():
        condition = known([0], (8, 8), 4, draw(1, 1, 2, 2, seed=1))
        x, sigma = draw(1, 1, 8, 8), torch.tensor([0.5])
        inside = measured(FIELD, steps=1)(x, sigma, condition)
    outside = measured(FIELD, steps=1)(x.clone(), sigma.clone(), known([0], (8, 8), 4, draw(1, 1, 2, 2, seed=1)))
    torch.testing.assert_close(inside.clone(), outside)
