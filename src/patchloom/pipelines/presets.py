"""Pipelines by name: those that come with Patchloom, and folders."""

from __future__ import annotations

import difflib
from pathlib import Path

from patchloom.errors import MissingError
from patchloom.pipelines.record import RECORD

_SHIPPED = Path(__file__).parent.parent / "models"


def presets() -> list[str]:
    """The names of the pipelines that come with Patchloom."""
    return sorted(path.parent.name for path in _SHIPPED.glob(f"*/{RECORD}"))


def find_pipeline(name: str | Path) -> Path:
    """The folder of a preset, or the folder itself. Raises MissingError naming the presets there are."""
    for folder in (Path(name), _SHIPPED / str(name)):
        if (folder / RECORD).is_file():
            return folder
    known = presets()
    near = difflib.get_close_matches(str(name), known, n=1)
    raise MissingError(
        f"`{name}` is neither a folder with a {RECORD} nor a preset; "
        + (f"did you mean `{near[0]}`?" if near else f"presets here: {', '.join(known) or 'none'}")
    )
