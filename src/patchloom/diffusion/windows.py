"""A denoiser of a whole canvas made from a denoiser of windows: the small engine that the loom must equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from patchloom.diffusion.denoiser import Denoiser
from patchloom.errors import GeometryError, InputError
from patchloom.geometry import OPEN, Box, Lattice, Window

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)


class Scene(Protocol[C_co]):
    """Whatever conditions a canvas: it answers for any of its windows."""

    def condition(self, boxes: Sequence[Box]) -> C_co:
        """One batch, an entry a box; boxes in latents of the canvas, all of one shape."""
        ...


def windowed(denoiser: Denoiser[C], lattice: Lattice, *, batch: int = 16) -> Denoiser[Scene[C]]:
    """The denoiser that answers for the lattice's whole canvas, one canvas at a time, told by a scene.

    Cores that partition the canvas are copied; cores that overlap are averaged with the lattice's profile, in the order
    of their numbers. Raises GeometryError where x is not the lattice's canvas.
    """
    if batch < 1:
        raise InputError(f"windows are denoised in batches of 1 or more, not {batch}")

    def canvas(x: Tensor, sigma: Tensor, condition: Scene[C]) -> Tensor:
        _check(x, lattice)
        total = torch.zeros_like(x)
        weight = x.new_zeros(x.shape[2:])
        for windows in _batches(lattice, batch):
            boxes = [window.box for window in windows]
            seen = torch.cat([x[..., *box.inside(lattice.box)] for box in boxes])
            answers = denoiser(seen, sigma.expand(len(boxes)), condition.condition(boxes))
            for window, answer in zip(windows, answers, strict=True):
                _add(total, weight, lattice, window, answer)
        return total / weight if lattice.overlaps else total

    return canvas


def weights(lattice: Lattice, window: Window) -> Tensor:
    """What a window's core counts at each of its latents, (core.height, core.width) float64.

    Raises GeometryError where the lattice's profile is shorter than the window.
    """
    if lattice.profile is None or not lattice.overlaps:
        return torch.ones(window.core.shape, dtype=torch.float64)
    if len(lattice.profile) < max(window.box.shape):
        raise GeometryError(f"a profile of {len(lattice.profile)} weights is too short for {window.box}")
    profile = torch.tensor(lattice.profile, dtype=torch.float64)
    rows, cols = window.core.inside(window.box)
    return profile[rows, None] * profile[None, cols]


def _check(x: Tensor, lattice: Lattice) -> None:
    if lattice.period != OPEN:
        raise InputError("a canvas that wraps is made by the loom: this small engine knows planes with edges alone")
    if x.shape[2:] != lattice.box.shape:
        raise GeometryError(f"x covers {tuple(x.shape[2:])} latents but the lattice {lattice.box.shape}")
    if len(x) != 1:
        raise InputError(f"a scene conditions one canvas: call once for each of the {len(x)} in x")


def _batches(lattice: Lattice, size: int) -> Iterator[list[Window]]:
    for _, run in groupby(lattice, key=lambda window: window.box.shape):
        while windows := list(islice(run, size)):
            yield windows


def _add(total: Tensor, weight: Tensor, lattice: Lattice, window: Window, answer: Tensor) -> None:
    rows, cols = window.core.inside(lattice.box)
    share = weights(lattice, window).to(total)
    total[0, :, rows, cols] += share * answer[..., *window.core.inside(window.box)]
    weight[rows, cols] += share
