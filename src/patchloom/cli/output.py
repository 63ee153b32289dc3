"""Results on stdout: figures and facts as lines for people, or as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

_INDENT = "  "


def emit(facts: Mapping[str, Any], as_json: bool) -> None:
    """Print facts: `key: value` lines, a nested mapping indented below its key; or one JSON object in one line."""
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, default=str))
        return
    for line in _lines(facts, ""):
        click.echo(line)


def _lines(facts: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in facts.items():
        name = str(key).replace("_", " ")
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _lines(value, indent + _INDENT)
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            yield f"{indent}{name}:"
            yield from (line for item in value for line in _item(item, indent + _INDENT))
        else:
            yield f"{indent}{name}: {_text(value)}"


def _item(item: Any, indent: str) -> Iterator[str]:
    if not isinstance(item, Mapping):
        yield f"{indent}- {_text(item)}"
        return
    yield f"{indent}- " + ", ".join(f"{str(key).replace('_', ' ')} {_text(value)}" for key, value in item.items())


def _text(value: Any) -> str:
    if value is None:
        return "not stated"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return str(value) if value != {} else "none"
