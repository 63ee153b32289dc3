"""Progress on stderr: bars on a terminal, a line every half minute in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from patchloom.pipelines.progress import Advance, Bars, counted

__all__ = ["Advance", "Bars", "counted", "progress"]

LOG_SECONDS = 30.0


@contextmanager
def progress() -> Iterator[Bars]:
    """Bars for as long as the context lasts; the first word from a room makes its bar appear."""
    if sys.stderr.isatty():
        with _bars() as bar:
            yield bar
    else:
        yield _Log


@contextmanager
def _bars() -> Iterator[Bars]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def bar(label: str) -> Advance:
            task = bars.add_task(label, total=None, visible=False)
            return lambda done, total: bars.update(task, completed=done, total=total, visible=True)

        yield bar


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
