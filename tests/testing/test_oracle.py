"""The exact oracle for plans: DESIGN.md's table, its own laws, and agreement with the engines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import pytest
import torch

from patchloom.diffusion.levels import karras
from patchloom.diffusion.samplers import SAMPLERS, Sampler, ddpm, dpmpp_2m, euler, run
from patchloom.diffusion.windows import windowed
from patchloom.errors import InputError
from patchloom.geometry import Lattice
from patchloom.loom.plan import average, halo, shift
from patchloom.testing.gaussian import (
    Exponential,
    FieldDenoiser,
    FlatScene,
    Kernel,
    SquaredExponential,
    covariance,
)
from patchloom.testing.oracle import Figures, along, axis_covariance, borders, figures, plane_covariance

LENGTH, WINDOW = 160, 32
KERNELS: tuple[Kernel, Kernel] = (Exponential(30.0), SquaredExponential(12.0))
GOLDEN = (math.sqrt(5) - 1) / 2


def places(core: int, count: int) -> list[tuple[int, int]]:
    """DESIGN.md's moving origin: multiples of the golden section, from 0."""
    return [(0, int(k * GOLDEN % 1 * core)) for k in range(count)]


def moving(core: int, count: int = 14) -> list[Lattice]:
    return [halo((1, LENGTH), WINDOW, core, place) for place in places(core, count)]


def two_sizes(sigmas: Sequence[float]) -> list[Lattice]:
    """Window 128 (the same halo) above sigma 1, window 32 with core 24 below."""
    large = [halo((1, LENGTH), 128, 120, place) for place in places(120, len(sigmas))]
    return [big if sigma > 1 else small for sigma, big, small in zip(sigmas, large, moving(24), strict=True)]


def measured(sampler: Sampler, lattices: list[Lattice], kernel: Kernel) -> Figures:
    stages = sampler(karras(len(lattices), 0.02, 20.0))
    spread = axis_covariance(kernel, stages, [lattice.cols for lattice in lattices])
    lines = np.zeros(0, np.int64) if lattices[-1].overlaps else borders(lattices[-1].cols)
    return figures(spread, kernel, lines, margin=WINDOW)


TABLE = {  # DESIGN.md, section 5: variance, fine, cov16, seam for either kernel
    "whole canvas, 2M": (
        dpmpp_2m,
        [halo((1, LENGTH), LENGTH, LENGTH)] * 14,
        ((0.97, 1.05, 0.54, 1), (0.99, 1.03, 0.39, 1)),
    ),
    "halo core 24, 2M, moving": (dpmpp_2m, moving(24), ((0.86, 1.08, 0.32, 1.00), (0.88, 1.06, 0.31, 1.02))),
    "halo core 24, 2M, fixed": (
        dpmpp_2m,
        [halo((1, LENGTH), WINDOW, 24)] * 14,
        ((0.89, 1.09, 0.31, 1.11), (0.91, 1.14, 0.30, 1.15)),
    ),
    "halo core 16, 2M, moving": (dpmpp_2m, moving(16), ((0.90, 1.07, 0.35, 1.00), (0.94, 1.04, 0.36, 1.01))),
    "shift, 2M, moving": (
        dpmpp_2m,
        [shift((1, LENGTH), WINDOW, place) for place in places(WINDOW, 14)],
        ((0.79, 1.16, 0.28, 0.98), (0.78, 1.11, 0.23, 1.04)),
    ),
    "average stride 8, Euler, 50": (
        euler,
        [average((1, LENGTH), WINDOW, 8)] * 50,
        ((0.73, 1.03, 0.26, 1), (0.72, 1.06, 0.21, 1)),
    ),
    "halo core 24, Euler": (euler, moving(24), ((0.67, 0.74, 0.25, 1.00), (0.69, 0.86, 0.24, 1.03))),
    "window 128 above 1, 32 below, 2M": (
        dpmpp_2m,
        two_sizes(karras(14, 0.02, 20.0).tolist()),
        ((0.96, 1.06, 0.52, 1.00), (0.98, 1.00, 0.41, 1.02)),
    ),
}


@pytest.mark.parametrize("row", TABLE)
@pytest.mark.parametrize("which", [0, 1], ids=["exponential", "squared"])
def test_the_table_of_the_design(row: str, which: int) -> None:
    sampler, lattices, wanted = TABLE[row]
    found = measured(sampler, lattices, KERNELS[which])
    assert astuple(found) == pytest.approx(wanted[which], abs=0.02)


