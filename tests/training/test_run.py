"""A config file to a run: what resumes, what is refused, and the entry for a bare GPU image."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from tests.training.test_denoiser import SHAPE, config_of
from tests.training.toys import CPU

from patchloom import records
from patchloom.datasets.dataset import open_dataset
from patchloom.errors import FormatError, InputError, MismatchError, MissingError
from patchloom.networks.files import load_denoiser
from patchloom.testing.colours import Colours, write_colours
from patchloom.training.__main__ import main
from patchloom.training.config import DenoiserTraining, Optimisation, Upkeep, read_config
from patchloom.training.run import machine_of, train_config


@pytest.fixture
def config(tmp_path: Path) -> DenoiserTraining:
    return config_of(tmp_path)


def test_samples_rate_and_upkeep_may_change(config: DenoiserTraining) -> None:
    train_config(config, CPU)
    longer = Optimisation(24, batch=4, rate=1e-4, decay="cosine", ema_samples=9)
    done = train_config(replace(config, optimisation=longer, upkeep=Upkeep(log=4), dropped=0.2), CPU, resume=True)
    assert (done.seen, done.step) == (24, 5)


def test_another_shape_or_dataset_is_refused(config: DenoiserTraining, tmp_path: Path) -> None:
    train_config(config, CPU)
    with pytest.raises(MismatchError, match=r"`network.condition` is \d+ there, 8 here"):
        train_config(replace(config, shape=replace(SHAPE, condition=8)), CPU, resume=True)
    other = write_colours(tmp_path / "other", Colours(splits=("train", "val")))
    with pytest.raises(MismatchError, match=r"`dataset_digest` is '.*' there"):
        train_config(replace(config, data=str(other)), CPU, resume=True)


def test_the_bare_entry_trains_and_says_where_things_lie(
    config: DenoiserTraining, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(records.dump(replace(config, data="data", autoencoder="autoencoder", output="out"))))
    assert main([str(path), "--device", "cpu", "--dtype", "fp32", "--no-compile"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["samples"], said["steps"]) == (8, 1)
    assert Path(said["checkpoint"]).is_file()
    assert Path(said["log"]).parent == tmp_path / "out"
    assert load_denoiser(Path(said["export"]))[1].shape == SHAPE
    assert main([str(path), "--device", "cpu", "--dtype", "fp32"]) == 1
    assert "go on with --resume" in capsys.readouterr().err


def test_the_machine_compiles_on_cuda_or_where_told() -> None:
    assert machine_of("cpu", "fp32").compile is False
    assert machine_of("cpu", "bf16", compiled=True) == replace(CPU, dtype=torch.bfloat16, compile=True)


def test_a_config_says_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with pytest.raises(MissingError, match="no config file"):
        read_config(path)
    path.write_text("kind: painter\n")
    with pytest.raises(FormatError, match="one of autoencoder, denoiser, encoder; found 'painter'"):
        read_config(path)
    path.write_text("kind: [")
    with pytest.raises(FormatError, match="is not YAML"):
        read_config(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimisation: {samples: 8, batch: 0}", "`batch` must be positive, not 0"),
        ("optimisation: {samples: 8, rate: .nan}", "`rate` must be positive, not nan"),
        ("upkeep: {log: 0}", "`log` must be positive"),
        ("dropped: 1.5", "`dropped` is a share from 0 to 1, not 1.5"),
        ("strides: []", "one or more whole numbers"),
        ("window: 0", "`window` must be positive"),
    ],
)
def test_numbers_that_make_no_run_are_refused(change: str, message: str, tmp_path: Path) -> None:
    lines = {"optimisation": "optimisation: {samples: 8}", change.partition(":")[0]: change}
    path = tmp_path / "config.yaml"
    path.write_text(
        "\n".join(["kind: denoiser", "data: a", "output: b", "autoencoder: c", "shape: {}", *lines.values()])
    )
    with pytest.raises(InputError, match=message):
        read_config(path)


def test_paths_are_relative_to_the_config(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.yaml"
    path.parent.mkdir()
    path.write_text("{kind: autoencoder, data: ../a, output: /b, optimisation: {samples: 1, rate: 1e-4}}")
    config = read_config(path)
    assert Path(config.data).resolve() == tmp_path / "a"
    assert (config.output, config.optimisation.rate) == ("/b", 1e-4)


def test_a_dataset_whose_test_patients_leak_is_refused(config: DenoiserTraining) -> None:
    path = Path(config.data) / "dataset.json"
    record = json.loads(path.read_text())
    record["plots"][2] |= {"split": "test", "group": "patient 0"}
    path.write_text(json.dumps(record))
    with pytest.raises(MismatchError, match="patient 0"):
        open_dataset(Path(config.data))
