"""Where networks run and in which precision: what `--device` and `--dtype` mean."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from patchloom.errors import InputError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Processors with matrix units run bfloat16 about three times as fast as float32, others slower than it. A threshold
# far from both gives one answer on one machine, however busy it is: another would be another picture.
_WORTH = 1.5
_ROUNDS = 5


def resident_bytes(ru_maxrss: int, platform: str = sys.platform) -> int:
    """The bytes that `resource.getrusage` means: Linux counts KiB, macOS bytes."""
    return ru_maxrss * (1 if platform == "darwin" else 1024)


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; `auto` is CUDA where there is one, then Apple's MPS, then the CPU.

    Under torchrun each process takes the CUDA device of its own number.

    Raises InputError for what is no device, or is not there.
    """
    if name == "auto" and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if name == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:  # torch's own message lists every kind of device that it has heard of
        raise _unusable(name, "there is none of that name") from None
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise _unusable(name, str(error).partition("\n")[0]) from None
    return device


def _unusable(name: str, reason: str) -> InputError:
    return InputError(f"device `{name}` cannot be used here: {reason}. Take auto, cpu, cuda, cuda:1 or mps")


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision called `name` (auto, fp32, bf16, fp16); `auto` is the faster of fp32 and bf16 on the device.

    Raises InputError for a name that is none of these.
    """
    if name == "auto":
        return fastest(device)
    if name not in DTYPES:
        raise InputError(f"precision `{name}` is none of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


@cache
def fastest(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes it clearly faster than float32, else float32.

    CUDA devices are asked what they are; others time a convolution, which takes a few tenths of a second.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    try:
        return torch.bfloat16 if _speed_up(device) > _WORTH else torch.float32
    except RuntimeError:  # a device without bfloat16
        return torch.float32


def _speed_up(device: torch.device) -> float:
    """How many times faster a convolution is in bfloat16; the best of some rounds, taken in turns."""
    layer = nn.Conv2d(128, 128, 3, padding=1).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.ones(4, 128, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    times = [(_seconds(layer, x, torch.float32), _seconds(layer, x, torch.bfloat16)) for _ in range(_ROUNDS + 1)]
    full, half = zip(*times[1:], strict=True)  # the first round warms up
    return float(min(full) / min(half))


def _seconds(layer: Callable[[Tensor], Tensor], x: Tensor, dtype: torch.dtype) -> float:
    half = dtype is not torch.float32
    with torch.no_grad(), torch.autocast(x.device.type, dtype, enabled=half):
        started = time.perf_counter()
        layer(x).sum().item()
        return time.perf_counter() - started
