"""What a plan does to a picture, exactly and without a network (DESIGN.md, section 5).

The exact denoiser of a window of a stationary Gaussian field is a matrix, K (K + sigma² I)^-1. A run of any plan with a
solver that is linear in x and D is then one matrix too; it is found by running the stages' own updates on matrices
with a row for each latent and a column for each independent normal that the run draws. Times its transpose it is the
covariance of the pictures, and from that follow variance, texture, coherence and seams: no sampling, no training.

    stages = dpmpp_2m(karras(14, 0.02, 20.0))
    lattices = Plan.of("halo", 32).lattices((1, 160), [stage.sigma for stage in stages])
    spread = axis_covariance(kernel, stages, [lattice.cols for lattice in lattices])
    figures(spread, kernel, borders(lattices[-1].cols), margin=32)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchloom.diffusion.stage import Stage, State
from patchloom.diffusion.windows import weights
from patchloom.errors import InputError
from patchloom.geometry import Lattice, Span, Window
from patchloom.testing.gaussian import Kernel, Matrix, wiener, wiener_plane


@dataclass(frozen=True, slots=True)
class Figures:
    """How near a plan's pictures come to the field's own law. The truth is 1, 1, the kernel at the lag, and 1."""

    variance: float
    fine: float  # energy of neighbour differences over its true value: texture
    coherence: float  # covariance of latents `lag` apart
    seam: float  # mean absolute difference across border lines over that across the others; 1 without borders


def axis_covariance(
    kernel: Kernel,
    stages: Sequence[Stage],
    axes: Sequence[tuple[Span, ...]],
    *,
    profile: Sequence[float] | None = None,
    sync: int = 1,
) -> Matrix:
    """Covariance (n, n) of a line of n latents made by `stages` in the windows of `axes`, one for each meeting.

    Between two meetings a window runs `sync` stages alone. Overlapping cores are averaged with `profile`, a weight for
    each latent of a window. Raises InputError where stages and meetings do not match.
    """
    meetings = [[_span_part(kernel, span, profile) for span in spans] for spans in axes]
    return _covariance(max(span.core_stop for span in axes[0]), stages, meetings, sync)


def plane_covariance(
    ky: Kernel, kx: Kernel, stages: Sequence[Stage], lattices: Sequence[Lattice], *, sync: int = 1
) -> Matrix:
    """Covariance (h w, h w) of a canvas of a field with covariance ky(dy) kx(dx), row by row; dear: keep it small."""
    meetings = [[_window_part(ky, kx, lattice, window) for window in lattice] for lattice in lattices]
    return _covariance(lattices[0].box.area, stages, meetings, sync)


def along(covariance: Matrix, shape: tuple[int, int], axis: int) -> Matrix:
    """The mean covariance along the lines of an axis (0: down, 1: across) of a canvas (h, w), for `figures`."""
    lines = "yiyj->ij" if axis == 1 else "ixjx->ij"
    return np.asarray(np.einsum(lines, covariance.reshape(*shape, *shape)) / shape[1 - axis], np.float64)


def figures(covariance: Matrix, kernel: Kernel, borders: NDArray[np.int64], *, margin: int, lag: int = 16) -> Figures:
    """Figures of a line, without the `margin` latents at its ends; `borders` as from the function of that name.

    `covariance` is (n, n), `kernel` the field's own, `lag` in latents. Raises InputError for a line too short for it.
    """
    inner = covariance[margin : len(covariance) - margin, margin : len(covariance) - margin]
    if len(inner) <= lag:
        raise InputError(f"a line of {len(covariance)} latents without {margin} at each end is too short for lag {lag}")
    powers = np.diag(inner)
    energy = powers[1:] + powers[:-1] - 2 * np.diag(inner, 1)
    truth = 2 * (1 - float(kernel(np.ones(1))[0]))
    lagged = float(np.diag(inner, lag).mean())
    return Figures(float(powers.mean()), float(energy.mean()) / truth, lagged, _seam(energy, borders - margin))


def borders(spans: Sequence[Span]) -> NDArray[np.int64]:
    """Numbers of the neighbour differences (between latents k and k + 1) that lie across a border of two cores."""
    return np.array([span.core_start - 1 for span in spans if span.core_start > 0], np.int64)


def _seam(energy: Matrix, lines: NDArray[np.int64]) -> float:
    """A normal's mean absolute value is its deviation times a constant, so the ratio is one of deviations."""
    at_border = np.zeros(len(energy), bool)
    at_border[lines[(lines >= 0) & (lines < len(energy))]] = True
    if not at_border.any() or at_border.all():
        return 1.0
    size = np.sqrt(np.maximum(energy, 0))
    return float(size[at_border].mean() / size[~at_border].mean())


