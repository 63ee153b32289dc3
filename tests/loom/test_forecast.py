"""A forecast asks for one batch of each kind and counts the rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count
from math import ceil

import numpy as np
import pytest
import torch
from tests.loom.test_decode import Convolutions
from tests.loom.test_memory import Small
from tests.loom.test_orders import PLANS, Counting, run, stages

from patchloom.fields.field import ArrayField
from patchloom.geometry import Box, Frame
from patchloom.loom.figures import cone
from patchloom.loom.forecast import forecast, peak_memory
from patchloom.loom.keep import Kept
from patchloom.loom.plan import Plan


@dataclass
class Clock:
    """Each look at it takes a second."""

    ticks: count[int] = field(default_factory=count)

    def __call__(self) -> float:
        return float(next(self.ticks))


def test_every_batch_is_counted_and_few_are_made() -> None:
    counting = Counting()
    one = run(denoiser=counting, batch=3, stages=stages("dpmpp-2m", 6))
    found = forecast(one, decoder(), clock=Clock())
    denoising = sum(ceil(len(lattice) / 3) for lattice in one.lattices)
    assert found.seconds == denoising + 1  # and a batch of the one tile
    # Two calls a kind: noise alone, a state of two planes, in windows of one shape.
    assert len(counting.shapes) == 4
    assert found.portion is None


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_region_costs_its_cone(plan: Plan) -> None:
    box = Box(10, 10, 8, 8)
    one = run(plan=plan, batch=2)
    found = forecast(one, decoder(), box, clock=Clock())
    assert found.seconds == sum(ceil(len(windows) / 2) for windows in cone(one.lattices, box)) + 1


def test_what_is_kept_costs_nothing() -> None:
    earlier = Kept(ArrayField(np.zeros((2, 50, 43), np.float32)), Box(0, 0, 4, 4))
    one = run(batch=1)
    assert forecast(replace(one, kept=earlier), decoder(), clock=Clock()).seconds < 0.5 * sum(map(len, one.lattices))


def test_a_batch_that_does_not_fit_is_found_before_the_run() -> None:
    assert forecast(run(denoiser=Small(3), batch=8), decoder(), clock=Clock()).portion == 2


def test_memory_grows_with_the_width_and_not_with_the_height() -> None:
    def held(height: int, width: int) -> int:
        one = run(latents=Frame(height, width, 2, "float32"), stages=stages("euler", 1))
        return forecast(one, decoder(), clock=Clock()).peak_memory_bytes - peak_memory(one.device)

    assert held(300, 200) == pytest.approx(held(200, 200), rel=0.5)
    assert held(200, 300) >= 1.4 * held(200, 200)
    assert peak_memory(torch.device("cpu")) > 10_000_000


def decoder() -> Convolutions:
    made = Convolutions(channels=2)
    made.layers[0] = torch.nn.Conv2d(2, 8, 3, padding=1)
    return made
