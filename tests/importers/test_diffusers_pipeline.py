"""Whole folders of diffusers as pipelines: against diffusers' own runs, in the loom, there and back, and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tests.importers.recorded import off, shaken
from tests.importers.test_diffusers_transformers import DIT, TINY, drawn, made, save_pixcell

from patchloom.autoencoders.tiny import TinyAutoencoder, TinyShape
from patchloom.cli.import_ import import_
from patchloom.diffusion.guidance import guided
from patchloom.diffusion.samplers import ddim, dpmpp_2m, run
from patchloom.errors import FormatError, GeometryError, InputError, MismatchError, MissingError
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box, Frame, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.spec import EncoderSpec
from patchloom.importers.diffusers_pipeline import (
    export_pipeline,
    find_folder,
    import_diffusers,
    is_pipeline,
)
from patchloom.loom.cell_tokens import CellTokenScene
from patchloom.loom.decode import decode_field
from patchloom.loom.orders import weave_canvas, weave_parts
from patchloom.loom.slerp import Interpolant
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.transformer import TransformerShape
from patchloom.networks.transformer_files import TransformerDenoiser
from patchloom.pipelines.generate import generate
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pipelines.planning import run_of
from patchloom.pipelines.request import Request
from patchloom.pipelines.sample import sample
from patchloom.pipelines.settings import Settings, plan_of

diffusers = pytest.importorskip("diffusers")

CELLS = TransformerShape("tokens", 24, 16, 2, 12, 1, 2, 16, 1.0, tokens=16, null=True)
BETAS = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "num_train_timesteps": 1000}


def kl(channels: int = 16) -> Any:
    """A first stage like Stable Diffusion 3's, of factor 4."""
    return shaken(
        diffusers.AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 3,
            up_block_types=["UpDecoderBlock2D"] * 3,
            block_out_channels=[32, 32, 32],
            latent_channels=channels,
            layers_per_block=1,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    )


def write(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def pixcell(folder: Path, *, vae: bool = True) -> Path:
    """A folder as PixCell's authors keep it: of the autoencoder there is a config alone."""
    save_pixcell(folder / "transformer", CELLS)
    kl().save_pretrained(folder / "vae")
    if not vae:
        (folder / "vae").rename(folder.with_name("sd3"))
        write(folder / "vae" / "config.json", json.loads((folder.with_name("sd3") / "config.json").read_text()))
    write(folder / "scheduler" / "scheduler_config.json", BETAS | {"_class_name": "DPMSolverMultistepScheduler"})
    own = ["transformer.pixcell_transformer_2d", "PixCellTransformer2DModel"]
    index = {"transformer": own, "vae": ["diffusers", "AutoencoderKL"]}
    index["scheduler"] = ["diffusers", "DPMSolverMultistepScheduler"]
    write(folder / "model_index.json", {"_class_name": "PixCellPipeline", "_diffusers_version": "0.32.2", **index})
    return folder


def imported(folder: Path, out: Path, *more: str) -> Any:
    said = [str(folder), "-o", str(out), "--pixel-size", "0.5um", "--json", *more]
    made = CliRunner().invoke(import_, said)
    assert made.exit_code == 0, (made.output, made.exception)
    return json.loads(made.stdout)


def test_ddim_of_a_dit_pipeline(tmp_path: Path) -> None:
    """Diffusers' whole run, guided, from the same noise to the same picture."""
    shape = replace(DIT, context=1000)  # that pipeline takes the class of number 1000 for none
    pipe: Any = diffusers.DiTPipeline(made(shape), kl(4), diffusers.DDIMScheduler(**BETAS, clip_sample=False))
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path)
    model = import_diffusers(tmp_path)
    assert isinstance(model.parts, TransformerDenoiser)
    assert (model.patch_px, model.name) == (32, "DiTPipeline")
    with torch.no_grad():
        noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
        wanted = pipe([1, 4], 3.0, torch.Generator().manual_seed(5), num_inference_steps=6, output_type="np").images
        label = model.parts.parametrisation.label
        stages = ddim(label.table[pipe.scheduler.timesteps.numpy()])
        told = model.parts.network.condition(torch.eye(1000)[[1, 4]][:, None], torch.ones(2, 1, dtype=torch.bool))
        start = noise * np.sqrt(1 + stages[0].sigma ** 2)
        latents = run(guided(model.parts.denoiser, 3.0), stages, start, told)
        # That pipeline forgets the shift: it decodes latents / scale.
        assert model.autoencoder.shape.shift == 0.0609
        pixels = model.autoencoder.pixels(latents - 0.0609 * model.autoencoder.shape.scale)
    found = ((pixels + 1) / 2).clamp(0, 1).movedim(1, -1)
    assert off(found, torch.from_numpy(wanted)) < 1e-4


