"""How far an image follows the grid of embeddings that it was made from, cell by cell.

A cosine of pooled features is high even between strangers, so beside it stand the floor (the same images against other
cells of the same grid), the ceiling (the reference through the autoencoder alone), the share of the way from one to
the other, and retrieval: how often a cell's own image is nearer to it than other cells are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.estimates import Estimate
from patchloom.evaluation.intervals import LEVEL, REPEATS, mean, ratio_of_means
from patchloom.evaluation.matrices import Groups, Matrix, blocks, checked, checked_groups, unit_rows
from patchloom.grids.grid import EmbeddingGrid


@dataclass(frozen=True, slots=True)
class Cosines:
    """Mean cosines of the same cells in one view (raw, or centred by the grid's mean), and where they stand."""

    value: Estimate
    floor: float  # mean cosine of a generated cell with every *other* cell of the reference: exact, nothing is drawn
    ceiling: Estimate | None  # None where no reconstruction was given
    share: Estimate | None  # (value - floor) / (ceiling - floor); None without a ceiling above the floor


@dataclass(frozen=True, slots=True)
class Similarity:
    """How far generated cells follow their grid. N is the number of cells, the same for every part."""

    raw: Cosines
    centred: Cosines
    retrieval_auc: Estimate  # chance that a generated cell is nearer to its own cell than to another one (centred)
    first_hit: Estimate  # share of generated cells whose nearest reference cell is their own (centred)
    n: int


def similarity(
    reference: NDArray[Any],
    generated: NDArray[Any],
    reconstructed: NDArray[Any] | None = None,
    *,
    groups: Groups | None = None,
    repeats: int = REPEATS,
    level: float = LEVEL,
    seed: int = 0,
) -> Similarity:
    """Compare (n, dim) embeddings of the same n cells, row by row; `reconstructed` is the reference's own ceiling.

    Neighbouring cells are not independent: give `blocks_of_cells` as groups. Raises InputError (MismatchError where
    the matrices differ in shape).
    """
    own = checked(reference, "reference cells", least=3)
    sides = [checked(generated, "generated cells"), own]
    if reconstructed is not None:
        sides.append(checked(reconstructed, "reconstructed cells"))
    if any(side.shape != own.shape for side in sides):
        shapes = ", ".join(str(side.shape) for side in sides)
        raise MismatchError(f"a similarity compares the same cells in one encoder; found shapes {shapes}")
    checked_groups(groups, len(own))
    centre = own.mean(axis=0)
    options = _Options(groups, repeats, level, seed)
    raw = _cosines([unit_rows(side) for side in sides], options)
    directions = [unit_rows(side - centre) for side in sides]
    auc, hits = _retrieval(directions[0], directions[1])
    return Similarity(raw, _cosines(directions, options), options.mean(auc), options.mean(hits), len(own))


@dataclass(frozen=True, slots=True)
class _Options:
    groups: Groups | None
    repeats: int
    level: float
    seed: int

    def mean(self, values: Matrix) -> Estimate:
        return mean(values, groups=self.groups, repeats=self.repeats, level=self.level, seed=self.seed)

    def ratio(self, top: Matrix, bottom: Matrix) -> Estimate:
        return ratio_of_means(top, bottom, groups=self.groups, repeats=self.repeats, level=self.level, seed=self.seed)


def _cosines(sides: list[Matrix], options: _Options) -> Cosines:
    generated, reference, *rest = sides
    same = np.einsum("nd,nd->n", generated, reference)
    others = (generated @ reference.sum(axis=0) - same) / (len(reference) - 1)
    value, floor = options.mean(same), float(others.mean())
    if not rest:
        return Cosines(value, floor, None, None)
    best = np.einsum("nd,nd->n", rest[0], reference)
    share = options.ratio(same - others, best - others) if best.mean() > floor else None
    return Cosines(value, floor, options.mean(best), share)


def _retrieval(generated: Matrix, reference: Matrix) -> tuple[Matrix, Matrix]:
    """Of each generated cell: the share of others less like it than its own (ties half), and whether all are."""
    n = len(reference)
    auc, hits = np.empty(n), np.empty(n)
    for part in blocks(n):
        cosines = generated[part] @ reference.T
        own = cosines[np.arange(len(cosines)), np.arange(part.start, part.stop)][:, None]
        below, ties = (cosines < own).sum(axis=1), (cosines == own).sum(axis=1) - 1
        auc[part] = (below + ties / 2) / (n - 1)
        hits[part] = below == n - 1
    return auc, hits


def grid_similarity(
    reference: EmbeddingGrid,
    generated: EmbeddingGrid,
    reconstructed: EmbeddingGrid | None = None,
    *,
    block_cells: int = 2,
    repeats: int = REPEATS,
    level: float = LEVEL,
    seed: int = 0,
) -> Similarity:
    """`similarity` of the cells that are valid in every grid; the interval is over squares of `block_cells` a side.

    The grids must be of the same cells of one canvas. Raises MismatchError for other sizes or another encoder,
    InputError where fewer than three cells are valid in all.
    """
    grids = [reference, generated] if reconstructed is None else [reference, generated, reconstructed]
    for grid in grids[1:]:
        _check_alike(reference, grid)
    valid = np.logical_and.reduce([grid.valid for grid in grids])
    if valid.sum() < 3:
        raise InputError(f"only {int(valid.sum())} cells are valid in all {len(grids)} grids; a similarity needs three")
    groups = blocks_of_cells(valid.shape[0], valid.shape[1], block_cells)[valid]
    cells = [np.asarray(grid.embeddings)[valid] for grid in grids]
    found = len(np.unique(groups)) > 1
    return similarity(*cells, groups=groups if found else None, repeats=repeats, level=level, seed=seed)


def _check_alike(reference: EmbeddingGrid, other: EmbeddingGrid) -> None:
    one, two = reference.encoder, other.encoder
    if (one.name, one.digest) != (two.name, two.digest):
        raise MismatchError(
            f"the reference grid is of encoder `{one.name}` ({one.digest:.19}), the other of `{two.name}` "
            f"({two.digest:.19}); embed both with the same encoder"
        )
    places = [(*grid.valid.shape, grid.cell_px, grid.stride_px) for grid in (reference, other)]
    if places[0] != places[1] or not reference.pixel_size.agrees(other.pixel_size):
        words = " against ".join(f"{r} x {c} cells of {px} px every {step} px" for r, c, px, step in places)
        raise MismatchError(
            f"two grids are not of the same cells: {words}, pixels of {reference.pixel_size} against {other.pixel_size}"
        )


def blocks_of_cells(rows: int, cols: int, side: int) -> NDArray[np.intp]:
    """(rows, cols) labels of squares of `side` cells, the units in which neighbouring cells are resampled."""
    down, across = np.arange(rows) // side, np.arange(cols) // side
    return np.asarray(down[:, None] * (across.max() + 1) + across[None, :])
