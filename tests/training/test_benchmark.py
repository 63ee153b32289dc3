"""The benchmark of training runs, and its rows are what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml
from tests.conftest import ROOT

from patchloom import records
from patchloom.networks.unet import UNetShape
from patchloom.training.config import DenoiserTraining, Optimisation


def test_it_prints_a_ratio_for_every_variant(tmp_path: Path) -> None:
    shape = UNetShape(channels=2, embedding=3, widths=(4, 4), blocks=(1, 1), condition=4)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(records.dump(DenoiserTraining("denoiser", "", "", "", Optimisation(1), shape))))
    command = [
        sys.executable,
        "benchmarks/train.py",
        "--shape",
        config,
        "--batch",
        "2",
        "--steps",
        "1",
        "--rounds",
        "1",
    ]
    said = subprocess.run(
        [*map(str, command), "--device", "cpu", "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    rows = json.loads(said.stdout)["rows"]
    assert [(row["dtype"], row["weights"]) for row in rows] == [
        ("fp32", "rows"), ("fp32", "channels last"), ("bf16", "rows"), ("bf16", "channels last"),
    ]  # fmt: skip
    assert rows[0]["ratio"] == 1.0
    assert all(row["samples_per_second"] > 0 and row["peak"] is None for row in rows)
