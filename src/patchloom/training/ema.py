"""The running average of weights, which is the model that a run leaves behind."""

from __future__ import annotations

import copy

import torch
from torch import nn


def channels_last(module: nn.Module) -> nn.Module:
    """The module with its weights laid out as convolutions like them best, in bf16 above all."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class Average:
    """An exponential moving average of a module's weights by samples seen, so that the batch size does not matter.

    The half-life is `half_life` samples, and a tenth of the samples seen while that is shorter, as in Karras et al.
    (2024), whose averages forget the start of training in proportion to its length. Buffers are constants and stay
    as they are.
    """

    def __init__(self, module: nn.Module, half_life: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.half_life = half_life

    @torch.no_grad()
    def update(self, module: nn.Module, seen: int, batch: int) -> None:
        """Move towards `module` after a step of `batch` samples, `seen` in all."""
        keep = 0.5 ** (batch / max(min(self.half_life, seen / 10), 1e-9))
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - keep)
