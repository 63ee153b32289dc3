"""`patchloom evaluate encoders`: what colours tell is found, and a leak is one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from patchloom.cli.main import main
from patchloom.encoders.trained import FORMAT, TrainedRecord, save_encoder
from patchloom.encoders.trained_network import TrainedNetwork, TrainedShape
from patchloom.evaluation.report import read_report


def patchloom(*arguments: object) -> Result:
    said = ["evaluate", "encoders", *arguments, "--device", "cpu", "--dtype", "fp32"]
    return CliRunner().invoke(main, [str(each) for each in said])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    shape = TrainedShape(12, (8, 8), (1, 1))
    save_encoder(TrainedNetwork(shape), TrainedRecord(FORMAT, "small", shape, 16, "0.5um", "CC0-1.0"), folder)
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(48):
        label = ("red", "blue")[number % 2]
        pixels = rng.integers(0, 100, (20, 20, 3), dtype=np.uint8)
        pixels[..., 0 if label == "red" else 2] += 150
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,patient {number // 4},{'train' if number < 24 else 'test'},{label}")
    (tmp_path / "colours.csv").write_text("\n".join(["file,group,split,label", *rows]) + "\n")
    return tmp_path / "colours.csv"


def test_colours_are_told_apart_and_differences_stand_beside(table: Path, encoder: Path) -> None:
    said = patchloom(table, "--encoder", encoder, "--encoder", encoder, "--json", "-o", table.parent / "report.json")
    assert said.exit_code == 0, said.output
    found = {figure["name"]: figure for figure in json.loads(said.stdout)["figures"]}
    probe = found["linear probe, accuracy"]
    assert probe["estimate"]["value"] > 0.9
    assert probe["estimate"]["n"] == [24, 24]
    assert probe["estimate"]["floor"]["value"] < 0.8
    assert probe["space"]["network"] == "local:small"
    assert found["20-NN, balanced accuracy: local:small minus local:small"]["estimate"]["value"] == 0
    assert read_report(table.parent / "report.json").title == "Encoders on colours"


def test_pictures_of_several_sizes_are_resized_and_the_report_says_so(table: Path, encoder: Path) -> None:
    Image.open(table.parent / "0.png").resize((31, 31)).save(table.parent / "0.png")
    said = patchloom(table, "--encoder", encoder, "--json")
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["figures"][0]["space"]["resizer"].startswith("antialiased bicubic to 16 px, then")


def test_a_table_that_leaks_is_refused_by_name(table: Path, encoder: Path) -> None:
    table.write_text(table.read_text().replace("47.png,patient 11", "47.png,patient 3"))
    said = patchloom(table, "--encoder", encoder)
    assert said.exit_code == 1
    assert "1 groups are in train and in test: patient 3" in said.output
