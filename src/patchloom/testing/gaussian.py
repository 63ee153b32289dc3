"""Exact denoisers of Gaussian data: truth for samplers, guidance, windows and the loom, without a network.

`GaussianDenoiser` knows independent latents around a mean that the condition names; `FieldDenoiser` knows a stationary
Gaussian field over the plane and answers exactly for the window that it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchloom.geometry import Box

Matrix: TypeAlias = NDArray[np.float64]
Kernel: TypeAlias = Callable[[Matrix], Matrix]
"""Distances in latents to covariances; 1 at distance 0. Hashable, because eigenvectors are kept per kernel."""


@dataclass(frozen=True, slots=True)
class Means:
    """A condition that names the mean of each image: values (b,), dropped (b,) bool where nothing is said."""

    values: Tensor
    dropped: Tensor

    @classmethod
    def of(cls, *values: float) -> Means:
        """One entry a value, none dropped."""
        return cls(torch.tensor(values), torch.zeros(len(values), dtype=torch.bool))

    def __len__(self) -> int:
        return len(self.values)

    def null(self) -> Means:
        """The same entries with nothing said."""
        return Means(self.values, torch.ones_like(self.dropped))

    def join(self, other: Means) -> Means:
        """These entries followed by those of another."""
        return Means(torch.cat([self.values, other.values]), torch.cat([self.dropped, other.dropped]))

    def to(self, device: torch.device, dtype: torch.dtype) -> Means:
        """The entries on a device, values in a dtype."""
        return Means(self.values.to(device, dtype), self.dropped.to(device))


@dataclass(frozen=True, slots=True)
class FlatScene:
    """A canvas whose every window is told the same mean."""

    mean: float = 0.0

    def condition(self, boxes: Sequence[Box]) -> Means:
        """One entry a box."""
        return Means.of(*[self.mean] * len(boxes))


@dataclass(frozen=True, slots=True)
class GaussianDenoiser:
    """Exact for independent latents x0 ~ N(mean, variance): D = mean + v / (v + s²) (x - mean); pointwise.

    Where the condition is dropped the data is N(0, null_variance).
    """

    variance: float = 1.0
    null_variance: float = 1.0

    def __call__(self, x: Tensor, sigma: Tensor, condition: Means) -> Tensor:
        """Expected x0 (b, c, h, w)."""
        dropped = condition.dropped
        mean = torch.where(dropped, 0.0, condition.values).to(x)[:, None, None, None]
        v = torch.where(dropped, self.null_variance, self.variance).to(x)
        kept = (v / (v + sigma.to(x) ** 2))[:, None, None, None]
        return mean + kept * (x - mean)


@dataclass(frozen=True, slots=True)
class Exponential:
    """Covariance exp(-d / length)."""

    length: float

    def __call__(self, distance: Matrix) -> Matrix:
        """Covariance at each distance."""
        return np.asarray(np.exp(-distance / self.length), np.float64)


@dataclass(frozen=True, slots=True)
class SquaredExponential:
    """Covariance exp(-(d / length)² / 2)."""

    length: float

    def __call__(self, distance: Matrix) -> Matrix:
        """Covariance at each distance."""
        return np.asarray(np.exp(-((distance / self.length) ** 2) / 2), np.float64)


def covariance(kernel: Kernel, length: int) -> Matrix:
    """The (length, length) covariance of that many neighbouring latents of a stationary field."""
    place = np.arange(length, dtype=np.float64)
    return kernel(np.abs(place[:, None] - place[None, :]))


def wiener(kernel: Kernel, length: int, sigma: float) -> Matrix:
    """The exact denoiser of a window of `length` latents as a matrix: K (K + sigma² I)^-1."""
    values, vectors = _modes(kernel, length)
    return np.asarray((vectors * (values / (values + sigma**2))) @ vectors.T, np.float64)


def wiener_plane(ky: Kernel, kx: Kernel, shape: tuple[int, int], sigma: float) -> Matrix:
    """The same for a window (h, w) of a field with covariance ky(dy) kx(dx): (h w, h w), latents row by row."""
    (ly, uy), (lx, ux) = _modes(ky, shape[0]), _modes(kx, shape[1])
    power = np.outer(ly, lx).ravel()
    vectors = np.kron(uy, ux)
    return np.asarray((vectors * (power / (power + sigma**2))) @ vectors.T, np.float64)


@dataclass(frozen=True, slots=True)
class FieldDenoiser:
    """Exact for a window of a stationary Gaussian field of mean 0 with covariance ky(dy) * kx(dx).

    It answers from the window alone, so its answer for a latent depends on which window asks: like a network's.
    The condition is read by nobody; any will do.
    """

    ky: Kernel
    kx: Kernel

    def __call__(self, x: Tensor, sigma: Tensor, condition: object) -> Tensor:
        """Expected x0 (b, c, h, w) given the window alone."""
        (ly, uy), (lx, ux) = (_modes_like(k, n, x) for k, n in zip((self.ky, self.kx), x.shape[2:], strict=True))
        power = ly[:, None] * lx[None, :]
        kept = power / (power + sigma.to(x)[:, None, None, None] ** 2)
        return uy @ (kept * (uy.T @ x @ ux)) @ ux.T


@lru_cache(maxsize=64)
def _modes(kernel: Kernel, length: int) -> tuple[Matrix, Matrix]:
    values, vectors = np.linalg.eigh(covariance(kernel, length))
    return np.clip(values, 0, None), vectors


def _modes_like(kernel: Kernel, length: int, x: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = _modes(kernel, length)
    return torch.from_numpy(values).to(x), torch.from_numpy(vectors).to(x)
