"""Parity with the official code, piece by piece: at most 1e-4 in float32 for each, 1e-3 for a whole large image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.importers.recorded import arrays, below, folder, model, needed, off, ruled
from torch import Tensor

from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape
from patchloom.diffusion.guidance import guided
from patchloom.diffusion.levels import ddpm_spaced
from patchloom.diffusion.official import float32_table
from patchloom.diffusion.samplers import ddim, plms, run
from patchloom.diffusion.stage import Stage
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box, Frame
from patchloom.importers.latent_diffusion import EMBEDDER, UNET, LatentDiffusion, import_checkpoint
from patchloom.importers.ldm_names import embedder_names, stage_names, to_ours, to_theirs, unet_names
from patchloom.importers.official import How, official_run
from patchloom.loom.blended import BlendedDecode, bell
from patchloom.loom.orders import weave_canvas, weave_parts
from patchloom.loom.slerp import SlerpScene, slerp
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.ldm_unet import LatentUNet, LatentUNetShape
from patchloom.weights import load_exactly

pytestmark = needed
models = pytest.mark.parametrize("name", ["tiny_patch", "tiny_ssl"])
PIECE, WHOLE = 1e-4, 1e-3


def told(tokens: Tensor) -> TokenCondition:
    return TokenCondition(tokens, tokens)


def test_the_whole_official_topology() -> None:
    record, tensors = ruled()
    own = record["unet_config"]
    unet = LatentUNet(LatentUNetShape(width=own["model_channels"], context=own["context_dim"]))
    stage = FirstStage(FirstStageShape(width=record["first_stage_config"]["ddconfig"]["ch"], codes=128))
    load_exactly(unet, to_ours(below("model.diffusion_model.", tensors), unet_names(unet)), "the U-Net")
    load_exactly(stage, to_ours(below("first_stage_model.", tensors), stage_names(stage)), "the first stage")
    wanted = arrays("rule_topology", "")
    with torch.no_grad():
        assert off(unet(wanted["x"], wanted["t"], told(wanted["context"])), wanted["eps"]) < PIECE
        assert off(stage.raw_latents(wanted["image"]), wanted["latent"]) < PIECE
        assert off(stage.quantised(wanted["latent"]), wanted["latent_quant"]) < PIECE
        assert torch.equal(stage.nearest(wanted["latent"])[0], wanted["indices"])
        assert off(stage.pixels(wanted["latent"]), wanted["recon"]) < PIECE
        assert off(stage.pixels(wanted["latent"], quantise=False), wanted["recon_no_quant"]) < PIECE


@pytest.mark.parametrize(
    ("name", "ema", "place", "wanted"),
    [
        ("tiny_patch", False, "", "eps"),
        ("tiny_patch", False, "_wide", "eps_wide"),
        ("tiny_patch", False, "_64", "eps_64"),
        ("tiny_patch", True, "", "eps_ema"),
        ("tiny_ssl", False, "", "eps"),
        ("tiny_ssl", False, "_wide", "eps_wide"),
    ],
)
def test_the_network(name: str, ema: bool, place: str, wanted: str) -> None:
    told_as = arrays(name, "unet")
    with torch.no_grad():
        found = model(name, ema).network(told_as[f"x{place}"], told_as[f"t{place}"], told(told_as[f"context{place}"]))
    assert off(found, told_as[wanted]) < PIECE


@models
def test_the_network_in_bfloat16(name: str) -> None:
    """Stated in docs/foreign.md: about half a hundredth of the answer's deviation, a few times that at worst."""
    network = import_checkpoint(folder(name), ema=False).network.to(torch.bfloat16)
    wanted = arrays(name, "unet")
    with torch.no_grad():
        found = network(wanted["x"].bfloat16(), wanted["t"], told(wanted["context"])).float()
    assert 1e-4 < off(found, wanted["eps"]) < 0.05
    assert float((found - wanted["eps"]).square().mean().sqrt() / wanted["eps"].std()) < 0.01


