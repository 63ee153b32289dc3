"""A file that appears under its name only when it is whole, and a disk that is asked first."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from patchloom.errors import CapacityError, MissingError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
def whole_file(path: Path, job: Job, expected: int) -> Iterator[BinaryIO]:
    """A file to write to, renamed to `path` at the end and removed on any failure, Ctrl-C included.

    What lay under `path` before stays until then. Raises MissingError where the folder is not there, and
    CapacityError where the disk has less than the `expected` bytes free or runs full, saying how much is needed.
    """
    if not path.parent.is_dir():
        raise MissingError(f"there is no folder `{path.parent}` to write `{path.name}` into")
    _check_space(path, expected)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if error.errno in _FULL and not isinstance(error, CapacityError):
            raise CapacityError(_said_full(path, job, expected)) from None
        raise
    finally:
        part.unlink(missing_ok=True)


def _check_space(path: Path, expected: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < expected:
        raise CapacityError(
            f"writing `{path}` needs about {_mib(expected)}, but `{path.parent}` has {_mib(free)} free; "
            "free some space or write to another disk"
        )


def _said_full(path: Path, job: Job, expected: int) -> str:
    return (
        f"the disk under `{path.parent}` ran full after {job.done} of {job.rows} rows of `{path.name}`, "
        f"{_mib(job.bytes)} in: about {_mib(job.need(expected))} are needed. Nothing was left behind"
    )


def _mib(count: int) -> str:
    return f"{max(count >> 20, 1):,} MiB"
