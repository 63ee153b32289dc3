"""The identity of weights: sha256 of the files that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from patchloom.errors import MissingError


def file_digest(path: Path) -> str:
    """`sha256:` and the 64 hex digits that `sha256sum` prints for the file. Raises MissingError."""
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except FileNotFoundError:
        raise MissingError(f"there is no weight file `{path}`") from None


def files_digest(paths: Sequence[Path]) -> str:
    """Of one file, its own digest; of several, the digest of their digests in the order of their names."""
    if len(paths) == 1:
        return file_digest(paths[0])
    lines = [f"{file_digest(path)} {path.name}\n" for path in sorted(paths, key=lambda path: path.name)]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"
