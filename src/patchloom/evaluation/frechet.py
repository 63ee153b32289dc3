"""Fréchet distance between two sets of feature vectors: in full dimension, along principal axes, extrapolated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.matrices import Matrix, checked, checked_pair

ROWS_AN_AXIS = 10  # a Fréchet distance in k dimensions asks for at least 10 k images of each side


def frechet(real: NDArray[Any], synthetic: NDArray[Any]) -> float:
    """Squared Fréchet distance of two Gaussians fitted to (n, dim) and (m, dim) features (Heusel et al. 2017).

    |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)), covariances with n - 1, in float64. The result is real by
    construction: no root of a non-symmetric matrix is taken.
    """
    first, second = checked_pair(real, synthetic)
    shift = first.mean(axis=0) - second.mean(axis=0)
    left, right = _scaled(first), _scaled(second)
    traces = float((left**2).sum() + (right**2).sum())
    # The two agree; where images are fewer than dimensions the second is faster and has no rounding to take a root of.
    few = min(len(left), len(right)) < left.shape[1]
    root = _nuclear_norm(left, right) if few else _root_trace(left.T @ left, right.T @ right)
    return max(float(shift @ shift) + traces - 2 * root, 0.0)


def frechet_of_gaussians(mean_a: Matrix, cov_a: Matrix, mean_b: Matrix, cov_b: Matrix) -> float:
    """The same from stored statistics: means (dim,) and covariances (dim, dim)."""
    shapes = {mean_a.shape * 2, mean_b.shape * 2, cov_a.shape, cov_b.shape}
    if len(shapes) != 1 or mean_a.ndim != 1:
        raise MismatchError(f"means and covariances do not belong together: their shapes give {sorted(shapes)}")
    if not all(np.isfinite(part).all() for part in (mean_a, cov_a, mean_b, cov_b)):
        raise InputError("the statistics hold NaN or infinity")
    shift = mean_a - mean_b
    value = shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * _root_trace(cov_a, cov_b)
    return max(float(value), 0.0)


def _scaled(features: Matrix) -> Matrix:
    """Centred, and divided so that the matrix's Gram matrix is the covariance."""
    return np.asarray((features - features.mean(axis=0)) / np.sqrt(len(features) - 1))


def _root_trace(cov_a: Matrix, cov_b: Matrix) -> float:
    """tr (A B)^(1/2) as tr (R B R)^(1/2) with R = A^(1/2): two symmetric eigendecompositions."""
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = root @ cov_b @ root
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh((inner + inner.T) / 2), 0)).sum())


def _nuclear_norm(left: Matrix, right: Matrix) -> float:
    """With A = L'L and B = R'R the roots of the eigenvalues of A B are the singular values of L R'."""
    return float(np.linalg.svd(left @ right.T, compute_uv=False).sum())


def frechet_warnings(n: int, dim: int) -> tuple[str, ...]:
    """What must be printed beside a Fréchet distance of n images a side in `dim` dimensions."""
    if n <= dim:
        return (
            f"biased: {n} images a side span less than {dim} dimensions, so the fitted covariances are singular "
            "and the distance is dominated by N; compare it at equal N only",
        )
    if n < ROWS_AN_AXIS * dim:
        return (f"biased upward: {n} images a side in {dim} dimensions; compare it at equal N only",)
    return ()


@dataclass(frozen=True, slots=True)
class Axes:
    """The first principal axes of reference features: a space small enough for few images."""

    mean: Matrix  # (dim,)
    vectors: Matrix  # (dim, k), orthonormal columns, the largest variance first
    shares: Matrix  # (k,) of the reference's variance along each
    n: int  # reference rows

    @property
    def k(self) -> int:
        """How many axes."""
        return int(self.vectors.shape[1])

    def __str__(self) -> str:
        return f"first {self.k} principal axes ({self.shares.sum():.0%} of variance) of {self.n} training features"

    def project(self, features: NDArray[Any]) -> Matrix:
        """(n, dim) features as (n, k) coordinates. Raises InputError on other dimensions."""
        matrix = checked(features, "features", least=1)
        if matrix.shape[1] != len(self.mean):
            raise MismatchError(f"the axes are of {len(self.mean)}-d features, these have {matrix.shape[1]} dimensions")
        return np.asarray((matrix - self.mean) @ self.vectors)

    def first(self, k: int) -> Axes:
        """The first k of these axes."""
        if not 1 <= k <= self.k:
            raise InputError(f"{k} axes were asked of {self.k}")
        return Axes(self.mean, self.vectors[:, :k], self.shares[:k], self.n)


