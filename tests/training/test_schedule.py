"""Order of the data and learning rate: laws for any length, batch and length of run."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchloom.errors import InputError
from patchloom.training.checkpoint import Progress
from patchloom.training.config import Optimisation
from patchloom.training.schedule import order, rate


@given(length=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 5))
def test_every_epoch_shows_every_datum_once(length: int, batch: int, seed: int) -> None:
    steps = -(-3 * length // batch)
    shown = torch.cat([order(length, seed, step * batch, batch) for step in range(steps)])
    assert len(shown) == steps * batch
    for epoch in torch.split(shown[: 3 * length], length):
        assert epoch.sort().values.tolist() == list(range(length))


@given(seen=st.integers(0, 200), first=st.integers(1, 30), second=st.integers(1, 30))
def test_the_order_does_not_depend_on_the_batch(seen: int, first: int, second: int) -> None:
    whole = order(17, 3, seen, first + second)
    parts = [order(17, 3, seen, first), order(17, 3, seen + first, second)]
    assert torch.equal(whole, torch.cat(parts))


def test_epochs_and_seeds_differ() -> None:
    first, second, other = order(50, 0, 0, 50), order(50, 0, 50, 50), order(50, 1, 0, 50)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_nothing_to_train_on_is_said() -> None:
    with pytest.raises(InputError, match="nothing to train on"):
        order(0, 0, 0, 4)


def test_the_rate_warms_up_and_stays() -> None:
    plan = Optimisation(1000, rate=0.5, warmup=10)
    assert [rate(plan, Progress(step=step)) for step in (0, 4, 9, 500)] == pytest.approx([0.05, 0.25, 0.5, 0.5])


def test_the_rate_falls_to_zero_as_half_a_cosine() -> None:
    plan = Optimisation(1000, rate=0.5, warmup=0, decay="cosine")
    places = [Progress(seen=seen, step=99) for seen in (0, 500, 1000)]
    assert [rate(plan, place) for place in places] == pytest.approx([0.5, 0.25, 0.0])
