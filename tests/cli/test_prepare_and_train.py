"""`patchloom prepare` and `patchloom train`: pictures to a dataset, an autoencoder, latents, a denoiser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from patchloom.autoencoders.files import load_autoencoder
from patchloom.cli.main import main
from patchloom.networks.files import load_denoiser
from patchloom.training.checkpoint import NAME

SMALL: dict[str, Any] = {"channels": 2, "widths": [4, 4, 4], "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1, 1]}


def patchloom(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--device", "cpu", "--dtype", "fp32"])


def picture(path: Path) -> Path:
    rng = np.random.default_rng(len(path.name))
    coarse = rng.integers(40, 230, (17, 18, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((288, 272), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three pictures of three patients."""
    lines = ["file,group,split,pixel_size"]
    for patient, split in (("a", "train"), ("bb", "val"), ("ccc", "test")):
        picture(tmp_path / f"{patient}.png")
        lines.append(f"{patient}.png,{patient},{split},0.5um")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "table.csv"


def prepare(*arguments: object) -> Result:
    return patchloom("prepare", *arguments, "--patch", 64, "--stride", 64, "--views", 1, "--background", 1)


def write_config(folder: Path, **values: object) -> Path:
    path = folder / f"{values['kind']}.yaml"
    optimisation = {"samples": 4, "batch": 2, "warmup": 1}
    upkeep = {"log": 2, "pictures": 1000, "checkpoint": 2}
    path.write_text(yaml.safe_dump({**values, "optimisation": optimisation, "upkeep": upkeep}))
    return path


def test_pictures_to_a_dataset_an_autoencoder_latents_and_a_denoiser(table: Path, tmp_path: Path) -> None:
    made = prepare(table, "-o", tmp_path / "pixels", "--encoder", "none", "--json")
    assert made.exit_code == 0, made.output
    facts = json.loads(made.stdout)
    assert (facts["plots"], facts["broken"]) == ({"train": 1, "val": 1, "test": 1}, [])

    config = write_config(tmp_path, kind="autoencoder", data="pixels", output="ae", shape=SMALL, crop_px=64)
    trained = patchloom("train", config, "--json")
    assert trained.exit_code == 0, trained.output
    assert json.loads(trained.stdout)["samples"] == 4
    assert trained.stderr.splitlines()[0].startswith("2 samples, ")
    assert load_autoencoder(tmp_path / "ae/autoencoder").factor == 8

    said = prepare(table, "-o", tmp_path / "data", "--autoencoder", tmp_path / "ae/autoencoder", "--encoder", "tiny")
    assert said.exit_code == 0, said.output
    assert {"plots:", "  train: 1", "broken: none"} <= set(said.stdout.splitlines())

    shape = {"channels": 2, "embedding": 6, "widths": [8, 8], "blocks": [1, 1], "condition": 8}
    config = write_config(
        tmp_path, kind="denoiser", data="data", output="run", autoencoder="ae/autoencoder", shape=shape, window=16
    )
    assert patchloom("train", config).exit_code == 0
    assert load_denoiser(tmp_path / "run/denoiser")[1].shape.widths == (8, 8)


def test_a_run_is_shown_refused_and_resumed(table: Path, tmp_path: Path) -> None:
    assert prepare(table, "-o", tmp_path / "pixels", "--encoder", "none").exit_code == 0
    config = write_config(tmp_path, kind="autoencoder", data="pixels", output="ae", shape=SMALL, crop_px=64)
    shown = patchloom("train", config, "--show", "--json")
    assert json.loads(shown.stdout)["latent_noise"] == 0.1
    assert not (tmp_path / "ae").exists()

    assert patchloom("train", config).exit_code == 0
    assert (tmp_path / "ae" / NAME).is_file()
    again = patchloom("train", config)
    assert again.exit_code == 1
    assert again.stderr.startswith(f"Error: `{tmp_path}/ae` holds a run already; go on with --resume")

    values = yaml.safe_load(config.read_text())
    values["optimisation"]["samples"] = 8
    config.write_text(yaml.safe_dump(values))
    longer = patchloom("train", config, "--resume", "--json")
    assert longer.exit_code == 0, longer.output
    assert json.loads(longer.stdout)["samples"] == 8


def test_a_misspelt_key_is_named(tmp_path: Path) -> None:
    config = write_config(tmp_path, kind="autoencoder", data="a", output="b", crop_pixels=64)
    result = patchloom("train", config)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {config}: unknown key `crop_pixels`; did you mean `crop_px`?\n"


def test_slides_by_themselves_are_split_and_a_broken_one_is_named(tmp_path: Path) -> None:
    slides = [picture(tmp_path / f"{'x' * n}.png") for n in range(1, 5)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(slides[0].read_bytes()[:2000])
    out = tmp_path / "data"
    size = ("--slide-pixel-size", "0.5um", "--val", 0.5, "--test", 0, "--encoder", "none")
    result = prepare(*slides, broken, "-o", out, *size, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert sum(facts["plots"].values()) == 4
    assert facts["plots"]["test"] == 0
    assert [row["source"] for row in facts["broken"]] == ["broken.png"]
