"""The law of the running average: what is left of the past halves every half-life of samples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from patchloom.training.ema import Average


def module_of(value: float) -> nn.Module:
    module = nn.Linear(2, 3)
    nn.init.constant_(module.weight, value)
    nn.init.constant_(module.bias, value)
    return module


@given(batch=st.sampled_from([1, 4, 16, 64]), lives=st.integers(1, 4))
def test_the_distance_halves_every_half_life_whatever_the_batch(batch: int, lives: int) -> None:
    average, module, late = Average(module_of(0.0), half_life=64.0), module_of(1.0), 10_000
    for _ in range(64 * lives // batch):
        average.update(module, late, batch)
    for value in average.module.parameters():
        assert value.flatten().tolist() == pytest.approx([1 - 0.5**lives] * value.numel(), rel=1e-5)


def test_early_on_the_half_life_is_a_tenth_of_what_was_seen() -> None:
    average = Average(module_of(0.0), half_life=1e6)
    average.update(module_of(1.0), seen=100, batch=10)
    assert float(average.module.weight[0, 0]) == pytest.approx(0.5)  # type: ignore[index]


def test_constants_stay_and_the_average_takes_no_gradient() -> None:
    module = nn.BatchNorm1d(2)
    average = Average(module, half_life=1.0)
    assert module.running_mean is not None
    module.running_mean += 5
    average.update(module, 1000, 1000)
    assert torch.equal(average.module.running_mean, torch.zeros(2))  # type: ignore[arg-type]
    assert not any(p.requires_grad for p in average.module.parameters())
