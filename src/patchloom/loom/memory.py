"""When memory runs out a batch goes through the network in halves, and the run goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.errors import CapacityError
from patchloom.fields.weave import Job, Work
from patchloom.geometry import Window


@dataclass(slots=True, eq=False)
class Sparing:
    """A crew of this process alone that halves what goes through a network at once whenever memory runs out.

    Batches stay grouped as they were, so tiles already kept stay; later ones may differ from those of a run with more
    memory in their last bits, and `portion` says so. Raises CapacityError where not even one window fits.
    """

    portion: int | None = None

    def __call__(self, key: str, work: Work, jobs: Iterator[Job]) -> Iterator[Job]:
        """Each job's windows with the answers for them."""
        return ((windows, self.answer(key, work, windows, arrays)) for windows, arrays in jobs)

    def answer(self, key: str, work: Work, windows: Sequence[Window], arrays: NDArray[Any]) -> NDArray[Any]:
        """The work's answers for a whole batch, asked for in portions."""
        done: list[NDArray[Any]] = []
        start = 0
        while start < len(windows):
            size = self.portion or len(windows)
            try:
                part = work(windows[start : start + size], arrays[start : start + size])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(key, len(windows[start : start + size]), error)
                continue
            done.append(part)
            start += len(part)
        return done[0] if len(done) == 1 else np.concatenate(done)

    def _halve(self, key: str, tried: int, error: BaseException) -> None:
        if tried == 1:
            raise CapacityError(
                f"one window of `{key}` alone does not fit in memory ({str(error).splitlines()[0]:.120}); "
                "take smaller windows or another device. What is finished is kept"
            ) from error
        self.portion = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the host, had no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(words in text for words in _WORDS)


_WORDS = (
    "can't allocate memory",  # torch's allocator on a CPU
    "not enough memory",  # the same on Windows
    "out of memory",  # drivers and libraries below torch
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
