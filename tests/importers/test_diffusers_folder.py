"""Folders of diffusers, against diffusers itself: what we write it loads, what it writes we load, same answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.importers.recorded import model, needed, off, shaken

from patchloom.autoencoders.ldm_first_stage import FirstStageShape
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.importers.diffusers_folder import export_diffusers, read_stage, read_unet, stage_config, unet_config
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.ldm_unet import LatentUNet, LatentUNetShape

diffusers = pytest.importorskip("diffusers")


def answers(network: LatentUNet, theirs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    shape, side = network.shape, 4 * network.shape.multiple
    x = torch.randn(2, shape.channels, side, side, generator=generator)
    t, tokens = torch.tensor([3.0, 977.0]), torch.randn(2, 3, shape.context, generator=generator)
    with torch.no_grad():
        return network(x, t, TokenCondition(tokens, tokens)), theirs(x, t, tokens).sample


UNETS = [
    LatentUNetShape(width=32, multipliers=(1, 2), blocks=(1, 1), attention=(2,), heads=2, context=12),
    LatentUNetShape(4, 32, (1, 2, 2), (2, 2, 2), (1, 4), None, 16, 2, 12),
]
STAGES = [
    FirstStageShape("vq", 3, 3, 32, (1, 2), 1, (), 32),
    FirstStageShape("vq", 4, 6, 32, (1, 1, 2), 2, (4,), 16, 0.5),
    FirstStageShape("kl", 4, 4, 32, (1, 2), 1, (), 0, 1.5, 0.06),
]


@pytest.mark.parametrize("shape", UNETS)
def test_unets_that_diffusers_made(shape: LatentUNetShape, tmp_path: Path) -> None:
    told = {key: value for key, value in unet_config(shape).items() if not key.startswith("_")}
    theirs: Any = shaken(diffusers.UNet2DConditionModel(**told))
    theirs.save_pretrained(tmp_path)
    network = read_unet(tmp_path)
    assert network.shape == shape
    assert off(*answers(network, theirs)) < 1e-4


@pytest.mark.parametrize("shape", STAGES)
def test_first_stages_that_diffusers_made(shape: FirstStageShape, tmp_path: Path) -> None:
    told = stage_config(shape)
    theirs: Any = shaken(getattr(diffusers, told.pop("_class_name"))(**told))
    theirs.save_pretrained(tmp_path)
    stage = read_stage(tmp_path)
    assert stage.shape == shape
    pixels = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        raw = stage.raw_latents(pixels)
        wanted = theirs.encode(pixels)
        assert off(raw, wanted.latents if shape.kind == "vq" else wanted.latent_dist.mode()) < 1e-4
        latents = (raw - shape.shift) * shape.scale
        assert off(stage.pixels(latents), theirs.decode(raw).sample) < 1e-4


@needed
@pytest.mark.parametrize("name", ["tiny_patch", "tiny_ssl"])
def test_diffusers_loads_what_we_write(name: str, tmp_path: Path) -> None:
    own = model(name)
    export_diffusers(own, tmp_path)
    theirs = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    assert off(*answers(own.network, theirs)) < 1e-4
    stage = diffusers.VQModel.from_pretrained(tmp_path / "vqvae")
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        assert off(stage.encode(pixels).latents, own.autoencoder.raw_latents(pixels)) < 1e-4
    again = read_unet(tmp_path / "unet").state_dict()
    assert all(torch.equal(value, again[key]) for key, value in own.network.state_dict().items())
    again = read_stage(tmp_path / "vqvae").state_dict()
    assert all(torch.equal(value, again[key]) for key, value in own.autoencoder.state_dict().items())


@needed
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(_class_name="UNetSpatioTemporal"), "class `UNetSpatioTemporal` is not run here"),
        (lambda c: c.update(novelty=1), "`novelty` is not known"),
        (lambda c: c.update(use_linear_projection=True), "`use_linear_projection` is True; only False"),
        (lambda c: c.update(norm_eps=1e-3), "`norm_eps`"),
        (lambda c: c.update(freq_shift=1), "`freq_shift`"),
        (lambda c: c.pop("cross_attention_dim"), "does not say 'cross_attention_dim'"),
        (lambda c: c.update(block_out_channels=[32, 6400]), "misshapen|equal groups"),
        (lambda c: c.update(block_out_channels="wide"), "config.json`: "),
    ],
)
def test_configs_that_are_refused(change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path) -> None:
    export_diffusers(model("tiny_patch"), tmp_path)
    path = tmp_path / "unet" / "config.json"
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(FormatError, match=message):
        read_unet(tmp_path / "unet")


def test_what_diffusers_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"config\.json"):
        read_stage(tmp_path)
    with pytest.raises(InputError, match="one number of channels"):
        stage_config(FirstStageShape("kl", 3, 4, 32, (1, 1), 1))
    with pytest.raises(InputError, match="begin with 1"):
        unet_config(LatentUNetShape(width=32, multipliers=(2,), blocks=(1,)))
