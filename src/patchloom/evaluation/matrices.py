"""Feature matrices (n, dim): what is refused, and distances between many rows without an (n, n, dim) array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError, MismatchError

Matrix: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.intp]
Groups: TypeAlias = NDArray[Any]
"""One label a row: rows of one label (field, patient, place) are not independent of one another."""

BLOCK = 1024  # rows at a time in pairwise work: 8 MiB of float64 for a block against a block

_ROUNDING = 1e-13


def checked(features: NDArray[Any], what: str, least: int = 2) -> Matrix:
    """The matrix in float64. Raises InputError unless it is (n >= least, dim >= 1) and finite."""
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise InputError(f"{what}: expected a matrix (images, dimensions), found shape {matrix.shape}")
    if len(matrix) < least:
        raise InputError(f"{what}: {len(matrix)} images are too few, at least {least} are needed")
    bad = ~np.isfinite(matrix).all(axis=1)
    if bad.any():
        raise InputError(
            f"{what}: {int(bad.sum())} of {len(matrix)} rows hold NaN or infinity, the first is row "
            f"{int(np.argmax(bad))}; look at that image and at the encoder's dtype"
        )
    return matrix


def checked_pair(real: NDArray[Any], synthetic: NDArray[Any], least: int = 2) -> tuple[Matrix, Matrix]:
    """Both matrices, checked, of one width. Raises InputError (MismatchError for unequal dimensions)."""
    first, second = checked(real, "real features", least), checked(synthetic, "synthetic features", least)
    if first.shape[1] != second.shape[1]:
        raise MismatchError(
            f"real features have {first.shape[1]} dimensions, synthetic ones {second.shape[1]}; "
            "measure both sides with the same encoder"
        )
    return first, second


def checked_groups(groups: Groups | None, n: int) -> Groups | None:
    """The labels, or None. Raises InputError unless there is one for each of n rows."""
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise InputError(f"{n} rows need {n} group labels, found an array of shape {labels.shape}")
    return labels


def groups_among(labels: Groups | None, rows: Rows) -> Groups | None:
    """The labels of some rows; None where they are all of one group, so that the rows themselves must be drawn."""
    some = None if labels is None else np.asarray(labels)[rows]
    return some if some is not None and len(np.unique(some)) > 1 else None


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices of at most `size` rows that cover n."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def distances(queries: Matrix, others: Matrix) -> Iterator[tuple[slice, Matrix]]:
    """Euclidean distances of each block of queries to all others: (slice, (block, len(others)))."""
    centre = others.mean(axis=0)  # |a|^2 + |b|^2 - 2ab loses digits far from the origin
    left, right = queries - centre, others - centre
    right_norms = np.einsum("nd,nd->n", right, right)
    for part in blocks(len(left)):
        rows = left[part]
        norms = np.einsum("nd,nd->n", rows, rows)[:, None] + right_norms
        squared = norms - 2 * rows @ right.T
        squared[squared < _ROUNDING * norms] = 0  # equal rows are at distance 0, not at that of the rounding
        yield part, np.sqrt(squared)


def unit_rows(matrix: Matrix) -> Matrix:
    """Rows scaled to length 1. Raises InputError for a row of zeros, which has no direction."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not lengths.all():
        raise InputError(f"row {int(np.argmin(lengths))} of the features is all zeros: its cosine is undefined")
    return np.asarray(matrix / lengths)