@models
def test_the_first_stage(name: str) -> None:
    stage, wanted = model(name).autoencoder, arrays(name, "first_stage")
    with torch.no_grad():
        assert off(stage.encode(wanted["image_uint8"]), wanted["latent"]) < PIECE
        assert torch.equal(stage.nearest(wanted["latent"]), wanted["indices"])
        assert off(stage.pixels(wanted["latent"]), wanted["recon"]) < PIECE
        rounded = stage.decode(wanted["latent"][:1]).int()
    assert int((rounded - wanted["recon_uint8"].int()).abs().max()) <= 1  # theirs truncates


def test_the_first_stage_on_a_wide_image() -> None:
    stage, wanted = model("tiny_patch").autoencoder, arrays("tiny_patch", "first_stage")
    with torch.no_grad():
        assert off(stage.raw_latents(wanted["image_wide"]), wanted["latent_wide"]) < PIECE
        assert off(stage.pixels(wanted["latent_wide"]), wanted["recon_wide"]) < PIECE


@models
def test_the_tokens(name: str) -> None:
    own, wanted = model(name), arrays(name, "cond")
    region = (wanted["emb_region"],) if name == "tiny_ssl" else ()
    condition = own.embedder.condition(wanted["emb_patch"], *region)
    assert off(condition.tokens, wanted["tokens"]) < PIECE
    assert off(condition.null().tokens, wanted["tokens_uncond"]) < PIECE
    if region:
        assert off(own.embedder.condition(wanted["emb_patch"]).tokens, wanted["tokens_region_zero"]) < PIECE
        unknown = torch.zeros_like(wanted["emb_patch"])  # and a region alone
        assert off(own.embedder.condition(unknown, *region).tokens, wanted["tokens_patch_zero"]) < PIECE


@models
def test_tokens_that_are_not_normalised(name: str) -> None:
    embedder, wanted = import_checkpoint(folder(name)).embedder, arrays(name, "cond")
    embedder.shape = replace(embedder.shape, normalise=False)
    region = (wanted["emb_region"],) if name == "tiny_ssl" else ()
    assert off(embedder.condition(wanted["emb_patch"], *region).tokens, wanted["tokens_no_normalize"]) < PIECE


@models
def test_windows_between_cells(name: str) -> None:
    wanted = arrays(name, "cond")
    grid = wanted["grid4x4"].numpy().reshape(4, 4, -1)
    scene = SlerpScene.lattice(grid, 64, model(name).embedder)
    boxes = [Box(int(y), int(x), 64, 64) for y, x in wanted["win_pos"]]
    assert off(scene.embedding(boxes), wanted["win_emb"]) < PIECE
    condition = scene.condition(boxes)
    assert off(condition.tokens, wanted["win_tokens"]) < PIECE
    assert off(condition.null().tokens[:1], wanted["win_uncond_token"]) < PIECE


def test_slerp() -> None:
    wanted = arrays("tiny_patch", "cond")
    a, b = (wanted[name].numpy()[:, None].repeat(len(wanted["slerp_t"]), 1) for name in ("slerp_v0", "slerp_v1"))
    assert off(slerp(a, b, wanted["slerp_t"].numpy()[None].repeat(8, 0)), wanted["slerp_out"]) < PIECE


def sampled(
    own: LatentDiffusion, file: dict[str, Tensor], stages: list[Stage], scale: float, noise: str = ""
) -> Tensor:
    """A patch run, ending where the official ones do: at timestep 0, in the image that shrinks."""
    sigmas = [stage.sigma for stage in stages]
    first, last = sigmas[0], sigmas[-1]
    draws = file[noise] if noise else None
    noise_of: Callable[[int], Tensor] | None = None if draws is None else (lambda k: draws[k])
    condition = TokenCondition(file["tokens"], file["tokens_uncond"])
    x = file["x_T"] * float(np.sqrt(1 + first**2))
    with torch.no_grad():
        x = run(guided(own.denoiser, scale), stages[:-1], x, condition, noise_of)
    return x / float(np.sqrt(1 + last**2))


