"""How much of a GPU's peak a run takes: floating point operations counted once, over the peak that its maker states."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

# Dense 16-bit matrix products with sums in fp32, in TFLOP/s, from the makers' data sheets. The first pattern that is
# found in a device's name counts.
_PEAKS = (
    (r"\bB200\b", 2250.0),
    (r"\bG?H200\b", 989.4),
    (r"\bH100 PCIe\b", 756.0),
    (r"\bH100 NVL\b", 835.0),
    (r"\bH[18]00\b", 989.4),
    (r"\bA[18]00\b", 312.0),
    (r"\bA10G\b", 70.0),
    (r"\bA10\b", 125.0),
    (r"\bA40\b", 149.7),
    (r"\bL40S\b", 362.0),
    (r"\bL40\b", 181.0),
    (r"\bL4\b", 121.0),
    (r"\bRTX A6000$", 154.8),
    (r"\bRTX 4090$", 165.2),
    (r"\bRTX 3090$", 71.2),
)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Operations a second at best, or None: not on CUDA, not in 16 bits, or a device that the table does not know."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return None
    return named_peak(torch.cuda.get_device_name(device))


def named_peak(name: str) -> float | None:
    """The peak of the device with that name, or None."""
    return next((peak * 1e12 for pattern, peak in _PEAKS if re.search(pattern, name)), None)


def count_flops(loss: Callable[[], Tensor]) -> int:
    """Floating point operations of a loss and its gradient, which stays in the parameters. Nothing is compiled."""
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        loss().backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())
