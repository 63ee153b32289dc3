"""Made patches beside the training patches that they come nearest to: no figure of memorisation is believed unseen."""

from __future__ import annotations

import numpy as np

from patchloom.evaluation.html import Beside
from patchloom.evaluation.memorisation import Memorisation
from patchloom.evaluation.patches import Patches

_PAIRS = 6


def nearest_pairs(found: Memorisation, made: Patches, training: Patches, network: str) -> Beside:
    """The few made patches that are nearest to the training set in a network's space, nearest first."""
    numbers = np.argsort(found.away, kind="stable")[:_PAIRS]
    ours = np.concatenate([made.read(int(number)) for number in numbers], axis=2)
    theirs = np.concatenate([training.read(int(found.nearest[number])) for number in numbers], axis=2)
    away = ", ".join(f"{found.away[number]:.3g}" for number in numbers)
    title = f"Made patches nearest to a training patch in {network}, at a distance of {away}"
    return Beside(title, (("made from its embeddings", ours), ("the nearest training patch", theirs)))
