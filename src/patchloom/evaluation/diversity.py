"""How much an embedding leaves open: several images of one embedding against images of different ones.

A condition that dictates everything gives the same image for every seed. The figure is the share of the images'
variance in feature space that is found between seeds of one cell: 0 where the condition dictates all, 1 where it says
nothing. Real images beside it (several real patches of nearly one embedding) say what a good value would be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.evaluation.estimates import Estimate
from patchloom.evaluation.intervals import LEVEL, bootstrap
from patchloom.evaluation.matrices import Groups, Matrix, Rows, unit_rows


@dataclass(frozen=True, slots=True)
class Diversity:
    """Seeds of one cell against pairs of different cells. N is (cells, seeds a cell)."""

    share: Estimate  # mean squared distance of two seeds of one cell over that of images of two cells
    same_cell: float  # mean cosine of two seeds of one cell
    different_cells: float  # mean cosine of images of two cells


def diversity(
    features: NDArray[Any],
    *,
    repeats: int = 500,
    level: float = LEVEL,
    seed: int = 0,
    groups: Groups | None = None,
) -> Diversity:
    """Of features (cells, seeds, dim); the interval is over cells, or over groups of them.

    Raises InputError below two cells or two seeds, and for NaN. Features of different cells that are all equal have
    no variance to share out: InputError too.
    """
    cube = np.asarray(features, dtype=np.float64)
    if cube.ndim != 3 or min(cube.shape[:2]) < 2:
        raise InputError(f"diversity takes features (cells, seeds, dim), two or more of each; found shape {cube.shape}")
    if not np.isfinite(cube).all():
        raise InputError(f"features of cell {int(np.argwhere(~np.isfinite(cube))[0, 0])} hold NaN or infinity")
    cells, seeds, dim = cube.shape
    within, between = _squared_distances(cube)
    if between.sum() == 0:
        raise InputError("images of different cells have equal features: there is no variance to share out")
    found = bootstrap(
        lambda rows: _share(within, between, rows), cells, repeats=repeats, level=level, seed=seed, groups=groups
    )
    units = unit_rows(cube.reshape(-1, dim)).reshape(cube.shape)
    near, far = _squared_distances(units)
    apart = float(far.sum() / (cells * (cells - 1)))
    share = Estimate(found.value, (cells, seeds), found.interval, how="variance between seeds over variance of all")
    return Diversity(share, 1 - float(near.mean()) / 2, 1 - apart / 2)


def _squared_distances(cube: Matrix) -> tuple[Matrix, Matrix]:
    """Mean squared distances: (cells,) of two seeds of a cell, and (cells, cells) of images of two cells."""
    seeds = cube.shape[1]
    cube = cube - cube.mean(axis=(0, 1))
    means = cube.mean(axis=1)
    scatter = ((cube - means[:, None]) ** 2).sum(axis=(1, 2)) / seeds
    norms = (means**2).sum(axis=1)
    apart = np.maximum(norms[:, None] + norms - 2 * means @ means.T, 0) + scatter[:, None] + scatter
    np.fill_diagonal(apart, 0)
    return 2 * scatter * seeds / (seeds - 1), apart


def _share(within: Matrix, between: Matrix, rows: Rows) -> float:
    """A cell drawn twice makes no pair with itself: its pairs are left out of the count as they are of the sum."""
    counts = np.bincount(rows, minlength=len(within)).astype(np.float64)
    pairs = counts.sum() ** 2 - (counts**2).sum()
    apart = counts @ between @ counts / max(pairs, 1)
    return float(within[rows].mean() / apart) if apart > 0 else float("nan")
