"""The report as one HTML page that needs nothing beside it: figures as a table, pictures as data in the page."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from patchloom.errors import InputError
from patchloom.evaluation.estimates import FeatureSpace, Figure
from patchloom.evaluation.patches import UInt8
from patchloom.evaluation.report import Report

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 92rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; width: 100% }
th, td { text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #ddd; vertical-align: top }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap }
sup { color: #b00 }
.small { color: #666; font-size: 13px }
figure { display: inline-block; margin: 0 1rem 1rem 0; max-width: 100%; vertical-align: top }
figure img { display: block; max-width: 100%; image-rendering: auto }
"""
_READ = (
    "Each cell: the value, its interval, and the floor, which is what real images give against other real images "
    "(of a similarity: against other cells). Red numbers: see What to mind."
)


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """Pictures that are looked at side by side, each uint8 (3, h, w) under its caption."""

    title: str
    pictures: tuple[tuple[str, UInt8], ...]


def page(made: Report, beside: Sequence[Beside] = ()) -> str:
    """The page: what is noted, every figure with the networks side by side, pictures, and how each was measured.

    Pictures stand in it as PNG, unchanged. A warning is written out once, and its number stands at every figure that
    it is about.
    """
    warnings = {text: number for number, text in enumerate(dict.fromkeys(_warnings(made)), start=1)}
    notes = "".join(f"<li>{escape(note)}</li>" for note in made.notes)
    absent = "".join(
        f"<li><b>{escape(each.name)}</b>: {escape(each.reason)}</li>" for each in dict.fromkeys(made.absent)
    )
    parts = (
        f"<h1>{escape(made.title)}</h1><ul>{notes}</ul><h2>Figures</h2><p class=small>{_READ}</p>",
        _side_by_side(made, warnings),
        f"<h2>What to mind</h2><ol class=small>{''.join(f'<li>{escape(text)}</li>' for text in warnings)}</ol>"
        if warnings
        else "",
        f"<h2>What could not be measured</h2><ul>{absent}</ul>" if absent else "",
        "".join(_beside(each) for each in beside),
        "<h2>How each figure was measured</h2>",
        _details(made, warnings),
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(made.title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>{''.join(parts)}</body></html>\n"
    )


def write_page(made: Report, path: Path, beside: Sequence[Beside] = ()) -> None:
    """Write the page, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(page(made, beside), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def shrunk(picture: UInt8, longest: int) -> UInt8:
    """A picture (3, h, w) of at most `longest` px a side, reduced by a whole factor (means of blocks)."""
    if longest < 1:
        raise InputError(f"a picture of at most {longest} px cannot be shown")
    factor = -(-max(picture.shape[1:]) // longest)
    height, width = (side // factor for side in picture.shape[1:])
    blocks = picture[:, : height * factor, : width * factor].reshape(3, height, factor, width, factor)
    small: UInt8 = np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8)
    return small


def _warnings(made: Report) -> Iterator[str]:
    for figure in made.figures:
        yield from figure.estimate.warnings


def _side_by_side(made: Report, warnings: Mapping[str, int]) -> str:
    """A row a figure, a column a network; figures that no network saw stand in a column of their own."""
    spaces = list(dict.fromkeys(_key(figure.space) for figure in made.figures))
    spaces.sort(key=lambda space: not space)
    rows: dict[str, dict[str, Figure]] = {}
    for figure in made.figures:
        rows.setdefault(figure.name, {})[_key(figure.space)] = figure
    head = "".join(f"<th>{space or 'without a network'}</th>" for space in spaces)
    body = "".join(
        f"<tr><td>{escape(name)}</td><td class=number>{_n(next(iter(row.values())))}</td>"
        + "".join(f"<td class=number>{_cell(row.get(space), warnings)}</td>" for space in spaces)
        + "</tr>\n"
        for name, row in rows.items()
    )
    return f"<table><tr><th>figure</th><th>N</th>{head}</tr>\n{body}</table>"


def _key(space: FeatureSpace | None) -> str:
    """The head of a network's column, whichever way pictures came to its size; empty where there is none."""
    if space is None:
        return ""
    return f"{escape(space.network)}<br><span class=small>{space.digest:.15}, {space.dim}-d</span>"


def _cell(figure: Figure | None, warnings: Mapping[str, int]) -> str:
    if figure is None:
        return ""
    estimate = figure.estimate
    interval, floor = estimate.interval, estimate.floor
    numbers = ", ".join(map(str, sorted(warnings[text] for text in estimate.warnings)))
    told = [f"<b>{_number(estimate.value)}</b>" + (f"<sup>{numbers}</sup>" if numbers else "")]
    told += [f"<span class=small>{_number(interval.low)} to {_number(interval.high)}</span>"] if interval else []
    told += [f"<span class=small>floor {_number(floor.value)}</span>"] if floor else []
    return "<br>".join(told)


def _n(figure: Figure) -> str:
    return " / ".join(map(str, figure.estimate.n))


def _details(made: Report, warnings: Mapping[str, int]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("figure", "network", "of", "how", "interval", "floor", "mind"))
    rows = "".join(
        "<tr>" + "".join(f"<td class=small>{cell}</td>" for cell in _told(figure, warnings)) + "</tr>\n"
        for figure in made.figures
    )
    return f"<table><tr>{head}</tr>\n{rows}</table>"


def _told(figure: Figure, warnings: Mapping[str, int]) -> Iterator[str]:
    space, estimate = figure.space, figure.estimate
    yield escape(figure.name)
    yield "" if space is None else escape(f"{space.network}, {space.resizer}")
    yield escape("; ".join(f"{side.name} ({side.n}, {side.codec})" for side in figure.sides))
    yield escape(estimate.how)
    yield "" if estimate.interval is None else escape(f"{estimate.interval.level:.0%}: {estimate.interval.method}")
    yield "" if estimate.floor is None else escape(f"{estimate.floor.what} (N {estimate.floor.n})")
    yield ", ".join(map(str, sorted(warnings[text] for text in estimate.warnings)))


def _beside(each: Beside) -> str:
    figures = "".join(
        f'<figure><img alt="{escape(caption)}" src="{_data(picture)}">'
        f"<figcaption class=small>{escape(caption)}</figcaption></figure>"
        for caption, picture in each.pictures
    )
    return f"<h2>{escape(each.title)}</h2>{figures}"


def _data(picture: UInt8) -> str:
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(np.moveaxis(picture, 0, -1))).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _number(value: float) -> str:
    return f"{value:.4g}"