def test_dpm_solver_of_a_pixart_pipeline(tmp_path: Path) -> None:
    """As PixCell's authors sample: second-order multistep, guided, over the levels of the table."""
    shape = TransformerShape("tokens", 12, 4, 2, 8, 2, 2, 8, 1.0)
    scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS)
    network = made(shape)
    network.save_pretrained(tmp_path / "transformer")
    kl(4).save_pretrained(tmp_path / "vae")
    scheduler.save_pretrained(tmp_path / "scheduler")
    parts = {"transformer": ["diffusers", "PixArtTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"]}
    write(tmp_path / "model_index.json", {"_class_name": "PixArtSigmaPipeline", **parts, "text_encoder": [None, None]})
    model = import_diffusers(tmp_path)
    tokens, null, noise = drawn(2, 3, 12, seed=1), drawn(2, 3, 12, seed=2), drawn(2, 4, 8, 8, seed=3)
    scheduler.set_timesteps(8)
    with torch.no_grad():
        x = noise
        for t in scheduler.timesteps:
            both = network(torch.cat([x, x]), torch.cat([tokens, null]), t.expand(4)).sample[:, :4]
            eps = both[2:] + 1.5 * (both[:2] - both[2:])
            x = scheduler.step(eps, t, x).prev_sample
        levels = model.parts.parametrisation.label.table[scheduler.timesteps.numpy()]
        start = noise * np.sqrt(1 + levels[0] ** 2)
        found = run(guided(model.parts.denoiser, 1.5), dpmpp_2m(levels), start, TokenCondition(tokens, null))
    assert off(found, x) < 1e-4


def test_pixcell_by_the_verb_and_in_the_loom(tmp_path: Path) -> None:
    source = pixcell(tmp_path / "pixcell", vae=False)
    stage = ("--autoencoder", str(tmp_path / "sd3"))
    told = imported(source, tmp_path / "p", *stage)
    assert (told["patch_px"], told["factor"], told["embedding"], told["encoder"]) == (64, 4, 24, "not stated")
    pipeline = load_pipeline(tmp_path / "p")
    record = pipeline.record
    assert (record.condition.cell_px, record.defaults.window, record.defaults.guidance) == (16, 16, 1.5)
    assert record.source is not None
    assert record.source.layout == "diffusers"
    values = np.random.default_rng(1).standard_normal((5, 6, 24)).astype(np.float32)
    valid = np.ones((5, 6), bool)
    valid[0, :3] = False
    scene = pipeline.conditioning.over(values, valid, (2.0, 2.0), (4.0, 4.0))
    canvas = Frame(20, 24, 16, "float32")
    made = run_of(pipeline, scene, canvas, Settings(seed=3, steps=2, batch=2))
    whole = weave_canvas(made).read(Box(0, 0, 20, 24))
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(weave_parts(made).read(Box(3, 2, 4, 5)), whole[:, 3:7, 2:7], atol=1e-4)
    assert sample(pipeline, values[0, :2], Settings(steps=2, batch=2)).shape == (2, 3, 64, 64)


