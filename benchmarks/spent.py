"""What a computation took: seconds by two clocks, windows denoised, the most anonymous memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchloom.diffusion.denoiser import Denoiser

Told = TypeVar("Told")
Clocks: TypeAlias = NDArray[np.float64]
"""Seconds of the wall, and of this process's CPU."""


class Enough(Exception):  # noqa: N818 - not an error
    """As many windows were denoised, or as much CPU time was spent, as was asked for."""


def clocks() -> Clocks:
    """Both clocks now."""
    return np.array([time.perf_counter(), time.process_time()])


def timed(call: Callable[[], Tensor]) -> tuple[Tensor, Clocks]:
    """An answer, and what it took once the device had it."""
    started = clocks()
    answer = call()
    if answer.device.type == "cuda":
        torch.cuda.synchronize()
    return answer, clocks() - started


@dataclass
class Timed(Generic[Told]):
    """A denoiser that counts its windows and its seconds, and raises Enough after a limit of either."""

    denoiser: Denoiser[Told]
    most_windows: float = float("inf")
    most_cpu_seconds: float = float("inf")
    windows: int = 0
    seconds: Clocks = field(default_factory=lambda: np.zeros(2))

    def __call__(self, x: Tensor, sigma: Tensor, condition: Told) -> Tensor:
        """The denoiser's answer."""
        if self.windows >= self.most_windows or self.seconds[1] >= self.most_cpu_seconds:
            raise Enough
        answer, seconds = timed(lambda: self.denoiser(x, sigma, condition))
        self.seconds += seconds
        self.windows += len(x)
        return answer


class Peak:
    """The most anonymous memory of this process while it was watched, in MiB: mapped files do not count. Linux only."""

    def __enter__(self) -> Peak:
        self.mib, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            status = Path("/proc/self/status").read_text(encoding="ascii")
            self.mib = max(self.mib, int(status.partition("RssAnon:")[2].split()[0]) / 1024)
