"""`patchloom embed` on real files, with the default encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from patchloom.cli.main import main
from patchloom.grids.file import read_grid


def embed(*arguments: str | Path) -> tuple[int, str, list[str]]:
    said = ["embed", *map(str, arguments), "--device", "cpu", "--dtype", "fp32", "--batch", "4"]
    result = CliRunner().invoke(main, said)
    return result.exit_code, result.stdout, result.stderr.splitlines()


def test_a_picture_becomes_a_grid(picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.grid"
    status, stdout, errors = embed(
        picture, "-o", out, "--slide-pixel-size", "0.5um", "--patch", "32", "--valid", "all", "--json"
    )
    assert (status, errors) == (0, ["embed: 12 of 12"])
    facts = json.loads(stdout)
    assert facts["path"] == str(out)
    assert (facts["rows"], facts["cols"], facts["valid_cells"]) == (3, 4, 12)
    assert (facts["pixel_size"], facts["encoder"]["name"]) == ("0.5um", "efficientnet-lite0")
    assert read_grid(out).reference is not None


def test_a_region_and_a_stride(picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.grid"
    said = [
        "--encoder",
        "tiny",
        "--slide-pixel-size",
        "0.5um",
        "--patch",
        "32",
        "--stride",
        "16",
        "--region",
        "64,0,64,32",
        "--valid",
        "all",
    ]
    status, stdout, _ = embed(picture, "-o", out, *said)
    assert status == 0
    assert {"rows: 1", "cols: 3", "stride: 16 px"} <= set(stdout.splitlines())
    assert read_grid(out).origin == (0.0, 64.0)


def test_the_slide_s_own_size_and_the_one_asked_for(picture: Path, tmp_path: Path) -> None:
    said = [
        "--encoder",
        "tiny",
        "--slide-pixel-size",
        "0.25um",
        "--pixel-size",
        "0.5um",
        "--patch",
        "16",
        "--valid",
        "all",
    ]
    assert embed(picture, "-o", tmp_path / "a.grid", *said)[0] == 0
    grid = read_grid(tmp_path / "a.grid")
    assert grid.canvas == (48, 64)
    assert str(grid.pixel_size) == "0.5um"


@pytest.mark.parametrize("said", [(), ("--pixel-size", "0.5um")])
def test_a_picture_without_pixel_size_asks_for_it(picture: Path, tmp_path: Path, said: tuple[str, ...]) -> None:
    """The size to work at is not that of the file: only --slide-pixel-size says what the file leaves out."""
    status, stdout, errors = embed(picture, "-o", tmp_path / "a.grid", *said)
    assert (status, stdout) == (1, "")
    asked = "Error: `picture.png` does not say how long its pixels are; say it with `--slide-pixel-size`"
    assert errors[-1].startswith(asked)
    assert not (tmp_path / "a.grid").exists()


def test_a_region_outside_is_refused(picture: Path, tmp_path: Path) -> None:
    status, _, errors = embed(
        picture, "-o", tmp_path / "a.grid", "--slide-pixel-size", "1um", "--region", "100,0,64,64"
    )
    assert status == 1
    assert errors[-1].startswith("Error: region 100,0,64,64")


def test_an_unknown_encoder_is_told_its_neighbour(picture: Path, tmp_path: Path) -> None:
    status, _, errors = embed(picture, "-o", tmp_path / "a.grid", "--encoder", "efficientnet-lite")
    assert status == 1
    assert errors[-1].startswith("Error: there is no encoder `efficientnet-lite`")
    assert errors[-1].endswith("did you mean `efficientnet-lite0`?")