def test_a_picture_from_a_grid(tmp_path: Path) -> None:
    imported(pixcell(tmp_path / "a"), tmp_path / "p", "--background", "243,242,244")
    pipeline = load_pipeline(tmp_path / "p")
    values = np.random.default_rng(1).standard_normal((5, 6, 24)).astype(np.float32)
    size = PixelSize.parse("0.5um")
    grid = EmbeddingGrid(values, np.ones((5, 6), bool), 16, 16, (0, 0), (80, 96), size, pipeline.record.encoder)
    made = generate(Request(pipeline, grid, Settings(seed=1, steps=2, batch=2)))
    pixels = made.pixels.read(Box(0, 0, 80, 96))
    assert pixels.shape == (3, 80, 96)
    assert pixels.dtype == np.uint8
    assert made.provenance["settings"]["guidance"]["scale"] == 1.5
    with pytest.raises(MismatchError, match="see 32 px"):
        generate(Request(pipeline, replace(grid, cell_px=32, canvas=(96, 112))))


@pytest.mark.parametrize("shape", TINY)
def test_tiles_of_a_tiny_decoder_are_exact(shape: TinyShape) -> None:
    own = shaken(TinyAutoencoder(shape))
    assert isinstance(own, TinyAutoencoder)
    latents = drawn(1, shape.channels, 20, 90)
    tiled = decode_field(ArrayField(latents[0].numpy()), own).read(Box(0, 0, 20 * own.factor, 90 * own.factor))
    with torch.no_grad():
        whole = own.decode(latents)[0].numpy().astype(np.int16)
    assert np.abs(tiled - whole).max() <= 1  # another batch size may round another way


def test_windows_other_than_the_trained_ones_are_refused(tmp_path: Path) -> None:
    imported(pixcell(tmp_path / "a"), tmp_path / "p")
    pipeline = load_pipeline(tmp_path / "p")
    with pytest.raises(InputError, match="windows of 16 latents alone"):
        plan_of(pipeline, Settings(window=32))
    scene = pipeline.conditioning.over(np.ones((2, 4, 24), np.float32), np.ones((2, 4), bool), (2.0, 2.0), (4.0, 4.0))
    with pytest.raises(InputError, match="the official recipe"):
        plan_of(pipeline, Settings(recipe="official"))
    made = run_of(pipeline, scene, Frame(8, 16, 16, "float32"), Settings(steps=2))
    with pytest.raises(InputError, match=r"windows of 16 x 16 latents alone, not 8 x 16"):
        weave_canvas(made).read(Box(0, 0, 8, 16))


def test_a_grid_smaller_than_a_window_is_refused_at_once(tmp_path: Path) -> None:
    model = import_diffusers(pixcell(tmp_path))
    assert isinstance(model.parts, TransformerDenoiser)
    spec = EncoderSpec("a", 24, 16, (0.0,) * 3, (1.0,) * 3, "none", "none")
    held = np.ones((4, 3, 24), np.float32), np.ones((4, 3), bool)
    grid = EmbeddingGrid(*held, 16, 16, (0, 0), (64, 48), PixelSize.parse("0.5um"), spec)
    with pytest.raises(GeometryError, match=r"48 x 64 px .* windows of 64 x 64 px and no smaller"):
        CellTokenScene.of(grid, 4, model.parts.network)


