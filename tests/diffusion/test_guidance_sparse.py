"""Guidance whose null branch is asked now and then: exact where the difference stays, counted, and carried."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from patchloom.diffusion.guidance import guided
from patchloom.diffusion.guidance_sparse import Sparse
from patchloom.diffusion.levels import karras
from patchloom.diffusion.samplers import SAMPLERS, run
from patchloom.diffusion.stage import Stage
from patchloom.errors import InputError
from patchloom.testing.gaussian import GaussianDenoiser, Means

TOLD = Means.of(0.7, -0.4)


@dataclass
class Shifted:
    """D_cond and D_null lie apart by the same at every level, and every call is counted by its images."""

    calls: list[int] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Means) -> Tensor:
        self.calls.append(len(x))
        shift = torch.where(condition.dropped, 0.0, condition.values)[:, None, None, None]
        return x / (1 + sigma[:, None, None, None] ** 2) + shift


def stages(name: str = "dpmpp-2m", steps: int = 7) -> list[Stage]:
    return SAMPLERS[name](karras(steps, 0.02, 20))


def start(seed: int = 0) -> Tensor:
    return 20 * torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))


def noise(number: int) -> Tensor:
    return start(1 + number) / 20


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("interval", [None, (0.1, 5.0)])
def test_asked_at_every_step_it_is_guidance(sampler: str, interval: tuple[float, float] | None) -> None:
    denoiser, own = GaussianDenoiser(0.5, 1.5), stages(sampler)
    sparse = Sparse.of(own, 2.5, 1, interval)
    found = run(sparse.denoiser(denoiser), sparse.stages(own), start(), TOLD, noise)
    expected = run(guided(denoiser, 2.5, interval=interval), own, start(), TOLD, noise)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert [stage.planes for stage in sparse.stages(own)] == [stage.planes for stage in own]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("every", [2, 3, 50])
def test_a_difference_that_stays_is_carried_exactly(sampler: str, every: int) -> None:
    own = stages(sampler)
    sparse, all_steps = Sparse.of(own, 2.5, every), Sparse.of(own, 2.5, 1)
    found = run(sparse.denoiser(Shifted()), sparse.stages(own), start(), TOLD, noise)
    expected = run(all_steps.denoiser(Shifted()), all_steps.stages(own), start(), TOLD, noise)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_difference_that_changes_is_that_of_the_last_step_asked() -> None:
    denoiser, own = GaussianDenoiser(0.5, 1.5), stages("euler")
    sparse = Sparse.of(own, 2.5, 2)
    x, difference = start(), torch.zeros(())
    for number, (stage, after) in enumerate(pairwise([*(stage.sigma for stage in own), 0.0])):
        sigma = torch.full((2,), stage)
        D = denoiser(x, sigma, TOLD)
        if number % 2 == 0:
            difference = D - denoiser(x, sigma, TOLD.null())
        D = D + 1.5 * difference
        x = D + (x - D) * after / stage
    found = run(sparse.denoiser(denoiser), sparse.stages(own), start(), TOLD, noise)
    torch.testing.assert_close(found, x, atol=1e-4, rtol=1e-4)
    every = run(guided(denoiser, 2.5), own, start(), TOLD, noise)
    assert (found - every).abs().max() > 0.05, "it must differ from guidance at every step"


@pytest.mark.parametrize(("every", "interval"), [(1, None), (2, None), (3, (0.1, 5.0)), (2, (0.05, 1.0))])
def test_calls_are_those_that_are_counted(every: int, interval: tuple[float, float] | None) -> None:
    own, denoiser = stages("heun"), Shifted()
    sparse = Sparse.of(own, 2.5, every, interval)
    run(sparse.denoiser(denoiser), sparse.stages(own), start(), TOLD, noise)
    assert sum(denoiser.calls) == 2 * sum(sparse.evaluations(stage.sigma) for stage in own)
    assert len(denoiser.calls) == len(own)


def test_scale_1_is_no_guidance() -> None:
    own, denoiser = stages(), Shifted()
    sparse = Sparse.of(own, 1.0, 2)
    found = run(sparse.denoiser(denoiser), sparse.stages(own), start(), TOLD, noise)
    torch.testing.assert_close(found, run(Shifted(), own, start(), TOLD, noise), rtol=0, atol=0)
    assert denoiser.calls == [2] * len(own)


def test_never_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1, not 0"):
        Sparse.of(stages(), 2.0, 0)
