"""Labels by the vote of the nearest labelled pictures: what an embedding knows with nothing trained on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.evaluation.matrices import Matrix, Rows, checked_pair, unit_rows

NEIGHBOURS = 20
_TEMPERATURE = 0.07


def vote(
    training: NDArray[Any], labels: Rows, queries: NDArray[Any], classes: int, neighbours: int = NEIGHBOURS
) -> Matrix:
    """Votes (queries, classes) of the nearest training rows by cosine, each weighing exp(cosine / 0.07).

    Wu et al. (2018), "Unsupervised feature learning via non-parametric instance discrimination", section 3.4, as DINO
    is judged. Where there are fewer training rows than neighbours, all vote. Raises InputError for a row of zeros.
    """
    known, asked = checked_pair(training, queries, least=1)
    if labels.shape != (len(known),):
        raise InputError(f"{len(known)} training rows need as many labels, found {labels.shape}")
    cosine = unit_rows(asked) @ unit_rows(known).T
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, : min(neighbours, len(known))]
    weights = np.exp((np.take_along_axis(cosine, nearest, axis=1) - 1) / _TEMPERATURE)
    votes = np.zeros((len(asked), classes))
    np.add.at(votes, (np.arange(len(asked))[:, None], labels[nearest]), weights)
    return votes