def test_a_window_is_told_the_cells_that_it_lies_on(tmp_path: Path) -> None:
    model = import_diffusers(pixcell(tmp_path))
    assert isinstance(model.parts, TransformerDenoiser)
    network = model.parts.network
    values = np.random.default_rng(1).standard_normal((6, 7, 24)).astype(np.float32)
    valid = np.ones((6, 7), bool)
    valid[3:, 4:] = False
    scene = CellTokenScene(Interpolant(values, valid, (2.0, 2.0), (4.0, 4.0)), network)
    told = scene.condition([Box(4, 8, 16, 16), Box(8, 12, 16, 16)])
    np.testing.assert_array_equal(told.tokens[0].numpy()[[0, 1, 4]], values[[1, 1, 2], [2, 3, 2]])
    assert torch.equal(told.tokens[1, -1], told.nothing[1, -1])
    assert not torch.equal(told.tokens[1, 0], told.nothing[1, 0])
    assert scene.covers(Box(0, 0, 16, 16))
    between = scene.condition([Box(4, 10, 16, 16)]).tokens[0, 0]
    halfway = Interpolant(values, valid, (2.0, 2.0), (4.0, 4.0)).at(np.array([[6.0, 12.0]]))[0][0]
    np.testing.assert_array_equal(between.numpy(), halfway)
    with pytest.raises(InputError, match="24 values a cell"):
        CellTokenScene(Interpolant(values[..., :5], valid, (2.0, 2.0), (4.0, 4.0)), network)


def test_there_and_back(tmp_path: Path) -> None:
    model = import_diffusers(pixcell(tmp_path / "a"))
    export_pipeline(model, tmp_path / "b")
    again = import_diffusers(tmp_path / "b")
    assert isinstance(model.parts, TransformerDenoiser)
    assert isinstance(again.parts, TransformerDenoiser)
    assert (again.patch_px, again.name, again.parts.parametrisation) == (64, model.name, model.parts.parametrisation)
    held = again.parts.network.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in model.parts.network.state_dict().items())


def test_a_unet_pipeline_that_diffusers_runs(tmp_path: Path) -> None:
    """A U-Net told embeddings as they are, with a tiny autoencoder; written back, diffusers reads it part by part."""
    unet: Any = shaken(
        diffusers.UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            block_out_channels=(32, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=12,
            attention_head_dim=2,
        )
    )
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    tiny: Any = shaken(diffusers.AutoencoderTiny(**widths, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)))
    unet.save_pretrained(tmp_path / "a" / "unet")
    tiny.save_pretrained(tmp_path / "a" / "vae")
    diffusers.DDPMScheduler(beta_schedule="scaled_linear").save_pretrained(tmp_path / "a" / "scheduler")
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderTiny"]}
    write(tmp_path / "a" / "model_index.json", {"_class_name": "OwnPipeline", **parts, "safety_checker": ["a", "b"]})
    told = imported(tmp_path / "a", tmp_path / "p", "--encoder", "own")
    assert (told["patch_px"], told["embedding"], told["left_out"]) == (32, 12, ["safety_checker"])
    pipeline = load_pipeline(tmp_path / "p")
    vectors, x, t = drawn(2, 12), drawn(2, 4, 16, 16), torch.tensor([3, 977])
    condition = pipeline.conditioning.patches(vectors.numpy())
    with torch.no_grad():
        wanted = unet(x, t, vectors[:, None]).sample
        network: Any = pipeline.network
        assert off(network(x, t.float(), condition), wanted) < 1e-4
        export_pipeline(import_diffusers(tmp_path / "a"), tmp_path / "b")
        again: Any = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "b" / "unet")
        assert off(again(x, t, vectors[:, None]).sample, wanted) < 1e-5
    levels = diffusers.DDIMScheduler.from_pretrained(tmp_path / "b" / "scheduler")
    label = pipeline.denoiser.parametrisation.label
    np.testing.assert_allclose(levels.alphas_cumprod, 1 / (1 + label.table**2), rtol=1e-4)


Change = Callable[[Path], Any]


