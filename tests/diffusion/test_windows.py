"""The small engine: windows make a canvas."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from patchloom.diffusion.levels import karras
from patchloom.diffusion.samplers import euler, run
from patchloom.diffusion.windows import weights, windowed
from patchloom.errors import GeometryError, InputError
from patchloom.geometry import Lattice, Span
from patchloom.testing.gaussian import Exponential, FieldDenoiser, FlatScene, GaussianDenoiser, Means

BUMP = tuple(float(value) for value in torch.hann_window(10, periodic=False)[1:-1])


def partition(length: int, core: int, halo: int, offset: int) -> tuple[Span, ...]:
    """Cores of `core` from `offset` on, windows clamped into the axis."""
    cuts = [0, *range(offset or core, length, core), length]
    return tuple(Span(max(a - halo, 0), min(b + halo, length), a, b) for a, b in pairwise(cuts))


def overlapping(length: int, window: int, stride: int) -> tuple[Span, ...]:
    starts = [*range(0, length - window, stride), length - window]
    return tuple(Span(start, start + window, start, start + window) for start in starts)


@st.composite
def lattices(draw: st.DrawFn) -> Lattice:
    height, width = draw(st.integers(8, 30)), draw(st.integers(8, 30))
    if draw(st.booleans()):
        core, halo, offset = draw(st.integers(1, 9)), draw(st.integers(0, 4)), draw(st.integers(0, 5))
        return Lattice(partition(height, core, halo, offset), partition(width, core, halo, offset))
    stride = draw(st.integers(1, 8))
    profile = draw(st.sampled_from([None, BUMP]))
    return Lattice(overlapping(height, 8, stride), overlapping(width, 8, stride), profile)


def canvas(lattice: Lattice) -> Tensor:
    return torch.randn((1, 2, *lattice.box.shape), generator=torch.Generator().manual_seed(2))


@settings(deadline=None, max_examples=40)
@given(lattice=lattices(), batch=st.integers(1, 7))
def test_windows_of_a_pointwise_denoiser_are_the_whole(lattice: Lattice, batch: int) -> None:
    denoiser, x, sigma = GaussianDenoiser(0.4), canvas(lattice), torch.tensor([0.8])
    found = windowed(denoiser, lattice, batch=batch)(x, sigma, FlatScene(0.3))
    whole = denoiser(x, sigma, Means.of(0.3))
    torch.testing.assert_close(found, whole)
    if not lattice.overlaps:
        assert torch.equal(found, whole)


@settings(deadline=None, max_examples=40)
@given(lattice=lattices())
def test_shares_of_windows_sum_to_one(lattice: Lattice) -> None:
    total = torch.zeros(lattice.box.shape, dtype=torch.float64)
    for window in lattice:
        total[window.core.inside(lattice.box)] += weights(lattice, window)
    ones = windowed(lambda x, sigma, condition: torch.ones_like(x), lattice)
    torch.testing.assert_close(ones(canvas(lattice), torch.ones(1), FlatScene()), torch.ones_like(canvas(lattice)))
    assert (total > 0).all()
    assert lattice.overlaps or (total == 1).all()


def test_a_core_is_what_its_own_window_said() -> None:
    kernel = Exponential(5.0)
    denoiser = FieldDenoiser(kernel, kernel)
    lattice = Lattice(partition(20, 8, 3, 5), partition(14, 8, 3, 2))
    x, sigma = canvas(lattice), torch.tensor([1.5])
    found = windowed(denoiser, lattice, batch=3)(x, sigma, FlatScene())
    for window in lattice:
        alone = denoiser(x[..., *window.box.inside(lattice.box)], sigma, None)
        core = found[..., *window.core.inside(lattice.box)]
        torch.testing.assert_close(core, alone[..., *window.core.inside(window.box)])


def test_overlaps_average_with_the_profile() -> None:
    lattice = Lattice((Span(0, 1, 0, 1),), (Span(0, 3, 0, 3), Span(2, 5, 2, 5)), (1.0, 2.0, 3.0))

    def first_pixel(x: Tensor, sigma: Tensor, condition: object) -> Tensor:
        return x[..., :1].expand_as(x)

    x = torch.tensor([10.0, 0, 20.0, 0, 0]).reshape(1, 1, 1, 5)
    found = windowed(first_pixel, lattice)(x, torch.ones(1), FlatScene())
    assert found.flatten().tolist() == pytest.approx([10, 10, (3 * 10 + 1 * 20) / 4, 20, 20])


def test_a_sampler_runs_on_a_windowed_denoiser() -> None:
    lattice = Lattice(partition(16, 5, 2, 3), partition(16, 5, 2, 3))
    x = 20 * canvas(lattice)
    stages = euler(karras(8, 0.05, 20.0))
    found = run(windowed(GaussianDenoiser(0.4), lattice), stages, x, FlatScene(0.3))
    assert torch.equal(found, run(GaussianDenoiser(0.4), stages, x, Means.of(0.3)))


def test_bad_canvases() -> None:
    lattice = Lattice(partition(9, 5, 2, 0), partition(9, 5, 2, 0))
    denoiser = windowed(GaussianDenoiser(), lattice)
    with pytest.raises(GeometryError, match="lattice"):
        denoiser(torch.zeros(1, 1, 9, 8), torch.ones(1), FlatScene())
    with pytest.raises(InputError, match="one canvas"):
        denoiser(torch.zeros(2, 1, 9, 9), torch.ones(2), FlatScene())
    with pytest.raises(InputError, match="batches"):
        windowed(GaussianDenoiser(), lattice, batch=0)
    short = Lattice(overlapping(9, 8, 1), overlapping(9, 8, 1), (1.0, 1.0))
    with pytest.raises(GeometryError, match="too short"):
        weights(short, short.window(0))
