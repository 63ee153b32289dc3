"""A pipeline that carries the encoder it was trained on, which no name finds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tests.pipelines.conftest import tissue

from patchloom.autoencoders.files import digest, load_autoencoder
from patchloom.cli.main import main
from patchloom.datasets.cutting import FirstStage, Models
from patchloom.datasets.dataset import Dataset
from patchloom.datasets.manifest import read_manifest
from patchloom.datasets.prepare import Preparation, prepare
from patchloom.encoders.trained import FORMAT, RECORD, WEIGHTS, TrainedRecord, save_encoder, trained_encoder
from patchloom.encoders.trained_network import TrainedNetwork, TrainedShape
from patchloom.errors import FormatError, InputError, MismatchError
from patchloom.grids.file import read_grid
from patchloom.pipelines.assemble import assemble
from patchloom.pipelines.pipeline import Pipeline, load_pipeline, save_pipeline
from patchloom.pipelines.record import ENCODER, Training

SHAPE = TrainedShape(6, (8, 8), (1, 0))
TRAINING = Training("noise", "CC0-1.0", 0, 0.0, "none")


def an_encoder(folder: Path, seed: int = 0, name: str = "toy") -> Path:
    torch.manual_seed(seed)
    save_encoder(TrainedNetwork(SHAPE), TrainedRecord(FORMAT, name, SHAPE, 16, "0.5um", "CC0-1.0"), folder)
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return an_encoder(tmp_path_factory.mktemp("encoders") / "toy")


@pytest.fixture(scope="module")
def prepared(own: Path, pipeline_folder: Path, slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Slides embedded by the encoder, with latents of the tiny pipeline."""
    place = pipeline_folder / "autoencoder"
    models = Models(trained_encoder(own), FirstStage(load_autoencoder(place), digest(place), 4))
    entries = [entry for entry in read_manifest(slides) if entry.split != "test"]
    folder = tmp_path_factory.mktemp("datasets") / "own"
    return prepare(entries, folder, Preparation("0.5um", 64, 32, 200, views=(0,)), models, device=torch.device("cpu"))


def assembled(folder: Path, dataset: Dataset, parts: Path, encoder: Path | None) -> Pipeline:
    return assemble(
        folder,
        "own",
        denoiser=parts / "denoiser",
        autoencoder=parts / "autoencoder",
        dataset=dataset,
        training=TRAINING,
        window=8,
        encoder=encoder,
    )


@pytest.fixture(scope="module")
def carried(own: Path, prepared: Dataset, pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return assembled(tmp_path_factory.mktemp("pipelines") / "own", prepared, pipeline_folder, own)


def test_it_embeds_as_the_folder_that_was_given(carried: Pipeline, own: Path) -> None:
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(carried.encoder()(pixels), trained_encoder(own)(pixels))
    assert carried.encoder().spec == carried.record.encoder
    assert carried.record.encoder.name == "local:toy"


def test_it_needs_nothing_beside_its_own_folder(carried: Pipeline, tmp_path: Path) -> None:
    shutil.copytree(carried.folder, tmp_path / "moved")
    moved = load_pipeline(tmp_path / "moved")
    assert moved.encoder().spec == carried.record.encoder
    assert f"{ENCODER}/{WEIGHTS}" in moved.record.weights


def test_embed_and_generate_find_it(carried: Pipeline, own: Path, tmp_path: Path) -> None:
    from PIL import Image

    slide, grid, image = (tmp_path / name for name in ("slide.png", "slide.grid", "image.png"))
    Image.fromarray(tissue(0, 160, 192)).save(slide)
    folder, runner = str(carried.folder), CliRunner()
    told = ["--pipeline", folder, "--slide-pixel-size", "0.5um", "--device", "cpu", "--dtype", "fp32"]
    assert runner.invoke(main, ["embed", str(slide), *told, "-o", str(grid)], catch_exceptions=False).exit_code == 0
    found, alone = read_grid(grid), trained_encoder(own)
    corner = torch.from_numpy(np.moveaxis(tissue(0, 160, 192), -1, 0)[:, :64, :64].copy())[None]
    assert found.encoder == alone.spec
    np.testing.assert_allclose(found.embeddings[0, 0], alone(corner)[0], atol=2e-3)
    made = ["generate", folder, "--reference", str(slide), "--slide-pixel-size", "0.5um", "-o", str(image)]
    done = runner.invoke(main, [*made, "--device", "cpu", "--dtype", "fp32"])
    assert done.exit_code == 0, done.output


def test_a_trained_encoder_that_is_not_given_is_asked_for(
    prepared: Dataset, pipeline_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"`local:toy`.*give its folder as `encoder`"):
        assembled(tmp_path / "none", prepared, pipeline_folder, None)
    assert not (tmp_path / "none").exists()


def test_another_encoder_is_not_carried(prepared: Dataset, pipeline_folder: Path, tmp_path: Path) -> None:
    other = an_encoder(tmp_path / "other", seed=1)
    with pytest.raises(MismatchError, match="name the one that made them"):
        assembled(tmp_path / "none", prepared, pipeline_folder, other)


def test_weights_that_changed_in_the_folder_are_refused(carried: Pipeline, tmp_path: Path) -> None:
    shutil.copytree(carried.folder, tmp_path / "changed")
    an_encoder(tmp_path / "changed" / ENCODER, seed=1)
    with pytest.raises(FormatError, match=r"encoder/encoder\.safetensors` is damaged or another version"):
        load_pipeline(tmp_path / "changed")


def test_a_folder_without_it_says_what_to_do(carried: Pipeline, tmp_path: Path) -> None:
    shutil.copytree(carried.folder, tmp_path / "without")
    shutil.rmtree(tmp_path / "without" / ENCODER)
    record = json.loads((tmp_path / "without" / "pipeline.json").read_text())
    del record["weights"][f"{ENCODER}/{WEIGHTS}"]
    (tmp_path / "without" / "pipeline.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"`local:toy` is found by no name.*does not carry it"):
        load_pipeline(tmp_path / "without").encoder()
    an_encoder(tmp_path / "without" / ENCODER, seed=1)  # nor is another one taken for it
    with pytest.raises(MismatchError, match="was trained with"):
        load_pipeline(tmp_path / "without").encoder()


def test_a_pipeline_made_anew_without_one_carries_none(carried: Pipeline, pipeline_folder: Path) -> None:
    folder = carried.folder.parent / "again"
    shutil.copytree(carried.folder, folder)
    record = replace(carried.record, encoder=load_pipeline(pipeline_folder).record.encoder)
    save_pipeline(folder, pipeline_folder / "autoencoder", pipeline_folder / "denoiser", record, "# again\n")
    assert not (folder / ENCODER / RECORD).exists()
    assert load_pipeline(folder).encoder().spec.name == "tiny"
