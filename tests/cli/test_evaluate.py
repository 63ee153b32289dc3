"""`patchloom evaluate`: a picture against itself is as near as can be, and reports say what they measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from patchloom.cli.main import main
from patchloom.evaluation.report import read_report


def patchloom(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--device", "cpu", "--dtype", "fp32"])


def folder_of(path: Path, seed: int, count: int = 12) -> Path:
    """Pictures of smooth colours, PNG, 48 px a side."""
    rng = np.random.default_rng(seed)
    path.mkdir()
    for number in range(count):
        coarse = rng.integers(0, 255, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC).save(path / f"{number:02d}.png")
    return path


TINY = ("--crop", 48, "--encoder", "tiny")


def values(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return {figure["name"]: figure["estimate"]["value"] for figure in json.loads(result.stdout)["figures"]}


def test_a_folder_against_itself_and_against_another(tmp_path: Path) -> None:
    real, other = folder_of(tmp_path / "real", 0), folder_of(tmp_path / "other", 1)
    same = values(patchloom("evaluate", real, "--real", real, *TINY, "--json"))
    apart = values(patchloom("evaluate", other, "--real", real, *TINY, "--json"))
    assert same["frechet_all_images"] == pytest.approx(0, abs=1e-6)
    assert apart["frechet_all_images"] > 1e-3
    assert apart["kernel"] > same["kernel"]


def test_an_image_against_its_own_grid(pipeline: Path, picture: Path, tmp_path: Path) -> None:
    grid, made, report = tmp_path / "a.grid", tmp_path / "made.png", tmp_path / "report.json"
    size = ("--pixel-size", "0.5um", "--batch", 4)
    assert patchloom("embed", picture, "-o", grid, "--pipeline", pipeline, *size).exit_code == 0
    whole = patchloom("evaluate", picture, "--grid", grid, "--pipeline", pipeline, "--json")
    assert values(whole)["similarity_raw"] == pytest.approx(1, abs=1e-3)

    assert patchloom("generate", pipeline, "--grid", grid, "-o", made).exit_code == 0
    said = patchloom("evaluate", made, "--grid", grid, "--pipeline", pipeline, "--reference", picture, "-o", report)
    assert said.exit_code == 0, said.output
    assert "similarity_raw_ceiling" in said.stdout
    assert "space 1: tiny" in said.stdout
    assert {figure.name for figure in read_report(report).figures} >= {"similarity_raw", "retrieval_auc"}

    seams = patchloom("evaluate", made, "--seams", "--pipeline", pipeline, "--json")
    assert seams.exit_code == 0, seams.output
    assert any(
        entry["name"].startswith("seam: ") for key in ("figures", "absent") for entry in json.loads(seams.stdout)[key]
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ((), "say what to measure: --real, --grid or --seams"),
        (("--grid", "a.grid"), "--grid and --seams need --pipeline"),
        (("--seams",), "--grid and --seams need --pipeline"),
    ],
)
def test_what_is_missing_is_asked_for(said: tuple[str, ...], message: str, picture: Path) -> None:
    result = patchloom("evaluate", picture, *said)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_folder_is_named(picture: Path, tmp_path: Path) -> None:
    result = patchloom("evaluate", picture, "--real", tmp_path / "gone", "--crop", 32)
    assert (result.exit_code, f"there is no file `{tmp_path}/gone`" in result.stderr) == (1, True)
