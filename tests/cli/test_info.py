"""`patchloom info` on files and folders of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from patchloom.cli.main import main


def info(*arguments: str | Path) -> tuple[int, list[str], list[str]]:
    result = CliRunner().invoke(main, ["info", *map(str, arguments)])
    return result.exit_code, result.stdout.splitlines(), result.stderr.splitlines()


@pytest.mark.parametrize(("name", "kind"), [("pipeline.json", "pipeline"), ("dataset.json", "dataset")])
def test_a_folder_says_what_its_record_says(tmp_path: Path, name: str, kind: str) -> None:
    record = {"format": 1, "patch_px": 256, "encoder": {"name": "uni"}}
    (tmp_path / name).write_text(json.dumps(record))
    assert info(tmp_path) == (0, [f"kind: {kind}", "format: 1", "patch px: 256", "encoder:", "  name: uni"], [])
    status, lines, _ = info(tmp_path, "--json")
    assert status == 0
    assert json.loads("\n".join(lines)) == {"kind": kind, **record}


def test_what_is_not_there(tmp_path: Path) -> None:
    assert info(tmp_path / "gone") == (1, [], [f"Error: there is no file or folder `{tmp_path}/gone`"])


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    message = (
        f"Error: folder `{tmp_path}` holds neither pipeline.json nor dataset.json, so it is no pipeline and no dataset"
    )
    assert info(tmp_path) == (1, [], [message])


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON: Expecting property name"), ("[1]", "should hold a JSON object, found [1]")],
)
def test_a_broken_record(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    status, lines, (error,) = info(tmp_path)
    assert (status, lines) == (1, [])
    assert error.startswith(f"Error: `{tmp_path}/dataset.json` {message}")
