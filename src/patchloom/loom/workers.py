"""Worker processes on one machine: batches are handed out, answers come back, and what a dead worker had is redone.

The process that holds the run reads what windows see, and it alone keeps answers, so a store needs no second writer.
A worker has its own copy of the works, made in it by a recipe; with a batch it is told what a work has learnt since.
Batches are grouped as they are without workers and answers do not depend on who gives them, so the bytes are the same.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Protocol, Self, TypeAlias, runtime_checkable

import torch

from patchloom.errors import CapacityError, InputError
from patchloom.fields.weave import Job, Work
from patchloom.loom.memory import Sparing

Recipe: TypeAlias = Callable[[int], Mapping[str, Work]]
"""A worker's number to the works of a run by their keys. It is pickled; it runs once in each worker."""

_TRIES = 3


@runtime_checkable
class Learnt(Protocol):
    """A work that may know something of the run which no recipe can: little, as it is sent with every batch."""

    @property
    def lesson(self) -> bytes | None:
        """What it knows; None for nothing."""
        ...

    def taught(self, lesson: bytes) -> Work:
        """The same work, knowing that."""
        ...


def lesson_of(work: Work) -> bytes | None:
    """What a work knows that its copies have to be told."""
    return work.lesson if isinstance(work, Learnt) else None


def knowing(work: Work, lesson: bytes | None) -> Work:
    """A copy of a work, told what the work of the run knows."""
    return work if lesson is None or not isinstance(work, Learnt) else _taught(work, lesson)


@lru_cache(maxsize=1)
def _taught(work: Learnt, lesson: bytes) -> Work:
    return work.taught(lesson)


@dataclass(slots=True)
class _Task:
    key: str
    job: Job
    lesson: bytes | None
    deaths: int = 0


@dataclass(slots=True)
class _Worker:
    number: int
    process: BaseProcess
    pipe: Connection
    task: _Task | None = None


class Workers:
    """A crew of `count` processes; a context manager, which ends them.

    A process gets an equal share of the CPU's threads. One that dies is replaced and its batch given out again; a
    batch with which three died stops the run with a CapacityError that names its windows. What a work raises is
    raised here. Raises InputError for less than one worker.
    """

    def __init__(self, count: int, recipe: Recipe) -> None:
        if count < 1:
            raise InputError(f"a crew has at least one worker, not {count}")
        self._portion: int | None = None
        self._recipe = recipe
        self._threads = max(1, (os.cpu_count() or 1) // count)
        self._workers = [self._hired(number) for number in range(count)]

    @property
    def processes(self) -> list[int]:
        """The process ids, by the worker's number."""
        return [worker.process.pid or 0 for worker in self._workers]

    @property
    def portion(self) -> int | None:
        """The smallest portion of a batch that some worker had to take; None where memory was enough."""
        return self._portion

    def __call__(self, key: str, work: Work, jobs: Iterator[Job]) -> Iterator[Job]:
        """Each job's windows with the answers for them, as they come."""
        lesson = lesson_of(work)
        tasks = (_Task(key, job, lesson) for job in jobs)
        again: deque[_Task] = deque()
        ahead = next(tasks, None)  # read while the workers are busy
        try:
            while ahead is not None or again or self._busy():
                for worker in self._workers:
                    if worker.task is None and (again or ahead is not None):
                        task = again.popleft() if again else ahead
                        ahead = ahead if task is not ahead else next(tasks, None)
                        self._give(worker, task)
                for worker in self._answering():
                    answer = self._taken(worker, again)
                    if answer is not None:
                        yield answer
        finally:
            for worker in self._busy():  # the run was stopped: nobody waits for these answers
                self._replace(worker)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            _dismissed(worker)
        self._workers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.task is not None]

    def _answering(self) -> list[_Worker]:
        ready = wait([worker.pipe for worker in self._busy()])
        return [worker for worker in self._busy() if worker.pipe in ready]

    def _give(self, worker: _Worker, task: _Task | None) -> None:
        if task is None:
            return
        worker.task = task
        with suppress(BrokenPipeError, ConnectionResetError):  # it died: the end of its pipe says so in `_taken`
            worker.pipe.send((task.key, task.lesson, task.job))

    def _taken(self, worker: _Worker, again: deque[_Task]) -> Job | None:
        """What a worker said; None where it died, and its task waits for another."""
        task = worker.task
        if task is None:
            return None
        try:
            answer = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            task.deaths += 1
            again.append(task)
            self._replace(worker)
            if task.deaths >= _TRIES:
                raise CapacityError(_story(task, worker)) from None
            return None
        worker.task = None
        if isinstance(answer, BaseException):
            raise answer
        values, portion = answer
        if portion is not None:
            self._portion = min(portion, self._portion or portion)
        return task.job[0], values

    def _replace(self, worker: _Worker) -> None:
        _dismissed(worker)
        self._workers[self._workers.index(worker)] = self._hired(worker.number)

    def _hired(self, number: int) -> _Worker:
        # A fresh interpreter: a fork would copy locks of threads that it does not have, and no GPU survives one.
        context = multiprocessing.get_context("spawn")
        pipe, far = context.Pipe()
        process = context.Process(target=_serve, args=(far, self._recipe, number, self._threads), daemon=True)
        process.start()
        far.close()
        return _Worker(number, process, pipe)


def _story(task: _Task, worker: _Worker) -> str:
    windows = sorted({window.index for window in task.job[0]})
    code = worker.process.exitcode
    how = signal.Signals(-code).name if code is not None and code < 0 else f"exit status {code}"
    return (
        f"{_TRIES} workers died one after another ({how}) of the same task: windows {windows[0]} to {windows[-1]} of "
        f"`{task.key}`. Memory is the usual reason: try a smaller batch or fewer workers. What is finished is kept"
    )


def _dismissed(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.kill()
    worker.process.join()


def _serve(pipe: Connection, recipe: Recipe, number: int, threads: int) -> None:
    """The life of a worker: answer until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts everybody; the run's own process decides
    torch.set_num_threads(threads)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            works = recipe(number)
        except Exception as error:
            pipe.recv()
            pipe.send(error)
            return
        sparing = Sparing()
        while True:
            key, lesson, (windows, arrays) = pipe.recv()
            try:
                work = knowing(works[key], lesson)
                answer: object = (sparing.answer(key, work, windows, arrays), sparing.portion)
            except Exception as error:
                answer = error
            pipe.send(answer)