@dataclass(frozen=True, slots=True)
class _Part:
    """A window as rows of the state: what it sees, which of these it keeps, how they count, and its denoiser."""

    seen: Tensor
    kept: Tensor
    share: Tensor  # (kept, 1)
    denoiser: Callable[[float], Matrix]


def _covariance(size: int, stages: Sequence[Stage], meetings: Sequence[Sequence[_Part]], sync: int) -> Matrix:
    groups = [range(first, min(first + sync, len(stages))) for first in range(0, len(stages), sync)]
    if len(groups) != len(meetings):
        raise InputError(f"{len(stages)} stages with sync {sync} meet {len(groups)} times, not {len(meetings)}")
    noises = _noises(size, stages)
    first = torch.zeros((size, size * (1 + len(noises))), dtype=torch.float64)
    first[:, :size] = stages[0].sigma * torch.eye(size, dtype=torch.float64)
    state: State = (first,)
    for group, parts in zip(groups, meetings, strict=True):
        state = _met(state, [(stages[number], noises.get(number)) for number in group], parts)
    return np.asarray((state[0] @ state[0].T).numpy(), np.float64)


def _noises(size: int, stages: Sequence[Stage]) -> dict[int, slice]:
    """The columns of each noisy stage's own normals."""
    noisy = [number for number, stage in enumerate(stages) if stage.noisy]
    return {number: slice((k + 1) * size, (k + 2) * size) for k, number in enumerate(noisy)}


def _met(state: State, run: Sequence[tuple[Stage, slice | None]], parts: Sequence[_Part]) -> State:
    """The state after every part ran some stages alone and the cores were woven together."""
    woven = tuple(torch.zeros_like(state[0]) for _ in range(run[-1][0].planes))
    total = torch.zeros((len(state[0]), 1), dtype=torch.float64)
    for part in parts:
        local = _alone(tuple(plane[part.seen] for plane in state), run, part)
        rows = part.seen[part.kept]
        total[rows] += part.share
        for plane, answer in zip(woven, local, strict=True):
            plane[rows] += part.share * answer[part.kept]
    return tuple(plane / total for plane in woven)


def _alone(local: State, run: Sequence[tuple[Stage, slice | None]], part: _Part) -> State:
    for stage, columns in run:
        noise = None
        if columns is not None:
            noise = torch.zeros_like(local[0])
            noise[torch.arange(len(part.seen)), columns.start + part.seen] = 1
        local = stage.update(local, torch.from_numpy(part.denoiser(stage.sigma)) @ local[0], noise)
    return local


def _span_part(kernel: Kernel, span: Span, profile: Sequence[float] | None) -> _Part:
    length = span.stop - span.start
    kept = torch.arange(span.core_start - span.start, span.core_stop - span.start)
    share = torch.ones(length, dtype=torch.float64) if profile is None else torch.tensor(profile, dtype=torch.float64)
    return _Part(torch.arange(span.start, span.stop), kept, share[kept, None], partial(wiener, kernel, length))


def _window_part(ky: Kernel, kx: Kernel, lattice: Lattice, window: Window) -> _Part:
    numbers = torch.arange(lattice.box.area).reshape(lattice.box.shape)
    seen = numbers[window.box.inside(lattice.box)]
    kept = torch.arange(window.box.area).reshape(window.box.shape)[window.core.inside(window.box)]
    share = weights(lattice, window).reshape(-1, 1)
    return _Part(seen.flatten(), kept.flatten(), share, partial(wiener_plane, ky, kx, window.box.shape))