def principal_axes(training: NDArray[Any], k: int) -> Axes:
    """The first k principal axes of *training* features: neither side of a comparison may choose its own space."""
    matrix = checked(training, "training features")
    limit = min(len(matrix) - 1, matrix.shape[1])
    if not 1 <= k <= limit:
        raise InputError(f"{k} principal axes were asked of {matrix.shape} training features; they give 1 to {limit}")
    every = every_axis(matrix)
    if every.k < k:
        raise InputError(f"the training features vary along fewer than {k} directions")
    return every.first(k)


def every_axis(training: NDArray[Any]) -> Axes:
    """All principal axes along which training features vary; several comparisons take their first ones of it."""
    matrix = checked(training, "training features")
    scaled = _scaled(matrix)
    wide = len(scaled) < scaled.shape[1]  # the smaller of the two Gram matrices has the same energies
    energy, vectors = np.linalg.eigh(scaled @ scaled.T if wide else scaled.T @ scaled)
    energy, vectors = energy[::-1], vectors[:, ::-1]
    k = int((energy > 1e-12 * energy[0]).sum()) if energy[0] > 0 else 0
    vectors = scaled.T @ vectors[:, :k] / np.sqrt(energy[:k]) if wide else vectors[:, :k]
    return Axes(matrix.mean(axis=0), vectors, energy[:k] / max(energy.sum(), np.finfo(float).tiny), len(matrix))


def frechet_along(axes: Axes, real: NDArray[Any], synthetic: NDArray[Any]) -> float:
    """Fréchet distance of the projections. Raises InputError where k is more than a tenth of either side's N."""
    smaller = min(len(real), len(synthetic))
    if axes.k * ROWS_AN_AXIS > smaller:
        raise InputError(
            f"{axes.k} principal axes need {axes.k * ROWS_AN_AXIS} images a side, found {smaller}; "
            f"take at most {smaller // ROWS_AN_AXIS} axes"
        )
    return frechet(axes.project(real), axes.project(synthetic))


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """The line frechet(N) = value + slope / N through distances of random subsets."""

    value: float  # at N = infinity
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_extrapolated(
    real: NDArray[Any], synthetic: NDArray[Any], *, points: int = 8, repeats: int = 4, seed: int = 0
) -> Extrapolation:
    """Fréchet distance freed of its leading bias (Chong and Forsyth 2020, FID-infinity; theirs is of one side's N).

    Both sides are cut to the same N. Raises InputError below 4 images a dimension, where the bias is not yet 1 / N.
    """
    first, second = checked_pair(real, synthetic)
    most, dim = min(len(first), len(second)), first.shape[1]
    if most < 4 * dim:
        raise InputError(f"extrapolating in {dim} dimensions needs {4 * dim} images a side, found {most}")
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(max(most // 4, 2 * dim), most, points).astype(int))
    means = [np.mean([_subset_frechet(first, second, n, rng) for _ in range(repeats)]) for n in sizes]
    slope, value = np.polyfit(1 / sizes, means, 1)
    return Extrapolation(float(value), float(slope), tuple(map(int, sizes)), tuple(map(float, means)))


def _subset_frechet(first: Matrix, second: Matrix, n: int, rng: np.random.Generator) -> float:
    return frechet(first[rng.permutation(len(first))[:n]], second[rng.permutation(len(second))[:n]])
