"""Results on stdout: figures and facts as lines for people, or as one JSON object."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from patchloom.geometry import PixelSize

_INDENT = "  "


def emit(facts: Mapping[str, Any], as_json: bool) -> None:
    """Print facts: `key: value` lines, a nested mapping indented below its key; or one JSON object in one line.

    Of the processes that torchrun starts, the first one prints.
    """
    if not leads():
        return
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, default=str))
        return
    for line in _lines(facts, ""):
        click.echo(line)


def leads() -> bool:
    """Whether this process speaks: the only one, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def note(sentences: Iterable[str]) -> None:
    """Say what the user should know beside the results, on stderr."""
    for sentence in sentences:
        click.echo(f"Note: {sentence}.", err=True)


def _lines(facts: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_name(key)}:"
            yield from _lines(value, indent + _INDENT)
        elif _is_table(value):
            yield f"{indent}{_name(key)}:"
            yield from (f"{indent}{_INDENT}- {', '.join(_pairs(row))}" for row in value)
        else:
            yield f"{indent}{_name(key)}: {_text(key, value)}"


def _is_table(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) > 0 and all(isinstance(row, Mapping) for row in value)


def _pairs(row: Mapping[str, Any]) -> Iterator[str]:
    return (f"{_name(key)} {_text(key, value)}" for key, value in row.items())


def _name(key: str) -> str:
    """A key as people read it; the unit that its suffix states stands with the value."""
    return key.removesuffix("_px").removesuffix("_m").replace("_", " ")


def _text(key: str, value: Any) -> str:  # noqa: PLR0911 - one return a kind of value
    if value is None:
        return "not stated"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "pixel_size_m":
        return str(PixelSize(value))
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)) and key in ("size_px", "canvas_px"):
        height, width = value
        return f"{width} x {height} px (width x height)"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text("", item) for item in value) or "none"
    if key.endswith("_px"):
        return f"{value} px"
    return "none" if value == {} else str(value)
