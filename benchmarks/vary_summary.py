"""What the pieces of `vary_classifier.py` say: means over seeds, and paired differences with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.evaluation.intervals import centred, resampled_counts
from patchloom.evaluation.matrices import Rows
from patchloom.evaluation.probe_labelled import Labelled

REPEATS = 1000


@dataclass(frozen=True, slots=True)
class Piece:
    """One draw of training images, as one arm, judged by one classifier: what a file in `pieces` holds."""

    fraction: float
    seed: int
    classifier: str
    arm: str
    told: dict[str, Any]  # everything else that decides
    real: int  # images drawn
    synthetic: int  # variations, or views
    right: list[int]  # 1 where the image that was asked about was told rightly


def summary(pieces: Sequence[Piece], labelled: Labelled) -> Iterator[dict[str, Any]]:
    """A row for each fraction and classifier: means over seeds, and differences from `real` with their intervals."""
    test = ~labelled.train
    truth, groups = labelled.numbers[test], labelled.groups[test]
    for fraction, classifier in dict.fromkeys((piece.fraction, piece.classifier) for piece in pieces):
        some = [piece for piece in pieces if (piece.fraction, piece.classifier) == (fraction, classifier)]
        arms = {arm: [piece for piece in some if piece.arm == arm] for arm in dict.fromkeys(one.arm for one in some)}
        right = {arm: np.array([piece.right for piece in rows], dtype=float) for arm, rows in arms.items()}
        row = {"fraction": fraction, "classifier": classifier, "seeds": len(right["real"]), "judged": int(test.sum())}
        row |= {"real images": some[0].real, "beside them": {arm: rows[0].synthetic for arm, rows in arms.items()}}
        for what, weight in weights(truth).items():
            row |= {f"{what}, {arm}": float((found @ weight).mean()) for arm, found in right.items()}
            for one, other in compared(list(arms)):
                row[f"{what}, {one} minus {other}"] = difference(right[one] - right[other], weight, groups)
        yield row


def compared(arms: list[str]) -> list[tuple[str, str]]:
    """Every arm with `real`, and `both` with the views of real images where they are there."""
    pairs = [(arm, "real") for arm in arms if arm != "real"]
    return [*pairs, ("both", "views")] if {"both", "views"} <= set(arms) else pairs


def weights(truth: Rows) -> dict[str, NDArray[np.float64]]:
    """What a test image weighs in accuracy, and in balanced accuracy."""
    counts = np.bincount(truth)
    return {"accuracy": np.full(len(truth), 1 / len(truth)), "balanced": 1 / counts[truth] / (counts > 0).sum()}


def difference(gained: NDArray[np.float64], weight: NDArray[np.float64], groups: NDArray[Any]) -> dict[str, float]:
    """The weighted mean of gains (seeds, test images), its interval over seeds and test groups drawn again."""
    rng = np.random.default_rng(0)
    draws = []
    for counts in resampled_counts(gained.shape[1], REPEATS, 0, groups):
        seeds = rng.integers(len(gained), size=len(gained))
        share = counts * weight
        draws.append(float((gained[seeds] @ share).mean() / share.sum()))
    value = float((gained @ weight).mean())
    interval = centred(value, draws, 0.95, "seeds and test groups drawn again")
    return {"value": value, "low": interval.low, "high": interval.high}
