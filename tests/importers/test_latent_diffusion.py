"""The official layout: in and out again, and everything that can be wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.importers.recorded import FIXTURES, folder, model, needed
from torch import Tensor

from patchloom.autoencoders.ldm_first_stage import FirstStageShape
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.importers.latent_diffusion import export_state, import_checkpoint, lay_out
from patchloom.importers.ldm_config import read_config
from patchloom.importers.ldm_export import export_checkpoint
from patchloom.importers.ldm_names import embedder_names, stage_names, to_theirs, unet_names
from patchloom.networks.ldm_files import make_embedder
from patchloom.networks.ldm_unet import LatentUNetShape

pytestmark = needed
State = dict[str, Tensor]
Config = dict[str, Any]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder of the official layout that may be spoiled."""
    for part in ("checkpoints", "configs"):
        shutil.copytree(FIXTURES / "tiny_ssl" / part, tmp_path / part)
    return tmp_path


def respelt(folder: Path, change: Callable[[State], Any]) -> Path:
    """The folder with its tensors changed."""
    path = folder / "checkpoints" / "last.ckpt"
    held = torch.load(path, weights_only=True)
    change(held["state_dict"])
    path.unlink()
    torch.save(held, path)
    return folder


def configured(folder: Path, change: Callable[[Config], Any]) -> Path:
    """The folder with its config changed."""
    path = next(folder.glob("configs/*-project.yaml"))
    held = yaml.safe_load(path.read_text())
    change(held["model"])
    path.chmod(0o600)
    path.write_text(yaml.safe_dump(held))
    return folder


