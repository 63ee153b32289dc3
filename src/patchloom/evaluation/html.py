"""The report as one HTML page that needs nothing beside it: figures as a table, pictures as data in the page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from patchloom.errors import InputError
from patchloom.evaluation.estimates import Figure
from patchloom.evaluation.patches import UInt8
from patchloom.evaluation.report import Report

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; width: 100% }
th, td { text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #ddd; vertical-align: top }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap }
tr.warned td:first-child::after { content: " !"; color: #b00 }
.small { color: #666; font-size: 13px }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top }
figure img { display: block; max-width: 36rem; width: 100%; image-rendering: auto }
"""


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """Pictures that are looked at side by side, each uint8 (3, h, w) under its caption."""

    title: str
    pictures: tuple[tuple[str, UInt8], ...]


def page(made: Report, beside: Sequence[Beside] = ()) -> str:
    """The page. Pictures stand in it as PNG, unchanged."""
    shown = "".join(_beside(each) for each in beside)
    notes = "".join(f"<p>{escape(note)}</p>" for note in made.notes)
    rows = "".join(_row(figure) for figure in made.figures)
    absent = "".join(f"<li><b>{escape(each.name)}</b>: {escape(each.reason)}</li>" for each in made.absent)
    missing = f"<h2>What could not be measured</h2><ul>{absent}</ul>" if absent else ""
    head = "".join(f"<th>{name}</th>" for name in ("figure", "value", "interval", "floor", "N", "measured with"))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(made.title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{escape(made.title)}</h1>{notes}{shown}"
        f"<h2>Figures</h2><table><tr>{head}</tr>\n{rows}</table>{missing}</body></html>\n"
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


def _row(figure: Figure) -> str:
    estimate = figure.estimate
    interval, floor = estimate.interval, estimate.floor
    cells = (
        _number(estimate.value),
        "" if interval is None else f"{_number(interval.low)} to {_number(interval.high)}",
        "" if floor is None else f"{_number(floor.value)} <span class=small>{escape(floor.what)}</span>",
        " / ".join(map(str, estimate.n)),
    )
    numbers = "".join(f"<td class=number>{cell}</td>" for cell in cells)
    mark = ' class="warned"' if estimate.warnings else ""
    return (
        f"<tr{mark}><td>{escape(figure.name)}</td>{numbers}<td class=small>{'<br>'.join(_details(figure))}</td></tr>\n"
    )


def _details(figure: Figure) -> Iterable[str]:
    space, estimate = figure.space, figure.estimate
    if space is not None:
        yield escape(f"{space.network} ({space.digest:.15}), {space.dim}-d, {space.resizer}")
    yield escape("; ".join(f"{side.name} ({side.n}, {side.codec})" for side in figure.sides))
    if estimate.how:
        yield escape(estimate.how)
    if estimate.interval is not None:
        yield escape(f"{estimate.interval.level:.0%}: {estimate.interval.method}")
    yield from (f"<b>{escape(warning)}</b>" for warning in estimate.warnings)


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
