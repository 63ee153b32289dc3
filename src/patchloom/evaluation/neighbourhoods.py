"""Precision, recall, density and coverage: which samples lie near which, by k-th neighbour radii.

Precision and recall after Kynkäänniemi et al. (2019), density and coverage after Naeem et al. (2020). A ball holds its
border, so two equal sets have precision, recall and coverage 1 even where images repeat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.evaluation.matrices import Matrix, checked_pair, distances

PRECISION_NEIGHBOURS = 3  # as in the first paper
DENSITY_NEIGHBOURS = 5  # as in the second


@dataclass(frozen=True, slots=True)
class Neighbourhoods:
    """One value an image; each figure is the mean of one of these, so its interval is that of a mean.

    Such an interval holds the other side fixed: it says nothing about another choice of that side's images.
    """

    precise: Matrix  # (synthetic,) 1 where the image lies in some real ball
    recalled: Matrix  # (real,) 1 where the image lies in some synthetic ball
    dense: Matrix  # (synthetic,) real balls around the image, over k
    covered: Matrix  # (real,) 1 where the image's ball holds a synthetic image

    @property
    def precision(self) -> float:
        """Share of synthetic images among the real ones."""
        return float(self.precise.mean())

    @property
    def recall(self) -> float:
        """Share of real images among the synthetic ones."""
        return float(self.recalled.mean())

    @property
    def density(self) -> float:
        """Mean count of real balls around a synthetic image, over k; above 1 where they crowd into dense places."""
        return float(self.dense.mean())

    @property
    def coverage(self) -> float:
        """Share of real images with a synthetic one among their nearest neighbours."""
        return float(self.covered.mean())


def neighbourhoods(
    real: NDArray[Any],
    synthetic: NDArray[Any],
    *,
    precision_neighbours: int = PRECISION_NEIGHBOURS,
    density_neighbours: int = DENSITY_NEIGHBOURS,
) -> Neighbourhoods:
    """All four, of (n, dim) and (m, dim) features. All depend on N: compare at equal N only.

    Raises InputError where a side has no more images than neighbours were asked.
    """
    first, second = checked_pair(real, synthetic)
    narrow, wide = radii(first, precision_neighbours), radii(first, density_neighbours)
    reach = radii(second, precision_neighbours)
    precise, dense = np.zeros(len(second)), np.zeros(len(second))
    recalled, covered = np.zeros(len(first)), np.zeros(len(first))
    for part, away in distances(second, first):
        precise[part] = (away <= narrow).any(axis=1)
        dense[part] = (away <= wide).sum(axis=1) / density_neighbours
        covered = np.maximum(covered, (away <= wide).any(axis=0))
        recalled = np.maximum(recalled, (away <= reach[part][:, None]).any(axis=0))
    return Neighbourhoods(precise, recalled, dense, covered)


def radii(features: Matrix, k: int) -> Matrix:
    """Distance of each row to its k-th nearest other row."""
    if not 1 <= k < len(features):
        raise InputError(f"{k} nearest neighbours were asked of {len(features)} images; take k from 1 to N - 1")
    found = np.empty(len(features))
    for part, away in distances(features, features):
        away[np.arange(len(away)), np.arange(part.start, part.stop)] = np.inf
        found[part] = np.partition(away, k - 1, axis=1)[:, k - 1]
    return found
