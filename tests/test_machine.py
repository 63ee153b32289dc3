"""Where networks run: names, refusals, and a calibration that gives one answer."""

from __future__ import annotations

import time

import pytest
import torch

from patchloom.errors import InputError
from patchloom.machine import DTYPES, choose_device, choose_dtype, fastest, resident_bytes

CPU = torch.device("cpu")


def test_auto_is_a_device_that_works() -> None:
    assert torch.ones(2, device=choose_device()).sum().item() == 2


def test_resident_memory_is_counted_in_the_system_s_own_unit() -> None:
    assert (resident_bytes(3, "linux"), resident_bytes(3, "darwin")) == (3072, 3)


def test_a_named_device() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["tpu", "cpu:x", "", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"device `{name}` cannot be used here"):
        choose_device(name)


def test_an_unknown_device_is_said_in_few_words() -> None:
    with pytest.raises(InputError) as caught:
        choose_device("gpu")
    said = "device `gpu` cannot be used here: there is none of that name. Take auto, cpu, cuda, cuda:1 or mps"
    assert str(caught.value) == said


@pytest.mark.parametrize("name", DTYPES)
def test_a_named_precision(name: str) -> None:
    assert choose_dtype(name, CPU) is DTYPES[name]


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="precision `fp64` is none of auto, fp32, bf16, fp16"):
        choose_dtype("fp64", CPU)


def test_the_calibration_is_short_and_repeats() -> None:
    fastest.cache_clear()
    started = time.process_time()
    first = choose_dtype("auto", CPU)
    assert time.process_time() - started < 5
    fastest.cache_clear()
    assert choose_dtype("auto", CPU) is first