@pytest.mark.parametrize("name", ["tiny_patch", "tiny_ssl"])
def test_export_gives_the_same_tensors(name: str) -> None:
    held = torch.load(folder(name) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    found = export_state(model(name))
    networks = {key for key in held if key.startswith(("model.", "first_stage_model.", "cond_stage_model."))}
    assert set(found) == networks | {"betas"}
    assert all(torch.equal(found[key], held[key]) for key in networks)
    assert torch.equal(found["betas"], held["betas"])


def test_an_export_imports_again(copy: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": export_state(model("tiny_ssl"))}, tmp_path / "own.ckpt")
    again = import_checkpoint(tmp_path / "own.ckpt", next(copy.glob("configs/*-project.yaml")))
    assert again.passengers == ("beta table",)
    own = model("tiny_ssl").network.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in again.network.state_dict().items())


@pytest.mark.parametrize("name", ["tiny_patch", "tiny_ssl"])
def test_a_folder_in_the_official_layout_imports_again(name: str, tmp_path: Path) -> None:
    own = model(name, ema=name == "tiny_patch")  # averaged weights become the only ones
    export_checkpoint(own, tmp_path)
    again = import_checkpoint(tmp_path)
    assert again.spec == replace(own.spec, ema=False)
    held = export_state(again)
    assert all(torch.equal(value, held[key]) for key, value in export_state(own).items())


def test_what_the_official_layout_cannot_say(tmp_path: Path) -> None:
    own = model("tiny_ssl")
    shifted = replace(own.spec, first_stage=replace(own.spec.first_stage, shift=1.0))
    narrow = replace(own.spec, embedder=replace(own.spec.embedder, width=16))
    for spec, message in ((shifted, "not shifted"), (narrow, "two tokens of 512")):
        with pytest.raises(InputError, match=message):
            export_checkpoint(replace(own, spec=spec), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_name_of_the_released_models() -> None:
    """Names and shapes of the official classes at their official size, laid out without memory."""
    released = json.loads((FIXTURES / "released_keys.json").read_text())["common"]
    spec = read_config(FIXTURES / "tiny_ssl" / "configs" / "2023-11-01T12-00-00-project.yaml")
    network, stage = lay_out(replace(spec, unet=LatentUNetShape(), first_stage=FirstStageShape(codes=8192)))
    ours = to_theirs(network, unet_names(network), "model.diffusion_model")
    ours |= to_theirs(stage, stage_names(stage), "first_stage_model")
    assert {name: list(value.shape) for name, value in ours.items()} == released


def test_passengers_are_named() -> None:
    assert {"inception.", "beta table", "callbacks", "optimizer_states"} <= set(model("tiny_ssl").passengers)
    assert "model_ema." in model("tiny_patch").passengers


def test_averaged_weights_are_taken_where_they_were_kept() -> None:
    kept, raw = import_checkpoint(folder("tiny_patch")), model("tiny_patch")
    assert kept.spec.ema
    assert torch.equal(kept.network.enter.weight, model("tiny_patch", ema=True).network.enter.weight)
    assert not torch.equal(kept.network.enter.weight, raw.network.enter.weight)
    with pytest.raises(FormatError, match=r"averaged weights \(`model_ema\.`\) but holds none; .*`--weights raw`"):
        import_checkpoint(folder("tiny_ssl"), ema=True)


def test_half_precision_files(copy: Path) -> None:
    def halve(state: State) -> None:
        state |= {name: value.half() for name, value in state.items() if value.is_floating_point()}

    found = import_checkpoint(respelt(copy, halve))
    assert found.network.enter.weight.dtype == torch.float32
    assert torch.equal(found.network.enter.weight, model("tiny_ssl").network.enter.weight.half().float())


def test_a_bare_state_dict_and_a_config_beside_it(copy: Path, tmp_path: Path) -> None:
    """As ZoomLDM's weights are laid out."""
    held = torch.load(copy / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    place = tmp_path / "bare"
    place.mkdir()
    torch.save(held, place / "weights.ckpt")
    shutil.copy(next(copy.glob("configs/*-project.yaml")), place / "config.yaml")
    found = import_checkpoint(place)
    assert torch.equal(found.network.enter.weight, model("tiny_ssl").network.enter.weight)


def test_kl_first_stages_and_heads_by_width(copy: Path, tmp_path: Path) -> None:
    """What the fixtures do not hold is at least laid out, filled, written and read again."""

    def other(own: Config) -> None:
        stage = own["params"]["first_stage_config"]
        stage["target"] = "ldm.models.autoencoder.AutoencoderKL"
        del stage["params"]["n_embed"]
        stage["params"]["ddconfig"] |= {"double_z": True, "attn_resolutions": [16]}
        own["params"]["unet_config"]["params"] |= {"num_heads": -1, "num_head_channels": 8, "num_res_blocks": 2}
        own["params"] |= {"scale_by_std": True}

    config = next(configured(copy, other).glob("configs/*-project.yaml"))
    spec = read_config(config)
    assert (spec.unet.head_width, spec.unet.blocks, spec.first_stage.attention) == (8, (2, 2, 2), (4,))
    parts = (*lay_out(spec), make_embedder(spec.embedder))
    state = {"scale_factor": torch.tensor(0.5)}
    tables = unet_names(parts[0]), stage_names(parts[1]), embedder_names(parts[2])
    prefixes = "model.diffusion_model", "first_stage_model", "cond_stage_model"
    for part, table, prefix in zip(parts, tables, prefixes, strict=True):
        state |= {name: torch.randn(value.shape) / 9 for name, value in to_theirs(part, table, prefix).items()}
    torch.save(state, tmp_path / "kl.ckpt")
    found = import_checkpoint(tmp_path / "kl.ckpt", config)
    pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    latents = found.autoencoder.encode(pixels)
    assert latents.shape == (1, 3, 16, 16)
    assert torch.allclose(latents, 0.5 * found.autoencoder.raw_latents(pixels / 127.5 - 1), atol=1e-5)
    assert found.autoencoder.decode(latents).shape == pixels.shape
    exported = export_state(found)
    assert all(torch.equal(exported[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.diffusion_model.out.2.bias"), r"1 missing: model\.diffusion_model\.out\.2\.bias"),
        (lambda s: s.update({"model.extra": torch.ones(1)}), r"1 unknown: model\.extra"),
        (
            lambda s: s.update({"model.diffusion_model.out.2.bias": torch.ones(4)}),
            r"1 misshapen: model\.diffusion_model\.out\.2\.bias is \(4,\), not \(3,\)",
        ),
        (
            lambda s: s.update({"renamed.bias": s.pop("cond_stage_model.patch_fc.bias")}),
            r"1 missing: cond_stage_model\.patch_fc\.bias; 1 unknown: renamed\.bias",
        ),
        (lambda s: s.update({"betas": s["betas"] * 2}), "another beta table"),
        (lambda s: s.update({"model.diffusion_model.out.2.bias": torch.ones(3).int()}), "not floating"),
        (lambda s: s["model.diffusion_model.out.2.bias"].fill_(float("nan")), r"1 not finite: .*out\.2\.bias"),
        (lambda s: s["model.diffusion_model.out.2.weight"][0].fill_(float("-inf")), r"1 not finite: .*out\.2\.weight"),
    ],
)
def test_tensors_that_do_not_fit(change: Callable[[State], Any], message: str, copy: Path) -> None:
    with pytest.raises(FormatError, match=message):
        import_checkpoint(respelt(copy, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.diffusion_model.out.2.bias"), r"1 missing: model\.diffusion_model\.out\.2\.bias"),
        (lambda s: s.pop("model_ema.diffusion_modelout2bias"), r"holds not model_ema\.diffusion_modelout2bias; .*raw"),
        (
            lambda s: s.update({"model_ema.diffusion_modelout2bias": torch.ones(4)}),
            r"1 misshapen: model\.diffusion_model\.out\.2\.bias is \(4,\), not \(3,\)",
        ),
    ],
)
def test_a_damaged_file_of_averaged_weights(change: Callable[[State], Any], message: str, tmp_path: Path) -> None:
    """Neither those last trained nor the averaged ones may lack a tensor that the others have."""
    shutil.copytree(FIXTURES / "tiny_patch", tmp_path / "model")
    with pytest.raises(FormatError, match=message):
        import_checkpoint(respelt(tmp_path / "model", change))


def test_a_file_may_hold_the_averaged_weights_alone(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "tiny_patch", tmp_path / "model")

    def stripped(state: State) -> None:
        for name in [name for name in state if name.startswith("model.diffusion_model.")]:
            del state[name]

    found = import_checkpoint(respelt(tmp_path / "model", stripped))
    own = model("tiny_patch", ema=True).network.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in found.network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(target="my.Model"), r"model: class `my\.Model` is not run here"),
        (
            lambda m: m["params"]["cond_stage_config"].update(target="os.system"),
            r"cond_stage_config: class `os\.system` is not run here; known are .*PatchEmbedder",
        ),
        (lambda m: m["params"]["unet_config"]["params"].update(num_headz=1), "did you mean `num_heads`"),
        (lambda m: m["params"]["unet_config"]["params"].update(model_channels="wide"), "expected int"),
        (lambda m: m["params"]["unet_config"]["params"].update(use_scale_shift_norm=True), "use_scale_shift_norm"),
        (lambda m: m["params"]["unet_config"]["params"].update(channel_mult=[1, 0]), "from 1 to"),
        (lambda m: m["params"]["unet_config"]["params"].update(context_dim=7), "tokens of 7 values"),
        (lambda m: m["params"]["unet_config"]["params"].update(num_heads=0), "1 or more"),
        (lambda m: m["params"].update(linear_end=0.0001), "no beta table"),
        (lambda m: m["params"].update(channels=4), "they must agree"),
        (lambda m: m["params"].update(image_size=0), "images of 0 latents"),
        (lambda m: m["params"].update(image_size=9), "images of 9 latents"),
        (lambda m: m["params"].update(beta_schedule="cosine"), "beta_schedule: 'cosine' is none of 'linear'"),
        (lambda m: m["params"].update(rescale_betas_zero_snr=True), "unknown key `rescale_betas_zero_snr`"),
        (lambda m: m["params"]["first_stage_config"]["params"]["ddconfig"].update(attn_resolutions=[7]), "not a level"),
    ],
)
def test_configs_that_are_refused(change: Callable[[Config], Any], message: str, copy: Path) -> None:
    with pytest.raises(FormatError, match=message):
        import_checkpoint(configured(copy, change))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["params"]["unet_config"]["params"].update(model_channels=64000),
        lambda m: m["params"]["unet_config"]["params"].update(channel_mult=[2000, 2000, 2000]),
        lambda m: m["params"]["unet_config"]["params"].update(num_res_blocks=10**9),
        lambda m: m["params"]["unet_config"]["params"].update(transformer_depth=10**9),
        lambda m: m["params"]["first_stage_config"]["params"].update(n_embed=2**32),
        lambda m: m["params"]["first_stage_config"]["params"]["ddconfig"].update(ch=60000),
        lambda m: m["params"]["cond_stage_config"]["params"].update(patch_embed_dim=10**30),
        lambda m: m["params"].update(timesteps=10**12),
        lambda m: m["params"].update(image_size=2**40),
    ],
)
def test_a_config_that_asks_for_terabytes_is_refused_before_it_gets_them(
    change: Callable[[Config], Any], copy: Path
) -> None:
    with pytest.raises(FormatError, match=r"does not fit|from 1 to|at most|no beta table|images of"):
        import_checkpoint(configured(copy, change))


def test_two_configs_are_both_named(copy: Path) -> None:
    first = next(copy.glob("configs/*-project.yaml"))
    shutil.copy(first, second := copy / "configs" / "other-project.yaml")
    with pytest.raises(FormatError, match=f"`{first}` and `{second}`; say which one"):
        import_checkpoint(copy)
    assert import_checkpoint(copy, second).spec == model("tiny_ssl").spec


def test_what_is_not_there(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(MissingError, match="no checkpoint in"):
        import_checkpoint(copy / "configs")
    shutil.rmtree(copy / "configs")
    with pytest.raises(MissingError, match="no config in"):
        import_checkpoint(copy)
    with pytest.raises(MissingError, match="no checkpoint"):
        import_checkpoint(
            tmp_path / "absent.ckpt", FIXTURES / "tiny_ssl" / "configs" / "2023-11-01T12-00-00-project.yaml"
        )
