"""A denoiser held to a coarser picture of what it makes: every answer has the block means that the picture shows.

Of x it is known that y = A x, A the means of blocks. With C = sigma² J the covariance of what the noise leaves open
(J the denoiser's derivative, Tweedie's formula of second order), the expected image is

    D' = D + C At (A C At)^-1 (y - A D)

(Boys et al. 2023, "Tweedie moment projected diffusions"), which is exact for Gaussian images. At low noise, and where
neighbouring latents agree, J changes little of what lies in blocks, and D' = D + A+ (y - A D) will do: the estimate's
block means are replaced and the rest is kept (Wang et al. 2023, "Zero-shot image restoration using denoising diffusion
null-space model"). `steps` counts those taken from the second towards the first.

So a large picture follows a small one: the two scales of ZoomLDM (Yellapragada et al. 2025), where the picture of the
lower magnification, which one window overlooks, guides the windows of the higher one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from patchloom.diffusion.condition import Condition
from patchloom.diffusion.denoiser import Denoiser
from patchloom.errors import InputError

K = TypeVar("K", bound=Condition)
Correction: TypeAlias = Callable[[Tensor], Tensor]


class Pixels(Protocol):
    """What turns latents into uint8 pixels and back: an autoencoder."""

    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 (b, 3, H, W) to (b, c, h, w)."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """(b, c, h, w) to uint8 (b, 3, H, W)."""
        ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """Block means of planes (b, c, h, w): `rows @ plane @ cols^T`. A row of zeros measures nothing.

    The rows of a matrix are orthogonal, and what measures something is the mean of `factor` places.
    """

    rows: Tensor  # (b, m, h)
    cols: Tensor  # (b, n, w)
    values: Tensor  # (b, c, m, n)
    factor: int

    def missing(self, plane: Tensor) -> Tensor:
        """A+ (y - A plane): the smallest change that gives a plane (b, c, h, w) the known means."""
        rows, cols = self.rows.to(plane)[:, None], self.cols.to(plane)[:, None]
        error = self.values.to(plane) - rows @ plane @ cols.mT
        return self.factor**2 * (rows.mT @ error @ cols)


@dataclass(frozen=True, slots=True)
class MeasuredCondition(Generic[K]):
    """What windows are told, and what is known of them."""

    told: K
    known: Measurement

    def __len__(self) -> int:
        return len(self.told)

    def null(self) -> MeasuredCondition[K]:
        """The same windows with nothing said; what is known of them stays."""
        return MeasuredCondition(self.told.null(), self.known)

    def join(self, other: MeasuredCondition[K]) -> MeasuredCondition[K]:
        """This batch followed by another of windows of the same shape."""
        one, two = self.known, other.known
        pairs = (one.rows, two.rows), (one.cols, two.cols), (one.values, two.values)
        rows, cols, values = (torch.cat(pair) for pair in pairs)
        return MeasuredCondition(self.told.join(other.told), Measurement(rows, cols, values, one.factor))

    def to(self, device: torch.device, dtype: torch.dtype) -> MeasuredCondition[K]:
        """The batch on a device; what is told in a dtype, what is known as it is."""
        one = self.known
        moved = Measurement(one.rows.to(device), one.cols.to(device), one.values.to(device), one.factor)
        return MeasuredCondition(self.told.to(device, dtype), moved)


def measured(denoiser: Denoiser[K], *, steps: int = 0, through: Pixels | None = None) -> Denoiser[MeasuredCondition[K]]:
    """The denoiser whose answers have the block means that each window's condition knows.

    Of the latents themselves; with an autoencoder in `through`, of their pixels (values from 0 to 255): the estimate is
    decoded, what its means lack is added, and what that changes of its latents is added to them: one decoding and two
    encodings an answer. `steps` are of conjugate gradients, each of which costs a derivative of the denoiser, about two
    evaluations; one or two are enough, and they are for latents alone. Put it around guidance, not into it.
    """
    if steps < 0 or (steps and through is not None):
        raise InputError(f"steps towards the exact answer are counted from 0, and taken in latents alone, not {steps}")

    def held(x: Tensor, sigma: Tensor, condition: MeasuredCondition[K]) -> Tensor:
        known = condition.known
        if through is not None:
            D = denoiser(x, sigma, condition.told)
            return D + _through(through, D, known.missing)
        if not steps:
            D = denoiser(x, sigma, condition.told)
            return D + known.missing(D)
        with torch.inference_mode(False), torch.enable_grad():
            place = x.detach().clone().requires_grad_()
            D = denoiser(place, sigma.clone(), condition.told)
            moved = D.detach() + _towards(place, D, known.missing, steps)
        return moved + known.missing(moved)

    return held


def _through(pixels: Pixels, D: Tensor, missing: Correction) -> Tensor:
    """The change of latents that changes their pixels by what these lack."""
    image = pixels.decode(D)
    mended = (image + missing(image.float())).round().clamp(0, 255).to(torch.uint8)
    return (pixels.encode(mended) - pixels.encode(image)).to(D.dtype)


def _towards(place: Tensor, D: Tensor, missing: Correction, steps: int) -> Tensor:
    """J u with u of the range of At and A+ A J u = A+ (y - A D), by conjugate gradients from u = 0.

    J is symmetric where the denoiser is exact, so the derivative of <D, u> at x is J u. An entry that is solved, or
    whose J is not positive there, stays as it is.
    """
    left = missing(D.detach())
    nothing = missing(torch.zeros_like(left))
    change, along = torch.zeros_like(left), left
    for _ in range(steps):
        (slope,) = torch.autograd.grad(D, place, along.to(D), retain_graph=True)
        bend = nothing - missing(slope)  # A+ A J u
        curve, before = _dot(along, bend), _dot(left, left)
        far = torch.where(curve > 0, before / curve, 0.0)
        change, left = change + far * slope, left - far * bend
        along = left + torch.where(before > 0, _dot(left, left) / before, 0.0) * along
    return change


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=(1, 2, 3), keepdim=True)


def block_means(starts: Sequence[int], length: int, factor: int) -> Tensor:
    """Matrices (b, length // factor, length): means of the whole blocks in spans that begin at `starts`.

    Blocks lie at multiples of `factor`. A span between them holds one block fewer, and its last row is zeros.
    """
    out = torch.zeros(len(starts), max(length // factor, 1), length)
    for matrix, start in zip(out, starts, strict=True):
        first = -start % factor
        for number, place in enumerate(range(first, length - factor + 1, factor)):
            matrix[number, place : place + factor] = 1 / factor
    return out
