"""What a run says of itself: figures of the steps, summed without waiting for them, to the log and to a listener."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchloom.datasets.processes import Processes
from patchloom.training.checkpoint import Progress
from patchloom.training.events import Log

Report = Callable[[Progress, Mapping[str, float]], None]
"""Called by the leading process with what goes into the log."""


class Journal:
    """The log in a folder, and a listener; the leading process holds the pen, the others' words are lost."""

    def __init__(self, folder: Path, processes: Processes, report: Report) -> None:
        self._log = Log(folder) if processes.leads else None
        self._report = report

    def figures(self, progress: Progress, figures: Mapping[str, float]) -> None:
        """Write figures at a point of the run."""
        if self._log:
            self._log.figures(progress.seen, {**figures, "seconds": progress.seconds})
            self._report(progress, figures)

    def pictures(self, progress: Progress, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Write pictures (height, width, 3) at a point of the run."""
        for tag, pixels in pictures.items():
            if self._log:
                self._log.picture(progress.seen, tag, pixels)

    def close(self) -> None:
        """Close the log."""
        if self._log:
            self._log.close()


class Meter:
    """Means of the steps' figures since they were last taken, and how fast the steps were."""

    def __init__(self, batch: int, peak_share: float | None) -> None:
        """`peak_share` is the share of the device's peak that one step a second would take, where it is known."""
        self._batch, self._peak_share = batch, peak_share
        self._restart()

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """Count a step; its figures stay on their device."""
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach().float()
        self._steps += 1

    def take(self, processes: Processes) -> dict[str, float]:
        """The means over steps and processes, samples a second and, where known, the share of the device's peak."""
        means = torch.stack(list(self._sums.values())) / self._steps
        processes.mean([means])
        figures = dict(zip(self._sums, means.tolist(), strict=True))  # waits for the device
        speed = self._steps / max(time.monotonic() - self._started, 1e-9)
        figures["samples_per_second"] = speed * self._batch
        if self._peak_share is not None:
            figures["peak_share"] = speed * self._peak_share
        self._restart()
        return figures

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that does not count."""
        started = time.monotonic()
        yield
        self._started += time.monotonic() - started

    def _restart(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._started = time.monotonic()


def line(progress: Progress, figures: Mapping[str, float]) -> str:
    """Figures at a point of the run as people read them."""
    said = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    return f"{progress.seen:,} samples, {progress.seconds:.0f} s: {said}"
