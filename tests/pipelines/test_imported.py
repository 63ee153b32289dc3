"""Imported models as pipelines: every verb runs them, and what they do not state is not compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape
from patchloom.cli.main import main
from patchloom.datasets.dataset import Dataset
from patchloom.diffusion.parametrisation import NoiseLabel, Parametrisation
from patchloom.errors import FormatError, InputError, MismatchError
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.spec import EncoderSpec
from patchloom.importers.latent_diffusion import LatentDiffusion, of_parts
from patchloom.importers.official import How, default_run, official_run
from patchloom.loom.orders import weave_canvas
from patchloom.loom.run import Run
from patchloom.loom.slerp import SlerpScene
from patchloom.networks.ldm_files import LatentDenoiser
from patchloom.networks.ldm_tokens import EmbedderShape, TokenEmbedder
from patchloom.networks.ldm_unet import LatentUNet, LatentUNetShape
from patchloom.pipelines.generate import generate
from patchloom.pipelines.guidance import Guidance
from patchloom.pipelines.imported import Facts, load_imported, save_imported
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.reconstruct import latents_of
from patchloom.pipelines.record import NOT_STATED, Source
from patchloom.pipelines.request import Request
from patchloom.pipelines.sample import sample
from patchloom.pipelines.settings import Settings, settled
from patchloom.pipelines.vary import vary
from patchloom.trials.seams import borders_of, settings_of

DIM, PATCH = 6, 64
SOURCE = Source("latent-diffusion", True, ("callbacks",), "MIT")
ENCODER = EncoderSpec("tiny", DIM, 16, (0.5,) * 3, (0.5,) * 3, "CC0-1.0", "sha256:" + "0" * 64)


def parts() -> tuple[LatentDenoiser, FirstStage]:
    """Random weights; 4 px a latent, patches of 64 px."""
    torch.manual_seed(1)
    network = LatentUNet(LatentUNetShape(3, 32, (1, 2), (1, 1), (2,), context=8))
    torch.nn.init.normal_(network.leave.weight, std=0.05)
    stage = FirstStage(FirstStageShape("vq", 3, 3, 32, (1, 1, 1), 1, codes=16))
    told = LatentDenoiser(network, TokenEmbedder(EmbedderShape(DIM, width=8)), parametrisation())
    for module in (network, stage, told.embedder):
        module.eval().requires_grad_(False)
    return told, stage


def parametrisation() -> Parametrisation:
    return Parametrisation("eps", label=NoiseLabel("ddpm"))


def saved(folder: Path, facts: Facts) -> Pipeline:
    denoiser, stage = parts()
    save_imported(folder, denoiser, stage, PATCH, SOURCE, facts)
    return load_pipeline(folder)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported") / "foreign"
    saved(folder, Facts("foreign", "0.5um", "tiny"))
    return folder


@pytest.fixture(scope="module")
def pipeline(imported: Path) -> Pipeline:
    return load_pipeline(imported)


def grid(rows: int = 2, cols: int = 3, encoder: EncoderSpec = ENCODER, pixel_size: str = "0.5um") -> EmbeddingGrid:
    values = np.random.default_rng(4).standard_normal((rows, cols, encoder.dim)).astype(np.float32)
    valid = np.ones((rows, cols), bool)
    canvas = (rows * PATCH, cols * PATCH)
    return EmbeddingGrid(values, valid, PATCH, PATCH, (0.0, 0.0), canvas, PixelSize.parse(pixel_size), encoder)


def test_a_folder_gives_back_what_was_saved(imported: Path) -> None:
    own, (denoiser, stage, record) = parts(), load_imported(imported)
    for one, other in zip(
        (own[0].network, own[0].embedder, own[1]), (denoiser.network, denoiser.embedder, stage), strict=True
    ):
        held = other.state_dict()
        assert all(torch.equal(value, held[key]) for key, value in one.state_dict().items())
    assert (record.source, record.training, record.condition.strides_px) == (SOURCE, None, (PATCH,))
    assert (record.encoder.name, record.encoder.digest, record.encoder.dim) == ("tiny", NOT_STATED, DIM)
    assert "- passengers: callbacks\n- licence: MIT\n" in (imported / "README.md").read_text()


def model(folder: Path) -> LatentDiffusion:
    denoiser, stage, record = load_imported(folder)
    return of_parts(denoiser, stage, record.patch_px)


def whole(run: Run[Any]) -> NDArray[np.float32]:
    return np.asarray(weave_canvas(run).read(run.latents.box))


@pytest.mark.parametrize(
    ("settings", "recipe"), [(Settings(), default_run), (Settings(recipe="official"), official_run)]
)
def test_a_pipeline_does_what_the_recipes_do(
    imported: Path, pipeline: Pipeline, settings: Settings, recipe: Callable[..., Run[Any]]
) -> None:
    """The recipes for a model in memory are held against the recorded outputs of the official code."""
    own = model(imported)
    own.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    scene = SlerpScene.of(grid(1, 3), 4, own.embedder)
    told = recipe(own, scene, (16, 48), How(seed=7, batch=4))
    run = plan_run(pipeline, grid(1, 3), replace(settings, seed=7, batch=4))
    assert [stage.sigma for stage in run.stages] == [stage.sigma for stage in told.stages]
    assert run.lattices == told.lattices
    few = slice(-2, None)  # the last levels are enough to tell runs apart, and the first field says how they start
    first, other = (one.start or one.noise(one.seed, 0, one.latents) for one in (run, told))
    np.testing.assert_array_equal(first.read(run.latents.box), other.read(run.latents.box))
    start = ArrayField(0.2 * np.random.default_rng(0).standard_normal((3, 16, 48)).astype(np.float32))
    made, wanted = (replace(one, stages=one.stages[few], start=start) for one in (run, told))
    np.testing.assert_array_equal(whole(made), whole(wanted))


def test_the_official_recipe_fills_what_is_left_open(pipeline: Pipeline) -> None:
    chosen = settled(pipeline, Settings(recipe="official"))
    assert (chosen.sampler, chosen.steps, chosen.guidance.scale) == ("ddim", 50, 4.0)
    assert (chosen.plan, chosen.window, chosen.core) == ("average", 16, 4)
    assert settled(pipeline, chosen) == chosen
    for settings in (Settings(recipe="official", sampler="heun"), Settings(recipe="official", plan="halo")):
        with pytest.raises(InputError, match="DDIM over averaged windows"):
            settled(pipeline, settings)


def test_the_official_recipe_is_no_recipe_of_ours(tiny: Pipeline) -> None:
    """`tiny` was told its noise level by no table."""
    own = replace(ENCODER, digest=tiny.record.encoder.digest)
    with pytest.raises(InputError, match="table of betas"):
        plan_run(tiny, grid(encoder=own), Settings(recipe="official"))


@pytest.mark.parametrize("settings", [Settings(steps=2), Settings(steps=2, recipe="official", core=8)])
def test_a_part_is_the_crop_of_the_whole(pipeline: Pipeline, settings: Settings) -> None:
    part = Box(30, 50, 41, 33)
    image = generate(Request(pipeline, grid(), settings))
    crop = generate(Request(pipeline, grid(), settings, only=part)).pixels.read(Box(0, 0, 41, 33))
    np.testing.assert_array_equal(crop, image.pixels.read(image.pixels.frame.box)[:, *part.inside(Box(0, 0, 128, 192))])
    assert image.provenance["not_checked"] == [
        "`foreign` does not state the weights of `tiny`: grids are checked by name and length alone"
    ]
    laid = settings_of(image.provenance, pipeline, "it")
    assert borders_of(pipeline, laid, (128, 192)) == borders_of(pipeline, settings, (128, 192))
    assert (laid.window, laid.core) != (None, None)


def test_what_is_not_stated_is_not_compared(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.check(grid(encoder=replace(ENCODER, digest="sha256:" + "1" * 64)))
    for other in (grid(encoder=replace(ENCODER, name="other")), grid(encoder=replace(ENCODER, dim=7))):
        with pytest.raises(MismatchError, match="expects 6-d ones of `tiny`"):
            pipeline.check(other)
    with pytest.raises(MismatchError, match=r"see 64 px of 0\.25um"):
        pipeline.check(grid(pixel_size="0.25um"))
    nameless = saved(tmp_path / "nameless", Facts("nameless", "0.5um"))
    nameless.check(grid(encoder=replace(ENCODER, name="other")))
    assert "only the length of embeddings is checked" in nameless.doubts[0]
    with pytest.raises(InputError, match="import it again with --encoder"):
        nameless.encoder()


def test_an_encoder_of_another_length_is_refused(tmp_path: Path) -> None:
    denoiser, stage = parts()
    with pytest.raises(InputError, match="`uni` gives 1024-d embeddings, but this model was trained on 6-d ones"):
        save_imported(tmp_path, denoiser, stage, PATCH, SOURCE, Facts("a", "0.5um", "uni"))
    assert not list(tmp_path.iterdir())


def test_a_background_costs_nothing_where_it_is_stated(pipeline: Pipeline, tmp_path: Path) -> None:
    empty = grid(2, 4)
    empty.valid[:, 1:] = False
    glass = saved(tmp_path / "glass", Facts("glass", "0.5um", "tiny", (240, 240, 240)))
    told, untold = (plan_run(one, empty, Settings()) for one in (glass, pipeline))
    assert (told.background is None, untold.background is None) == (False, True)
    assert told.background is not None
    assert not told.background.covers(Box(0, 48, 16, 16))


def test_patches_of_embeddings(pipeline: Pipeline) -> None:
    made = sample(pipeline, grid().embeddings[0], Settings(steps=2, batch=2))
    assert (made.shape, made.dtype.name) == ((3, 3, PATCH, PATCH), "uint8")
    np.testing.assert_array_equal(made, sample(pipeline, grid().embeddings[0], Settings(steps=2, batch=2)))
    assert not np.array_equal(made[0], made[1])


def test_a_large_reference_is_encoded_in_patches(pipeline: Pipeline) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (3, 130, 201), dtype=np.uint8)
    latents = latents_of(pipeline, ArrayField(pixels))
    assert latents.shape == (3, 32, 50)
    alone = pipeline.autoencoder.encode(torch.from_numpy(pixels[None, :, :64, :64])).numpy()[0]
    np.testing.assert_allclose(latents[:, :12, :12], alone[:, :12, :12], atol=1e-4)


def test_variations_of_images(pipeline: Pipeline, slides: Path, dataset: Dataset, tmp_path: Path) -> None:
    """From a table, and from the cells of a dataset."""
    for originals in (slides, dataset.folder):
        made = vary(
            pipeline,
            originals,
            1,
            tmp_path / originals.stem,
            Settings(steps=1, guidance=Guidance(1.0), batch=8),
            split="val",
        )
        assert len(made.variations) > 0
        assert made.skipped == ()
        assert all((tmp_path / originals.stem / row.file).is_file() for row in made.variations)


def test_files_of_our_own_need_no_kind(pipeline_folder: Path, tmp_path: Path) -> None:
    """They were written before there were kinds."""
    shutil.copytree(pipeline_folder, tmp_path / "old")
    for name in ("autoencoder", "denoiser"):
        path = tmp_path / "old" / name / f"{name}.json"
        values = json.loads(path.read_text())
        assert values.pop("kind") in ("convolutional", "grid-unet")
        path.write_text(json.dumps(values))
    record = tmp_path / "old" / "pipeline.json"
    values = json.loads(record.read_text())
    del values["source"], values["defaults"]["levels"]
    record.write_text(json.dumps(values))
    assert load_pipeline(tmp_path / "old").record == load_pipeline(pipeline_folder).record


def test_a_kind_of_the_future_is_named(imported: Path, tmp_path: Path) -> None:
    shutil.copytree(imported, tmp_path / "new")
    path = tmp_path / "new" / "denoiser" / "denoiser.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": "spline"}))
    with pytest.raises(FormatError, match="kind `spline`; this version reads grid-unet, latent-diffusion"):
        load_pipeline(tmp_path / "new")


def patchloom(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


def test_every_verb_runs_it(imported: Path, tmp_path: Path) -> None:
    picture, cells, out = tmp_path / "picture.png", tmp_path / "a.grid", tmp_path / "out.png"
    Image.fromarray(np.random.default_rng(0).integers(60, 180, (128, 160, 3), dtype=np.uint8)).save(picture)
    here = ("--device", "cpu", "--dtype", "fp32")
    pipeline_told = ("--pipeline", imported, "--slide-pixel-size", "0.5um", "--valid", "all")
    patchloom("embed", picture, "-o", cells, *pipeline_told, *here)
    said = patchloom("generate", imported, "--grid", cells, "-o", out, "--steps", 2, *here)
    assert "Note: `foreign` does not state the weights of `tiny`" in said.stderr
    assert np.asarray(Image.open(out)).shape == (128, 160, 3)
    twice = tmp_path / "official.png"
    patchloom("generate", imported, "--grid", cells, "-o", twice, "--recipe", "official", "--steps", 1, *here)
    assert not np.array_equal(np.asarray(Image.open(out)), np.asarray(Image.open(twice)))
    patchloom("sample", imported, "--grid", cells, "-o", tmp_path / "sheet.png", "--count", 2, "--steps", 2, *here)
    told = ("--grid", cells, "--pipeline", imported, "--reference", picture, "--slide-pixel-size", "0.5um", "--json")
    found = json.loads(patchloom("evaluate", "similarity", out, *told, *here).stdout)
    assert any("does not state the weights" in note for note in found["notes"])
    seam = json.loads(patchloom("evaluate", "seams", out, "--pipeline", imported, "--json", *here).stdout)
    assert seam["title"] == "seams of out.png"
    lines = patchloom("info", imported).stdout.splitlines()
    assert {"kind: pipeline", "source:", "  layout: latent-diffusion", "  digest: not stated"} <= set(lines)
