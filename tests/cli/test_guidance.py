"""The options of guidance in every verb that draws: said in provenance, counted, refused where they make no sense."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tests.pipelines.test_autoguidance import other

from patchloom.cli.main import main
from patchloom.pyramids.read import read_provenance

HOW = ("--guidance", 2, "--guidance-interval", "0.1,5", "--guidance-rescale", 0.7, "--dynamic-threshold", "0.9,1.5")


def patchloom(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--device", "cpu", "--dtype", "fp32"])


def said(*arguments: object) -> Any:
    """What a verb prints with --json."""
    result = patchloom(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def grid(pipeline: Path, picture: Path) -> Path:
    """The picture's cells as the tiny pipeline needs them."""
    path = picture.with_name("guided.grid")
    said("embed", picture, "-o", path, "--pipeline", pipeline, "--slide-pixel-size", "0.5um", "--batch", 4)
    return path


@pytest.fixture(scope="module")
def worse(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return other(pipeline, tmp_path_factory.mktemp("pair") / "worse", "worse")


def test_generate_says_how_it_was_guided(pipeline: Path, grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    said("generate", pipeline, "--grid", grid, "-o", out, *HOW)
    assert (read_provenance(out) or {})["settings"]["guidance"] == {
        "scale": 2.0,
        "interval": [0.1, 5.0],
        "rescale": 0.7,
        "threshold": [0.9, 1.5],
        "null_every": 1,
    }


def test_generate_is_guided_by_a_second_pipeline_and_counts_it(
    pipeline: Path, worse: Path, grid: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    whole = ("generate", pipeline, "--grid", grid, "-o", out)
    alone = said(*whole, "--dry-run")["network_evaluations"]
    led = said(*whole, "--autoguide", worse, "--guidance", 2)
    assert led["network_evaluations"] == 2 * alone
    assert (read_provenance(out) or {})["pipeline"]["autoguided_by"]["name"] == "worse"


def test_sample_takes_the_same_options(pipeline: Path, worse: Path, grid: Path, tmp_path: Path) -> None:
    for number, how in enumerate(((), ("--guidance", 2, "--autoguide", worse), ("--guidance", 2, "--null-every", 2))):
        said("sample", pipeline, "--grid", grid, "-o", tmp_path / f"{number}.png", "--count", 1, *how)
    assert (tmp_path / "0.png").read_bytes() != (tmp_path / "1.png").read_bytes()


def test_vary_takes_the_same_options(pipeline: Path, worse: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (180, 90, 150)).save(tmp_path / "a.png")
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["file", "group", "split", "pixel_size", "licence"], ["a.png", "a", "train", "0.5um", "CC0-1.0"]]
        )
    led = ("--guidance", 2, "--guidance-rescale", 0.5, "--autoguide", worse)
    assert said("vary", tmp_path / "a.csv", "-n", 1, "-o", tmp_path, "--pipeline", pipeline, *led)["variations"] == 1
    told = read_provenance(next((tmp_path / "images").iterdir())) or {}
    assert told["settings"]["guidance"]["rescale"] == 0.5
    assert told["pipeline"]["autoguided_by"]["name"] == "worse"


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        (("--guidance-interval", "5"), 2, "`5` is not two numbers with a comma"),
        (("--guidance-interval", "1,2,3"), 2, "'--guidance-interval'"),
        (("--dynamic-threshold", "a,b"), 2, "'--dynamic-threshold'"),
        (("--guidance-rescale", "1.5"), 2, "0<=x<=1"),
        (("--guidance", "2", "--guidance-interval", "5,1"), 1, "low < high"),
        (("--dynamic-threshold", "0,1"), 1, "quantile"),
        (("--dynamic-threshold", "0.9,1", "--null-every", "2"), 1, "leave out --null-every"),
        (("--autoguide", "he-foundation", "--guidance", "2"), 1, "cannot guide `tiny`"),
        (("--autoguide", "nowhere", "--guidance", "2"), 1, "neither a folder"),
    ],
)
def test_what_makes_no_sense_is_refused(
    pipeline: Path, grid: Path, tmp_path: Path, how: tuple[str, ...], code: int, words: str
) -> None:
    result = patchloom("generate", pipeline, "--grid", grid, "-o", tmp_path / "out.png", *how)
    assert words in result.stderr
    assert result.exit_code == code
    assert list(tmp_path.iterdir()) == []


def test_autoguidance_wants_a_scale(pipeline: Path, worse: Path, grid: Path, tmp_path: Path) -> None:
    result = patchloom("generate", pipeline, "--grid", grid, "-o", tmp_path / "out.png", "--autoguide", worse)
    assert "give one, such as --guidance 2" in result.stderr
    assert result.exit_code == 1
