"""The report: every figure with its N, interval, floor, feature network, resizer and codecs; as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchloom import records
from patchloom.errors import FormatError
from patchloom.evaluation.estimates import Absent, Entry, Figure

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured, and what was asked for and could not be. It holds no clock: one input, one report."""

    format: int
    title: str
    figures: tuple[Figure, ...]
    absent: tuple[Absent, ...]
    notes: tuple[str, ...] = ()

    def figure(self, name: str) -> Figure | Absent | None:
        """The entry of that name, the first where several spaces have one; None where it was not asked for."""
        entries: tuple[Entry, ...] = (*self.figures, *self.absent)
        return next((entry for entry in entries if entry.name == name), None)


def report(title: str, entries: Iterable[Entry], notes: Iterable[str] = ()) -> Report:
    """A report of entries in their order."""
    every = tuple(entries)
    figures = tuple(entry for entry in every if isinstance(entry, Figure))
    absent = tuple(entry for entry in every if isinstance(entry, Absent))
    return Report(FORMAT, title, figures, absent, tuple(notes))


def to_json(made: Report) -> dict[str, Any]:
    """Plain JSON values; `read_report` gives the report back."""
    return records.dump(made)


def write_report(made: Report, path: Path) -> None:
    """Write the JSON file, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(json.dumps(to_json(made), indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_report(path: Path) -> Report:
    """Read a report's JSON. Raises MissingError, or FormatError for what is none or of a later format."""
    found = records.read_json(Report, path)
    if found.format != FORMAT:
        raise FormatError(f"`{path}` is a report of format {found.format}, this version reads {FORMAT}")
    return found


def table(made: Report) -> str:
    """The report as text: a row a figure, then what it was measured with, the warnings, and what is absent and why."""
    spaces = _numbered(figure.space for figure in made.figures if figure.space is not None)
    sides = _numbered(side for figure in made.figures for side in figure.sides)
    rows: list[tuple[str, ...]] = [("figure", "value", "interval", "floor", "N", "space", "sides")]
    rows += [_row(figure, spaces, sides) for figure in made.figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [made.title, "", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows), ""]
    lines += [f"space {key}: {s.network}, {s.digest}, {s.dim}-d, {s.resizer}" for s, key in spaces.items()]
    lines += [f"side {key}: {side.name}, {side.n} images, codec {side.codec}" for side, key in sides.items()]
    lines += dict.fromkeys(_footnotes(made))  # what holds in every space is said once
    return "\n".join(lines) + "\n"


def _numbered(things: Iterable[Any]) -> dict[Any, str]:
    """Each different thing with a number, in order of first appearance."""
    return {thing: str(number) for number, thing in enumerate(dict.fromkeys(things), start=1)}


def _row(figure: Figure, spaces: dict[Any, str], sides: dict[Any, str]) -> tuple[str, ...]:
    estimate, interval, floor = figure.estimate, figure.estimate.interval, figure.estimate.floor
    mark = " !" if estimate.warnings else ""
    return (
        figure.name + mark,
        _number(estimate.value),
        "none" if interval is None else f"{_number(interval.low)} to {_number(interval.high)}",
        "none" if floor is None else f"{_number(floor.value)} (N {floor.n})",
        " / ".join(map(str, estimate.n)),
        "-" if figure.space is None else spaces[figure.space],
        "+".join(sides[side] for side in figure.sides),
    )


def _number(value: float) -> str:
    return f"{value:.4g}"


def _footnotes(made: Report) -> Iterable[str]:
    levels = sorted({f.estimate.interval.level for f in made.figures if f.estimate.interval is not None})
    if levels:
        yield f"intervals: {', '.join(f'{level:.0%}' for level in levels)}"
    for figure in made.figures:
        parts = [figure.estimate.how]
        parts += [figure.estimate.interval.method] if figure.estimate.interval is not None else []
        parts += [f"floor: {figure.estimate.floor.what}"] if figure.estimate.floor is not None else []
        yield f"{figure.name}: {'; '.join(part for part in parts if part)}"
    for warning, names in _shared_warnings(made).items():
        yield f"! {', '.join(names)}: {warning}"
    for missing in made.absent:
        yield f"absent {missing.name}: {missing.reason}"
    yield from (f"note: {note}" for note in made.notes)


def _shared_warnings(made: Report) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for figure in made.figures:
        for warning in figure.estimate.warnings:
            found.setdefault(warning, []).append(figure.name)
    return {warning: list(dict.fromkeys(names)) for warning, names in found.items()}
