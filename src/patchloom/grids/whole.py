"""Files that appear under their final name only when whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patchloom.errors import CapacityError, MissingError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: Path, needed: int) -> Iterator[Path]:
    """A temporary name beside `path` that is renamed to it when the block ends well, and removed when it does not.

    `needed` is the number of bytes that will be written, for the message of a full disk. Raises MissingError where the
    folder is not there and CapacityError where the disk is full; what lay under `path` before stays on any failure.
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
        if error.errno in _FULL:
            free = shutil.disk_usage(path.parent).free
            raise CapacityError(
                f"`{path}` could not be written ({error.strerror}): it needs {needed:,} bytes, "
                f"and {free:,} are free on its disk"
            ) from error
        raise
    finally:
        part.unlink(missing_ok=True)
