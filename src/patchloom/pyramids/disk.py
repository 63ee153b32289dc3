"""The disk that a picture is written to: asked first, and told of how far the picture came where it runs full."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from patchloom.errors import CapacityError
from patchloom.whole import whole_file


@dataclass(slots=True)
class Job:
    """How far a picture has come: rows read of all rows, and bytes that lie on disk for it."""

    rows: int
    done: int = 0
    bytes: int = 0

    def need(self, expected: int) -> int:
        """Bytes that the whole will take: extrapolated from what is there, `expected` before the first row."""
        return max(self.bytes * self.rows // self.done, self.bytes) if self.done else expected


@contextmanager
def picture_file(path: Path, job: Job, expected: int) -> Iterator[BinaryIO]:
    """A file to write to, renamed to `path` at the end and removed on any failure; what lay there before stays.

    Raises MissingError where the folder is not there, and CapacityError where the disk has less than the `expected`
    bytes free or runs full, saying how much is needed.
    """
    with whole_file(path, lambda: _how_far(job, expected)) as part:
        _check_space(path, expected)
        with part.open("w+b") as file:
            yield file


def _check_space(path: Path, expected: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < expected:
        raise CapacityError(
            f"writing `{path}` needs about {_mib(expected)}, but `{path.parent}` has {_mib(free)} free; "
            "free some space or write to another disk"
        )


def _how_far(job: Job, expected: int) -> str:
    return (
        f"the disk ran full after {job.done} of {job.rows} rows of pixels, {_mib(job.bytes)} in, and about "
        f"{_mib(job.need(expected))} are needed; free some space or write to another disk. Nothing was left behind"
    )


def _mib(count: int) -> str:
    return f"{max(count >> 20, 1):,} MiB"
