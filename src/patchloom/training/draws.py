"""The random numbers of one step, and when it comes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import sha256

import torch


@dataclass(frozen=True, slots=True)
class Draws:
    """Tensors of numbers are drawn on the device, single choices on the host.

    A choice that steers Python and is drawn on a GPU makes the host wait for all the work that it has queued.
    """

    device: torch.Generator
    host: random.Random
    seen: int = 0  # samples before this step, over every process

    @classmethod
    def seeded(cls, device: torch.device, *numbers: int, seen: int = 0) -> Draws:
        """The draws that belong to these numbers, such as seed, step and rank."""
        seed = int.from_bytes(sha256(repr(numbers).encode()).digest()[:8]) >> 1
        return cls(torch.Generator(device).manual_seed(seed), random.Random(seed), seen)
