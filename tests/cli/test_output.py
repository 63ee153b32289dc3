"""Facts as lines for people and as JSON; progress as a log holds it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from patchloom.cli import progress as progress_module
from patchloom.cli.output import emit
from patchloom.cli.progress import counted, progress
from patchloom.geometry import PixelSize

FACTS: dict[str, Any] = {
    "kind": "slide",
    "size_px": [1024, 2048],
    "pixel_size": PixelSize(0.5e-6),
    "pixel_size_m": 0.25e-6,
    "cell_px": 256,
    "origin": [0.5, 1.0],
    "crs": None,
    "similarity": 0.91234567,
    "synthetic": True,
    "notes": [],
    "encoder": {"name": "uni", "dim": 1024, "more": {}},
    "levels": [{"width": 8, "height": 4}, {"width": 4, "height": 2}],
}


def test_facts_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    emit(FACTS, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "kind: slide",
        "size: 2048 x 1024 px (width x height)",
        "pixel size: 0.5um",
        "pixel size: 0.25um",
        "cell: 256 px",
        "origin: 0.5, 1",
        "crs: not stated",
        "similarity: 0.912346",
        "synthetic: yes",
        "notes: none",
        "encoder:",
        "  name: uni",
        "  dim: 1024",
        "  more: none",
        "levels:",
        "  - width 8, height 4",
        "  - width 4, height 2",
    ]


def test_facts_as_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    emit(FACTS, as_json=True)
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert json.loads(text) == FACTS | {"pixel_size": "0.5um"}


def test_progress_in_a_log_is_its_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bar:
        advance = bar("windows")
        for done in range(1, 101):
            advance(done, 100)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "windows: 100 of 100\n")


def test_a_long_run_says_where_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress_module, "LOG_SECONDS", 0.0)
    with progress() as bar:
        advance = bar("windows")
        advance(1, 3)
        advance(2, 3)
    assert capsys.readouterr().err.splitlines() == ["windows: 1 of 3", "windows: 2 of 3"]


def test_units_are_added_up() -> None:
    heard: list[tuple[int, int]] = []
    more = counted(lambda done, total: heard.append((done, total)), 5)
    for units in (2, 0, 3):
        more(units)
    assert heard == [(2, 5), (2, 5), (5, 5)]
