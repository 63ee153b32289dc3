"""The same tasks on a cluster that is already there: dask.distributed hands them out and redoes what was lost.

As with worker processes the run's own process reads what windows see and keeps the answers; what travels is a batch.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from patchloom.errors import CapacityError, DependencyError, InputError
from patchloom.fields.weave import Job, Work
from patchloom.loom.memory import Sparing
from patchloom.loom.workers import Recipe

if TYPE_CHECKING:
    from distributed import Client, Future

_AHEAD = 2  # batches a worker has: one in hand, one waiting
_PATIENCE = "20s"


class Cluster:
    """A crew of the workers of a dask scheduler; a context manager, which lets go of it.

    `address` is what dask knows it by, such as `tcp://10.0.0.5:8786` or a scheduler file's path. Workers need the same
    version of Patchloom and must be able to run the recipe: paths in it are read there. dask gives a lost worker's
    batch to another; a batch with which several died stops the run with a CapacityError that names its windows.
    Raises DependencyError without dask.distributed, and InputError where nobody answers at the address.
    """

    def __init__(self, address: str, recipe: Recipe) -> None:
        self.portion: int | None = None
        self._client = _client(address)
        # A task, not scattered data: dask makes a lost answer again, and scattered data it forgets with its worker.
        self._recipe: Future = self._client.submit(_kept, pickle.dumps(recipe), pure=False)

    def __call__(self, key: str, work: Work, jobs: Iterator[Job]) -> Iterator[Job]:
        """Each job's windows with the answers for them, as they come."""
        from distributed import as_completed

        sent: dict[str, Job] = {}
        answers = as_completed(loop=self._client.loop)
        self._send(key, jobs, answers, sent)
        for future in answers:
            job = sent.pop(future.key)
            values, portion = self._taken(key, job, future)
            if portion is not None:
                self.portion = min(portion, self.portion or portion)
            self._send(key, jobs, answers, sent)
            yield job[0], values

    def close(self) -> None:
        """Let go of the cluster; its workers go on."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, key: str, jobs: Iterator[Job], answers: Any, sent: dict[str, Job]) -> None:
        """Give out jobs until every worker has enough; taking one reads what its windows see."""
        workers = max(1, len(self._client.nthreads()))
        while len(sent) < _AHEAD * workers and (job := next(jobs, None)) is not None:
            future = self._client.submit(_answer, self._recipe, key, job, pure=False)
            sent[future.key] = job
            answers.add(future)

    def _taken(self, key: str, job: Job, future: Future) -> Any:
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            windows = sorted({window.index for window in job[0]})
            raise CapacityError(
                f"workers of the cluster died one after another of the same task: windows {windows[0]} to "
                f"{windows[-1]} of `{key}` ({error}). Memory is the usual reason: try a smaller batch. "
                "What is finished is kept"
            ) from error


def _client(address: str) -> Client:
    try:
        from distributed import Client
    except ImportError:
        raise DependencyError(
            "a cluster is reached through dask.distributed, which is not installed: pip install 'patchloom[cluster]'"
        ) from None
    try:
        return Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no dask scheduler answers at `{address}`: {error}") from error


def _kept(recipe: bytes) -> bytes:
    return recipe


def _answer(recipe: bytes, key: str, job: Job) -> Any:
    """In a worker: the answers, and the portion of a batch that its memory held."""
    works, sparing = _workshop(recipe)
    return sparing.answer(key, works[key], *job), sparing.portion


@lru_cache(maxsize=1)
def _workshop(recipe: bytes) -> tuple[dict[str, Work], Sparing]:
    from distributed import get_worker

    number = sum(map(ord, str(get_worker().name)))  # spreads the workers of a machine over its GPUs
    made: Recipe = pickle.loads(recipe)
    return dict(made(number)), Sparing()
