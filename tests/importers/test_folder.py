"""Imported models as folders, and by the command line, run in the loom."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tests.importers.recorded import folder, model, needed

from patchloom.cli.import_ import import_
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.geometry import Box
from patchloom.importers.latent_diffusion import LatentDiffusion, of_parts
from patchloom.importers.official import How, default_run, official_run, patch
from patchloom.loom.blended import BlendedDecode
from patchloom.loom.orders import weave_canvas, weave_parts
from patchloom.loom.run import figures
from patchloom.loom.slerp import SlerpScene
from patchloom.networks.ldm_unet import LatentUNet
from patchloom.pipelines.imported import Facts, load_imported, save_imported
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pipelines.record import RECORD, Source

pytestmark = needed


def save(model: LatentDiffusion, folder: Path, facts: Facts) -> None:
    source = Source("latent-diffusion", model.spec.ema, model.passengers)
    save_imported(folder, model.parts, model.autoencoder, model.spec.patch_px, source, facts)


@pytest.mark.parametrize("name", ["tiny_patch", "tiny_ssl"])
def test_a_folder_gives_back_the_model(name: str, tmp_path: Path) -> None:
    own = model(name)
    save(own, tmp_path, Facts(name, "0.5um"))
    denoiser, stage, record = load_imported(tmp_path)
    assert record.source is not None
    again = of_parts(
        denoiser, stage, record.patch_px, averaged=record.source.averaged, passengers=record.source.passengers
    )
    assert again.spec == own.spec
    assert again.passengers == own.passengers
    assert (record.pixel_size, record.factor, record.patch_px) == ("0.5um", 4, 64)
    for one, other in zip(
        (own.network, own.autoencoder, own.embedder), (again.network, again.autoencoder, again.embedder), strict=True
    ):
        held = other.state_dict()
        assert all(torch.equal(value, held[key]) for key, value in one.state_dict().items())


def test_damaged_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pixel size"):
        save(model("tiny_patch"), tmp_path, Facts("a", "wide"))
    with pytest.raises(MissingError):
        load_imported(tmp_path)
    save(model("tiny_patch"), tmp_path, Facts("a", "0.5um"))
    path = tmp_path / "denoiser" / "denoiser.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(FormatError, match="digest is not the recorded one"):
        load_imported(tmp_path)


def test_a_record_that_asks_for_more_than_its_weights_is_refused(tmp_path: Path) -> None:
    save(model("tiny_patch"), tmp_path, Facts("a", "0.5um"))
    record = tmp_path / "denoiser" / "denoiser.json"
    told = json.loads(record.read_text())
    told["unet"]["width"] = 64000
    record.write_text(json.dumps(told))
    with pytest.raises(FormatError, match="misshapen"):
        load_imported(tmp_path)


def test_the_verb(tmp_path: Path) -> None:
    said = ("--pixel-size", "0.5um", "--encoder", "hipt", "--background", "243,242,244", "--json")
    made = CliRunner().invoke(import_, [str(folder("tiny_patch")), "-o", str(tmp_path / "p"), *said])
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert (told["weights"], told["patch_px"], told["embedding"], told["encoder"]) == ("averaged", 64, 24, "hipt")
    assert "callbacks" in told["left_out"]
    pipeline = load_pipeline(tmp_path / "p")
    assert isinstance(pipeline.network, LatentUNet)
    assert torch.equal(pipeline.network.enter.weight, model("tiny_patch", ema=True).network.enter.weight)
    assert pipeline.record.background == (243, 242, 244)
    assert json.loads((tmp_path / "p" / RECORD).read_text())["source"]["averaged"]


def test_what_no_checkpoint_says_is_asked_for(tmp_path: Path) -> None:
    said = CliRunner().invoke(import_, [str(folder("tiny_patch")), "-o", str(tmp_path / "p")])
    assert (said.exit_code, "Missing option '--pixel-size'" in said.stderr) == (2, True)
    colour = ("--pixel-size", "0.5um", "--background", "1,2,300")
    said = CliRunner().invoke(import_, [str(folder("tiny_patch")), "-o", str(tmp_path / "p"), *colour])
    assert (said.exit_code, "is not R,G,B from 0 to 255" in said.stderr) == (2, True)


def scene() -> SlerpScene:
    values = np.random.default_rng(1).standard_normal((2, 2, 24)).astype(np.float32)
    return SlerpScene.lattice(values, 16, model("tiny_patch").embedder)


def test_the_default_recipe_makes_pixels_and_costs_less() -> None:
    own = model("tiny_patch")
    run, official = default_run(own, scene(), (32, 32), How(seed=3, steps=3)), official_run(own, scene(), (32, 32))
    latents = weave_canvas(run)
    assert np.isfinite(latents.read(Box(0, 0, 32, 32))).all()
    pixels = BlendedDecode(latents, own.autoencoder, patch(own), patch(own) // 2)
    part = Box(40, 40, 24, 30)
    np.testing.assert_array_equal(pixels.read(part), pixels.read(pixels.frame.box)[:, 40:64, 40:70])
    usual = default_run(own, scene(), (32, 32))
    assert figures(official, 4).network_evaluations == 2 * 50 * 25  # guided, 5 x 5 windows
    assert figures(usual, 4).network_evaluations < 500


def test_a_region_alone_is_the_same_picture() -> None:
    run = default_run(model("tiny_patch"), scene(), (32, 32), How(seed=3, steps=2))
    whole = weave_canvas(run).read(Box(0, 0, 32, 32))
    part = weave_parts(run).read(Box(20, 4, 6, 9))
    np.testing.assert_allclose(part, whole[:, 20:26, 4:13], atol=1e-5)


def test_nothing_is_written_among_other_things(tmp_path: Path) -> None:
    """Neither by Python nor by the verb: what lies in the folder stays as it was."""
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"holds other things than a pipeline \(README.md\); name a new folder"):
        save(model("tiny_patch"), tmp_path, Facts("a", "0.5um"))
    told = CliRunner().invoke(import_, [str(folder("tiny_patch")), "-o", str(tmp_path), "--pixel-size", "0.5um"])
    assert isinstance(told.exception, InputError)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"README.md": "mine"}
