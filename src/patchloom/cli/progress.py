"""Progress on stderr: a bar on a terminal, a line every half minute in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import click

Advance: TypeAlias = Callable[[int, int], None]
"""(done, total): how many of how many units are finished. Rooms call it; they know no bar."""

LOG_SECONDS = 30.0


@contextmanager
def progress(label: str) -> Iterator[Advance]:
    """A bar that `label` stands beside, as a function to call with (done, total)."""
    if sys.stderr.isatty():
        with _bar(label) as advance:
            yield advance
    else:
        yield _Log(label)


@contextmanager
def _bar(label: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


class _Log:
    """One line at the end and one every `LOG_SECONDS` before it: what a cluster's log should hold."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._due = time.monotonic() + LOG_SECONDS

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now < self._due:
            return
        self._due = now + LOG_SECONDS
        click.echo(f"{self._label}: {done} of {total}", err=True)