def test_the_truth_itself() -> None:
    for kernel, lag in zip(KERNELS, (0.587, 0.411), strict=True):
        truth = figures(covariance(kernel, LENGTH), kernel, borders(moving(24)[-1].cols), margin=WINDOW)
        assert astuple(truth) == pytest.approx((1, 1, lag, 1), abs=5e-4)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_approaches_the_truth_on_the_whole_canvas(name: str) -> None:
    """From the exact start to the exact covariance: the only errors are the solver's and the start's."""
    kernel, length = Exponential(6.0), 12
    truth = covariance(kernel, length)
    errors = []
    for count in (20, 80):
        stages = SAMPLERS[name](karras(count, 0.01, 400.0))
        spread = axis_covariance(kernel, stages, [halo((1, length), length, length).cols] * len(stages))
        errors.append(float(np.abs(spread - truth).max()))
    assert errors[1] < 0.2  # of a variance of 1; first-order ones are at 0.1 to 0.15
    assert errors[1] < errors[0] / 2.5


def test_a_planted_seam_is_found() -> None:
    kernel = Exponential(30.0)
    spread = covariance(kernel, 64)
    spread[:40, 40:] *= 0.98
    spread[40:, :40] *= 0.98
    lines = np.array([39], np.int64)
    assert figures(spread, kernel, lines, margin=8).seam > 1.2
    assert figures(spread, kernel, lines + 5, margin=8).seam < 1
    assert figures(spread, kernel, lines[:0], margin=8).seam == 1


def lattice_of(kind: str) -> Lattice:
    return halo((9, 11), 6, 4, (1, 3)) if kind == "halo" else average((9, 11), 6, 4, "gaussian")


@pytest.mark.parametrize("kind", ["halo", "average"])
def test_plane_oracle_is_the_law_of_the_small_engine(kind: str) -> None:
    """M's columns are what `windowed` makes of unit starts; the oracle's covariance is sigma_max² M M^T."""
    ky, kx, lattice, size = Exponential(4.0), SquaredExponential(2.0), lattice_of(kind), 9 * 11
    stages = dpmpp_2m(karras(5, 0.1, 10.0))
    canvas = windowed(FieldDenoiser(ky, kx), lattice)
    units = torch.eye(size, dtype=torch.float64).reshape(size, 1, 1, 9, 11)
    M = torch.stack([run(canvas, stages, 10.0 * unit, FlatScene()).flatten() for unit in units], dim=1)
    found = plane_covariance(ky, kx, stages, [lattice] * len(stages))
    np.testing.assert_allclose(found, (M @ M.T).numpy(), atol=1e-9)


def test_a_plane_of_one_row_is_a_line() -> None:
    kernel = Exponential(5.0)
    lattices = [halo((1, 24), 12, 8, place) for place in places(8, 6)]
    stages = ddpm(karras(6, 0.05, 20.0))
    line = axis_covariance(kernel, stages, [lattice.cols for lattice in lattices])
    plane = plane_covariance(kernel, kernel, stages, lattices)
    np.testing.assert_allclose(plane, line, atol=1e-12)
    np.testing.assert_allclose(along(plane, (1, 24), 1), line, atol=1e-12)


def test_lines_of_a_separable_plane() -> None:
    ky, kx = Exponential(4.0), SquaredExponential(3.0)
    plane = np.asarray(np.kron(covariance(ky, 7), covariance(kx, 10)), np.float64)
    np.testing.assert_allclose(along(plane, (7, 10), 0), covariance(ky, 7))
    np.testing.assert_allclose(along(plane, (7, 10), 1), covariance(kx, 10))


def test_one_meeting_is_each_window_alone() -> None:
    """With as many stages between meetings as there are, cores of different windows know nothing of each other."""
    kernel = Exponential(30.0)
    stages = dpmpp_2m(karras(6, 0.05, 20.0))
    spans = shift((1, 64), 32).cols
    found = axis_covariance(kernel, stages, [spans], sync=6)
    alone = axis_covariance(kernel, stages, [shift((1, 32), 32).cols] * 6)
    np.testing.assert_allclose(found[:32, :32], alone, atol=1e-12)
    assert np.abs(found[:32, 32:]).max() == 0
    two = axis_covariance(kernel, stages, [spans] * 3, sync=2)
    np.testing.assert_allclose(two, found, atol=1e-12)  # without a halo and unmoved, meetings change nothing


def test_bad_plans() -> None:
    stages = euler(karras(4))
    with pytest.raises(InputError, match="meet 2 times, not 4"):
        axis_covariance(Exponential(3.0), stages, [halo((1, 8), 8, 8).cols] * 4, sync=2)
    with pytest.raises(InputError, match="too short"):
        figures(np.eye(20), Exponential(3.0), np.zeros(0, np.int64), margin=4)