def edit(name: str, change: Callable[[dict[str, Any]], Any]) -> Change:
    def edited(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        change(values)
        write(folder / name, values)

    return edited


INDEX, LEVELS = "model_index.json", "scheduler/scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (edit(INDEX, lambda v: v.update(text_encoder=["transformers", "T5EncoderModel"])), FormatError, "told text"),
        (edit(INDEX, lambda v: v.update(unet=["diffusers", "UNet2DModel"])), FormatError, "are not run here"),
        (edit(INDEX, lambda v: v.update(controlnet=["diffusers", "X"])), FormatError, "controlnet are not run here"),
        (edit(LEVELS, lambda v: v.update(beta_schedule="sigmoid")), FormatError, "sigmoid"),
        (edit(LEVELS, lambda v: v.update(_class_name="FlowMatchEulerDiscreteScheduler")), FormatError, "FlowMatch"),
        (edit(LEVELS, lambda v: v.update(rescale_betas_zero_snr=True)), FormatError, "rescale_betas_zero_snr"),
        (edit(LEVELS, lambda v: v.update(num_train_timesteps=10**12)), FormatError, "timesteps"),
        (edit(LEVELS, lambda v: v.update(beta_end="high")), FormatError, "scheduler_config.json"),
        (lambda f: (f / LEVELS).unlink(), MissingError, "which noise levels"),
        (lambda f: (f / INDEX).unlink(), MissingError, "which parts a pipeline of diffusers has; name the folder"),
        (lambda f: (f / "transformer" / WEIGHTS).write_bytes(b""), FormatError, "is empty; download it again"),
        (lambda f: (f / "transformer" / WEIGHTS).unlink(), MissingError, "no weights: .*; fetch it whole"),
        (lambda f: (f / INDEX).write_text("[1]"), FormatError, "not a JSON mapping"),
        (lambda f: (f / INDEX).write_text("{" * 100), FormatError, "is not JSON"),
        (lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(), MissingError, "--autoencoder"),
        (lambda f: kl(8).save_pretrained(f / "vae"), MismatchError, "makes 16 channels, the autoencoder reads 8"),
        (lambda f: cut(f / "vae" / "diffusion_pytorch_model.safetensors"), FormatError, "damaged"),
    ],
)
def test_folders_that_are_refused(change: Change, kind: type[Exception], message: str, tmp_path: Path) -> None:
    change(pixcell(tmp_path))
    with pytest.raises(kind, match=message):
        import_diffusers(tmp_path)


def test_one_part_of_a_pipeline_is_said_to_be_one(tmp_path: Path) -> None:
    part = pixcell(tmp_path) / "transformer"
    assert is_pipeline(part)
    with pytest.raises(MissingError, match="name the folder that holds it"):
        import_diffusers(part)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_another_autoencoder_is_refused(tmp_path: Path) -> None:
    source = pixcell(tmp_path / "pixcell", vae=False)
    edit("config.json", lambda v: v.update(scaling_factor=0.18215))(tmp_path / "sd3")
    with pytest.raises(MismatchError, match=r"`scaling_factor` 1.5305, but that of .* is 0.18215"):
        import_diffusers(source, tmp_path / "sd3")


def test_the_hub_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub's own client is asked, and told by the environment that there is no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingError, match="`a/b` is not on this machine, and HF_HUB_OFFLINE is set"):
        find_folder("hub:a/b")
    with pytest.raises(InputError, match="OWNER/NAME"):
        find_folder("hub:pixcell")
    assert find_folder(tmp_path) == tmp_path


def test_the_hub_s_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A repository that was fetched before is read from where the hub's client keeps it."""
    from huggingface_hub import constants

    place = tmp_path / "models--lab--pixcell"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("1" * 40)
    pixcell(place / "snapshots" / ("1" * 40))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert import_diffusers(find_folder("hub:lab/pixcell")).patch_px == 64


def test_options_of_the_other_layout_are_refused(tmp_path: Path) -> None:
    said = [str(pixcell(tmp_path / "a")), "-o", str(tmp_path / "p"), "--pixel-size", "0.5um", "--weights", "raw"]
    refused = CliRunner().invoke(import_, said)
    assert isinstance(refused.exception, InputError)
    assert "--weights" in str(refused.exception)