@models
def test_ddim(name: str) -> None:
    file, sigmas = arrays(name, "ddim"), ddpm_spaced(10)
    assert off(sampled(model(name), file, ddim(sigmas), 2.0), file["ddim_S10_eta0_s2"]) < WHOLE / 10
    assert off(sampled(model(name), file, ddim(sigmas), 1.0), file["ddim_S10_eta0_s1"]) < WHOLE / 10
    noisy = sampled(model(name), file, ddim(sigmas, 1.0), 1.5, "ddim_S10_eta1_s1p5_noise")
    assert off(noisy, file["ddim_S10_eta1_s1p5"]) < WHOLE / 10


@models
def test_plms(name: str) -> None:
    file, sigmas = arrays(name, "plms"), ddpm_spaced(10)
    assert off(sampled(model(name), file, plms(sigmas), 2.0), file["plms_S10_s2"]) < WHOLE / 10
    assert off(sampled(model(name), file, plms(sigmas), 1.0), file["plms_S10_s1"]) < WHOLE / 10


def test_plms_with_averaged_weights() -> None:
    file = arrays("tiny_patch", "plms")
    found = sampled(model("tiny_patch", ema=True), file, plms(ddpm_spaced(10)), 2.0)
    assert off(found, file["plms_S10_s2_ema"]) < WHOLE / 10


def test_fifty_steps_and_their_pixels() -> None:
    own, file = model("tiny_patch"), arrays("tiny_patch", "plms")
    assert off(sampled(own, file, plms(ddpm_spaced(50)), 2.0), file["plms_S50_s2"]) < WHOLE
    with torch.no_grad():
        pixels = own.autoencoder.decode(file["plms_S50_s2"])
    assert int((pixels.int() - file["decoded_plms_S50_s2_uint8"].int()).abs().max()) <= 1


@models
def test_a_step_of_training(name: str) -> None:
    """The loss, and its gradients through the imported network and what makes its tokens."""
    own, file = import_checkpoint(folder(name), ema=False), arrays(name, "training")
    for part in (own.network, own.embedder):
        part.requires_grad_(True)
    label = own.spec.parametrisation.label
    sigma = torch.from_numpy(label.table[file["t"].numpy()]).float()
    x = file["x_start"] + sigma[:, None, None, None] * file["noise"]
    assert off(x / (1 + sigma**2).sqrt()[:, None, None, None], file["x_noisy"]) < PIECE
    region = (file["emb_region"],) if name == "tiny_ssl" else ()
    answer = own.denoiser.answer(x, sigma, told(own.embedder(file["emb_patch"], *region)))
    wanted = own.spec.parametrisation.target(file["x_start"], file["noise"], sigma)
    loss = (answer - wanted).square().mean((1, 2, 3)).mean()
    assert abs(float(loss.detach()) / float(file["loss"]) - 1) < PIECE
    loss.backward()  # type: ignore[no-untyped-call]
    parts = (own.network, unet_names(own.network), UNET), (own.embedder, embedder_names(own.embedder), EMBEDDER)
    grown = {
        theirs: weight.grad
        for network, table, prefix in parts
        for theirs, weight in zip(to_theirs(network, table, prefix), network.parameters(), strict=True)
    }
    recorded = {key.removeprefix("grad:"): value for key, value in file.items() if key.startswith("grad:")}
    assert len(recorded) >= 5
    for key, value in recorded.items():
        found = grown[key]
        assert found is not None
        scale = max(float(value.std()), 1e-5)  # groups of one channel undo a bias before them: its gradient is rounding
        assert float((found - value).abs().max()) / scale < PIECE, key


class RecordedNoise:
    """The draws of the recorded large images, in place of ours by place: two for the start, then one a step."""

    draws: tuple[NDArray[np.float32], ...] = ()

    def __init__(self, seed: int, stream: int, frame: Frame) -> None:
        self.frame = frame
        self.values = self.draws[1 + stream]

    def read(self, box: Box) -> NDArray[Any]:
        return np.asarray(self.values[:, box.y : box.stop_y, box.x : box.stop_x])


