"""A linear probe: multinomial logistic regression on frozen embeddings, its strength chosen on training groups alone.

Also used by benchmarks that ask what synthetic training images are worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from patchloom.errors import InputError
from patchloom.evaluation.matrices import Groups, Matrix, Rows, checked, checked_pair

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)  # of the penalty on weights, strongest first
FOLDS = 3
_ITERATIONS = 100


def standardised(training: NDArray[Any], *others: NDArray[Any]) -> tuple[Matrix, ...]:
    """Matrices by the mean and deviation of the training rows, over the root of their width.

    So one strength of the penalty means the same in every encoder. A dimension that never varies becomes 0.
    """
    known = checked(training, "training features", least=2)
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    scale = np.where(deviation > 1e-9 * (1 + np.abs(mean)), deviation, np.inf) * np.sqrt(known.shape[1])
    return tuple((checked_pair(known, rows, least=1)[1] - mean) / scale for rows in (training, *others))


def linear_scores(
    training: NDArray[Any],
    labels: Rows,
    queries: NDArray[Any],
    classes: int,
    strength: float,
    shares: NDArray[np.float64] | None = None,
) -> Matrix:
    """Scores (queries, classes) of a logistic regression on standardised training rows and their labels 0 to classes.

    Minimises the mean cross-entropy plus `strength` / 2 times the squared weights, by L-BFGS from zero in float64.
    In the mean, rows count by their `shares` (n,), by default all alike.
    """
    known, asked = standardised(training, queries)
    if len(known) < known.shape[1]:  # the solution lies in the span of the rows: fewer axes, the same answer
        axes = np.linalg.svd(known, full_matrices=False)[2]
        known, asked = known @ axes.T, asked @ axes.T
    counted = np.ones(len(known)) if shares is None else shares
    row_shares = torch.from_numpy(counted / counted.sum())
    weights, bias = _fitted(torch.from_numpy(known), torch.from_numpy(labels), row_shares, classes, strength)
    return asked @ weights + bias


def chosen_strength(
    training: NDArray[Any],
    labels: Rows,
    groups: Groups,
    classes: int,
    shares: NDArray[np.float64] | None = None,
    judged: NDArray[np.bool_] | None = None,
) -> float:
    """The strength with the best balanced accuracy on held-out groups of the training rows; of equals the strongest.

    `shares` as in `linear_scores`; only rows that are `judged` count in the accuracy, by default all.
    """
    parts = list(folds(labels, groups))
    counted = np.ones(len(labels)) if shares is None else shares
    asked = np.ones(len(labels), dtype=bool) if judged is None else judged

    def reached(strength: float) -> float:
        guesses = np.empty(len(labels), dtype=np.intp)
        for held in parts:
            known = training[~held], labels[~held]
            scores = linear_scores(*known, training[held], classes, strength, counted[~held])
            guesses[held] = scores.argmax(axis=1)
        return balanced_accuracy((guesses == labels)[asked], labels[asked])

    return max(STRENGTHS, key=reached)


def folds(labels: Rows, groups: Groups, count: int = FOLDS) -> Iterator[NDArray[np.bool_]]:
    """Masks of held-out rows: whole groups, every row once, each label spread over the folds as evenly as can be.

    Raises InputError where there are fewer than two groups.
    """
    names, member = np.unique(groups, return_inverse=True)
    count = min(count, len(names))
    if count < 2:
        raise InputError(f"held-out groups need at least two groups, found {len(names)}")
    held: NDArray[np.int64] = np.zeros((count, int(labels.max()) + 1), dtype=np.int64)
    fold = np.empty(len(names), dtype=np.intp)
    for group in np.argsort(-np.bincount(member), kind="stable"):  # the largest first
        counts = np.bincount(labels[member == group], minlength=held.shape[1])
        fold[group] = min(range(count), key=lambda k: (int(held[k] @ counts), int(held[k].sum())))
        held[fold[group]] += counts
    return (fold[member] == k for k in range(count))


def balanced_accuracy(right: NDArray[Any], labels: Rows) -> float:
    """The mean over labels of the share that is right; a label without a row does not count."""
    counts = np.bincount(labels)
    hits = np.bincount(labels, weights=right, minlength=len(counts))
    return float((hits[counts > 0] / counts[counts > 0]).mean())


def _fitted(
    rows: torch.Tensor, labels: torch.Tensor, shares: torch.Tensor, classes: int, strength: float
) -> tuple[Matrix, Matrix]:
    weights = torch.zeros(rows.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weights, bias], max_iter=_ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        solver.zero_grad()
        losses = functional.cross_entropy(rows @ weights + bias, labels, reduction="none")
        value = losses @ shares + strength / 2 * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        solver.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach().numpy(), bias.detach().numpy()
