"""Files that appear under their final name only when whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from patchloom.errors import CapacityError, MissingError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: Path, full: Callable[[], str] | None = None) -> Iterator[Path]:
    """A temporary name beside `path` that is renamed to it when the block ends well, and removed when it does not.

    What lay under `path` before stays on any failure, Ctrl-C included. Raises MissingError where the folder is not
    there and CapacityError where the disk is full; `full` then says how far the file came or how much it needs.
    """
    if not path.parent.is_dir():
        raise MissingError(f"there is no folder `{path.parent}` to write `{path.name}` into")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if error.errno not in _FULL or isinstance(error, CapacityError):
            raise
        said = full() if full else "free some space or write to another disk"
        raise CapacityError(f"`{path}` could not be written ({error.strerror}): {said}") from error
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A text file in UTF-8. Raises what `whole_file` raises."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
