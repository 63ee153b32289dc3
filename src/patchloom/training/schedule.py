"""What is seen when, and how fast is learned: pure functions of how far a run has come."""

from __future__ import annotations

from functools import lru_cache
from math import cos, pi

import torch
from torch import Tensor

from patchloom.errors import InputError
from patchloom.training.checkpoint import Progress
from patchloom.training.config import Optimisation

CPU = torch.device("cpu")


def order(length: int, seed: int, seen: int, batch: int, device: torch.device = CPU) -> Tensor:
    """The data of the next batch (batch,): epochs are permutations, one after another, whatever the processes.

    Raises InputError where there is nothing to train on.
    """
    if length == 0:
        raise InputError("there is nothing to train on: the dataset has no plot in split `train`")
    parts: list[Tensor] = []
    while batch:
        epoch, place = divmod(seen, length)
        part = _permutation(length, seed * 1_000_003 + epoch, device)[place : place + batch]
        parts.append(part)
        seen, batch = seen + len(part), batch - len(part)
    return torch.cat(parts)


@lru_cache(maxsize=2)
def _permutation(length: int, seed: int, device: torch.device) -> Tensor:
    """Shuffled on the host, where every kind of device gives one order, and kept where the data is."""
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed)).to(device)


def rate(plan: Optimisation, progress: Progress) -> float:
    """The learning rate of the next step."""
    warm = min((progress.step + 1) / max(plan.warmup, 1), 1.0)
    if plan.decay == "constant":
        return plan.rate * warm
    return plan.rate * warm * (0.5 + 0.5 * cos(pi * min(progress.seen / plan.samples, 1.0)))