def large_image(name: str, stride: int, steps: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, float]:
    """The loom's latents (1, 3, 32, 48) after the first `steps` of 50 stages of the recipe, and their noise level."""
    file = arrays(name, "panorama")
    generator = np.random.RandomState(1234)  # the recorded runs drew from it
    draws = tuple(generator.standard_normal((1, 3, 32, 48)).astype(np.float32)[0] for _ in range(2 + steps))
    monkeypatch.setattr(RecordedNoise, "draws", draws)
    own = model(name)
    top = float(float32_table(own.spec.parametrisation.label)[-1])
    start = ArrayField(file["noise_0"][0].numpy() + np.float32(top) * file["noise_1"][0].numpy())
    scene = SlerpScene.lattice(file["grid"].numpy(), 16, own.embedder)
    whole = official_run(own, scene, (32, 48), How(core=stride, batch=15), start)
    part = replace(whole, stages=whole.stages[:steps], noise=RecordedNoise)
    after = 0.0 if steps == 50 else whole.stages[steps].sigma
    return torch.from_numpy(weave_canvas(part).read(Box(0, 0, 32, 48)))[None], after


@models
def test_the_first_steps_of_the_recorded_large_image(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """45 windows a step; the whole of it, and with averaged weights, by `benchmarks/foreign_parity.py whole`."""
    file = arrays(name, "panorama")
    found, sigma = large_image(name, 4, 2, monkeypatch)
    wanted = file["x_after_steps"][file["x_after_index"].tolist().index(1)]
    assert off(found[0] / np.sqrt(1 + sigma**2), wanted) < PIECE


def test_a_whole_recorded_large_image(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = large_image("tiny_patch", 8, 50, monkeypatch)
    assert off(found, arrays("tiny_patch", "panorama")["final_stride8"]) < WHOLE


def test_a_part_of_the_official_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """1024 x 1024 px, 169 windows of 64 latents; the cone of the recorded crop after the first step is 25 of them."""
    file, own = arrays("tiny_patch", "panorama_official_size"), model("tiny_patch")
    generator = np.random.RandomState(4321)  # the recorded runs drew from it
    draws = tuple(generator.standard_normal((1, 3, 256, 256)).astype(np.float32)[0] for _ in range(3))
    monkeypatch.setattr(RecordedNoise, "draws", draws)
    top = np.float32(float32_table(own.spec.parametrisation.label)[-1])
    scene = SlerpScene.lattice(file["grid4x4"].numpy().reshape(4, 4, -1), 64, own.embedder)
    whole = official_run(
        own, scene, (256, 256), How(window=64, core=16, batch=5), ArrayField(draws[0] + top * draws[1])
    )
    told_as = whole.scene.condition([window.box for window in whole.lattices[0]])
    assert off(told_as.tokens, file["win_tokens"]) < PIECE
    found = weave_parts(replace(whole, stages=whole.stages[:1], noise=RecordedNoise)).read(Box(112, 112, 32, 32))
    assert off(found / np.sqrt(1 + whole.stages[1].sigma ** 2), file["x_after_1_crop"][0]) < PIECE


def test_windows_are_told_what_the_recorded_ones_were() -> None:
    file = arrays("tiny_patch", "panorama")
    run_of = official_run(
        model("tiny_patch"), SlerpScene.lattice(file["grid"].numpy(), 16, model("tiny_patch").embedder), (32, 48)
    )
    boxes = [window.box for window in run_of.lattices[0]]
    assert off(run_of.scene.condition(boxes).tokens, file["win_tokens"]) < PIECE


@models
def test_its_pixels(name: str) -> None:
    file = arrays(name, "panorama")
    pixels = BlendedDecode(ArrayField(file["final"][0].numpy()), model(name).autoencoder, window=16, stride=4)
    part = Box(0, 0, 64, 96)
    wrong = pixels.read(part).astype(int) - file["decoded_uint8"][0, :64, :96].permute(2, 0, 1).numpy()
    assert np.abs(wrong).max() <= 1
    assert np.count_nonzero(wrong) < 10
    if name == "tiny_patch":
        assert off(bell(64, 64), file["kernel"]) < PIECE
        assert off(pixels.blended(part), file["decoded_crop"][0]) < PIECE
