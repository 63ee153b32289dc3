"""Training on: a decoder alone, whose latents stay bit by bit, and with a perceptual loss and a discriminator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.test_autoencoder import SHAPE, config_of, task_of
from tests.training.test_loop import Waits
from tests.training.toys import CPU
from torch import Tensor

from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder, ConvolutionalShape
from patchloom.autoencoders.files import RECORD, digest, load_autoencoder, save_autoencoder
from patchloom.datasets.processes import Processes
from patchloom.errors import DependencyError, InputError, MismatchError
from patchloom.training import loop
from patchloom.training.autoencoder_losses import Losses
from patchloom.training.checkpoint import NAME
from patchloom.training.config import AutoencoderTraining, read_config
from patchloom.training.discriminator import Adversaries
from patchloom.training.run import train_config

ALL = Losses(perceptual=0.1, adversarial=0.3)


def first_autoencoder(folder: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    torch.manual_seed(5)
    network = ConvolutionalAutoencoder(SHAPE)
    network.mean += 0.3
    network.deviation *= 1.7
    save_autoencoder(network, folder, dtype)
    return folder


def decoder_config(folder: Path, losses: Losses = ALL, samples: int = 24) -> AutoencoderTraining:
    config = config_of(folder, samples)
    first = first_autoencoder(folder / "first")
    return replace(config, initial=str(first), parts="decoder", losses=losses)


def of_encoder(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith("decoder.")}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_latents_stay_bit_by_bit_and_the_decoder_does_not(dtype: torch.dtype, tmp_path: Path) -> None:
    config = decoder_config(tmp_path)
    first_autoencoder(tmp_path / "first", dtype)
    train_config(config, CPU)
    before, after = load_autoencoder(tmp_path / "first"), load_autoencoder(tmp_path / "run" / "autoencoder")
    kept = of_encoder(before.state_dict())
    assert len(kept) > 5
    for name, value in of_encoder(after.state_dict()).items():
        assert torch.equal(value, kept[name]), name
    pixels = torch.randint(0, 256, (1, 3, 32, 40), dtype=torch.uint8)
    latents = before.encode(pixels)
    assert torch.equal(after.encode(pixels), latents)
    assert not torch.equal(after.decode(latents), before.decode(latents))


def test_its_latents_count_as_those_that_the_encoder_made_before(tmp_path: Path) -> None:
    config = decoder_config(tmp_path, Losses())
    train_config(config, CPU)
    once = tmp_path / "run" / "autoencoder"
    assert digest(once) == digest(tmp_path / "first")
    train_config(replace(config, initial=str(once), output=str(tmp_path / "again")), CPU)
    assert digest(tmp_path / "again" / "autoencoder") == digest(tmp_path / "first")
    whole = replace(config, initial=str(once), parts="all", output=str(tmp_path / "whole"))
    train_config(whole, CPU)
    assert digest(tmp_path / "whole" / "autoencoder") != digest(tmp_path / "first")


def test_a_whole_autoencoder_starts_from_anothers_weights(tmp_path: Path) -> None:
    config = replace(decoder_config(tmp_path, Losses()), parts="all")
    first = load_autoencoder(tmp_path / "first").state_dict()
    assert all(torch.equal(value, first[name]) for name, value in task_of(config).module.state_dict().items())


def test_a_perceptual_loss_and_a_discriminator_are_learned_with_and_logged(tmp_path: Path) -> None:
    config = decoder_config(tmp_path, replace(ALL, start=16))
    logged: list[dict[str, float]] = []
    task = task_of(config)
    assert isinstance(task.module, Adversaries)
    run = loop.Run(task, config.optimisation, CPU, Processes(), 0)
    before = {name: value.clone() for name, value in task.module.state_dict().items()}
    for _ in range(3):
        logged.append({name: float(value.detach()) for name, value in run.step().items()})
    terms = {"absolute", "edges", "perceptual", "adversarial", "adversarial_weight", "discriminator"}
    assert all(terms <= figures.keys() for figures in logged)
    assert [figures["adversarial_weight"] > 0 for figures in logged] == [False, False, True]  # from 16 samples on
    changed = {
        name.partition(".")[0] for name, v in task.module.state_dict().items() if not torch.equal(v, before[name])
    }
    assert changed == {"autoencoder", "discriminator"}
    assert task.judge(run.average.module)[0]["val/perceptual"] > 0


def test_a_perceptual_loss_brings_the_distance_down(tmp_path: Path) -> None:
    config = decoder_config(tmp_path, Losses(l1=0, edges=0, perceptual=1), samples=240)
    task = task_of(config)
    before = task.judge(task.module)[0]["val/perceptual"]
    run = loop.Run(task, config.optimisation, CPU, Processes(), 0)
    for _ in range(30):
        run.step()
    assert task.judge(task.module)[0]["val/perceptual"] < 0.9 * before


def test_a_run_with_a_discriminator_resumes_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = decoder_config(tmp_path, samples=32)
    train_config(whole, CPU)
    parts = replace(whole, output=str(tmp_path / "parts"))
    train_config(replace(parts, optimisation=replace(whole.optimisation, samples=16)), CPU)
    train_config(parts, CPU, resume=True)
    once, twice = (load_file(tmp_path / name / NAME) for name in ("run", "parts"))
    assert any(name.startswith("optimiser.exp_avg.discriminator.") for name in once)
    assert any(name.startswith("average.discriminator.") for name in once)
    assert once.keys() == twice.keys()
    for name, value in once.items():
        assert torch.equal(value, twice[name]), name


def test_a_checkpoint_of_other_parts_is_refused(tmp_path: Path) -> None:
    config = decoder_config(tmp_path, Losses(), samples=8)
    train_config(config, CPU)
    train_config(replace(config, losses=ALL, output=str(tmp_path / "judged")), CPU)
    wider = replace(config, losses=replace(ALL, discriminator=(8, 8)), output=str(tmp_path / "judged"))
    for other in (replace(config, parts="all"), replace(config, losses=ALL), wider):
        with pytest.raises(MismatchError, match="another run than this config asks for"):
            train_config(other, CPU, resume=True)


def test_a_step_with_every_loss_does_not_wait(tmp_path: Path) -> None:
    config = decoder_config(tmp_path)
    run = loop.Run(task_of(config), config.optimisation, CPU, Processes(), 0)
    run.step()
    with Waits() as waits:
        run.step()
    assert waits.found == []


def test_a_decoder_may_gain_grain_and_begins_with_the_pictures_that_it_had(tmp_path: Path) -> None:
    config = decoder_config(tmp_path, samples=8)
    config = replace(config, shape=replace(config.shape, grain=4))
    first = load_autoencoder(tmp_path / "first")
    latents = torch.randn(2, first.channels, 6, 6)
    begun = task_of(config).module
    assert isinstance(begun, Adversaries)
    assert torch.equal(begun.autoencoder.decode(latents), first.decode(latents))
    train_config(config, CPU)
    after = load_autoencoder(tmp_path / "run" / "autoencoder")
    assert after.shape.grain == 4
    assert digest(tmp_path / "run" / "autoencoder") == digest(tmp_path / "first")
    back = replace(config, initial=str(tmp_path / "run" / "autoencoder"), shape=first.shape)
    with pytest.raises(MismatchError, match=r"grain=4.* but `shape` is .*grain=0"):
        task_of(back)


def test_another_shape_is_refused(tmp_path: Path) -> None:
    config = replace(decoder_config(tmp_path), shape=ConvolutionalShape(3, (4, 8, 8), (1, 1, 1), (1, 1, 1)))
    with pytest.raises(MismatchError, match=r"of shape .*channels=2.* but `shape` is .*channels=3"):
        task_of(config)


def test_without_the_network_the_perceptual_loss_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    config = decoder_config(tmp_path)
    with pytest.raises(DependencyError, match=r"`losses.perceptual` is asked for.*or set it to 0"):
        task_of(config)
    task_of(replace(config, losses=Losses(adversarial=0.3)))


def test_a_config_names_what_it_trains(tmp_path: Path) -> None:
    said = "kind: autoencoder\ndata: d\noutput: o\noptimisation: {samples: 8}\n"
    path = tmp_path / "config.yaml"
    path.write_text(said + "initial: first\nparts: decoder\nlosses: {perceptual: 1, adversarial: 0.2, start: 100}\n")
    config = read_config(path)
    assert isinstance(config, AutoencoderTraining)
    assert config.initial == str(tmp_path / "first")
    assert config.losses == Losses(1.0, 0.5, 1.0, 0.2, 100)
    path.write_text(said + "parts: decoder\n")
    with pytest.raises(InputError, match="name its folder as `initial`"):
        read_config(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"perceptual": -1.0}, r"`losses\.perceptual` must be 0 or more"),
        ({"l1": 0.0, "edges": 0.0}, "nothing else says"),
        ({"discriminator": ()}, "one or more widths"),
        ({"discriminator": (8, 0)}, "one or more widths"),
    ],
)
def test_losses_that_make_no_run_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(Losses(), **change)  # type: ignore[arg-type]


def test_the_record_of_an_autoencoder_of_its_own_names_no_other(tmp_path: Path) -> None:
    first_autoencoder(tmp_path)
    assert '"latents": null' in (tmp_path / RECORD).read_text()
