"""Pipelines by name: those that come with Patchloom, and folders."""

from __future__ import annotations

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
    known = ", ".join(presets()) or "none"
    raise MissingError(f"`{name}` is neither a folder with a {RECORD} nor a preset; presets here: {known}")
