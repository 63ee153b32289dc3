"""A run that starts from another's weights: the same answers at first, and nothing taken that does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training.test_denoiser import SHAPE, config_of, task_of, told
from tests.training.toys import CPU

from patchloom.diffusion.parametrisation import Parametrisation
from patchloom.errors import InputError, MismatchError, MissingError
from patchloom.networks.files import load_denoiser, save_denoiser
from patchloom.networks.unet import UNet, UNetShape
from patchloom.training.config import DenoiserTraining
from patchloom.training.run import train_config


@pytest.fixture
def config(tmp_path: Path) -> DenoiserTraining:
    """A config that starts from `tmp_path/first`, a denoiser of its own shape with constants of its own."""
    torch.manual_seed(3)
    _save(UNet(SHAPE), tmp_path / "first")
    return replace(config_of(tmp_path), initial=str(tmp_path / "first"))


def _save(network: UNet, folder: Path) -> None:
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    network.cells.mean.fill_(0.25)
    save_denoiser(network, Parametrisation(), folder)


def test_a_run_starts_with_the_answers_of_the_other(config: DenoiserTraining, tmp_path: Path) -> None:
    _, first = load_denoiser(tmp_path / "first")
    x, label, condition = torch.randn(2, 2, 8, 8), torch.tensor([0.3, -0.3]), told(torch.ones(2, 2, 2))
    with torch.no_grad():
        assert torch.equal(task_of(config).module(x, label, condition), first(x, label, condition))
        assert not torch.equal(
            task_of(replace(config, initial=None)).module(x, label, condition), first(x, label, condition)
        )


def test_what_is_fresh_is_that_of_a_new_run(config: DenoiserTraining, tmp_path: Path) -> None:
    _, first = load_denoiser(tmp_path / "first")
    new = task_of(replace(config, initial=None)).module.state_dict()
    found = task_of(replace(config, fresh=("cells.mean", "cells.layers."))).module.state_dict()
    for name, value in found.items():
        source = new if name.startswith(("cells.mean", "cells.layers.")) else first.state_dict()
        assert torch.equal(value, source[name]), name


def test_a_deeper_network_gives_the_blocks_that_there_are(config: DenoiserTraining, tmp_path: Path) -> None:
    _save(UNet(replace(SHAPE, blocks=(1, 2))), tmp_path / "first")
    with pytest.raises(MismatchError, match=r"down\.1\.blocks\.1\.first\.bias has no place"):
        task_of(config)
    found = task_of(replace(config, fresh=("down.1.blocks.1.",))).module.state_dict()
    _, first = load_denoiser(tmp_path / "first")
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in found.items())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(SHAPE, embedding=5), r"cells\.layers\.0\.weight is \(32, 5\), not \(32, 4\)"),
        (replace(SHAPE, widths=(16,), blocks=(1,)), r"down\.1\.blocks\.0\.first\.weight is missing.*; and \d+ more"),
    ],
)
def test_what_does_not_fit_is_listed(config: DenoiserTraining, other: UNetShape, message: str, tmp_path: Path) -> None:
    _save(UNet(other), tmp_path / "first")
    with pytest.raises(MismatchError, match=message):
        task_of(config)


def test_another_parametrisation_is_refused(config: DenoiserTraining) -> None:
    with pytest.raises(MismatchError, match=r"was trained as .*kind='v'.* asks for .*kind='eps'"):
        task_of(replace(config, parametrisation=Parametrisation("eps")))


def test_what_is_not_there_is_refused(config: DenoiserTraining, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="none"):
        task_of(replace(config, initial=str(tmp_path / "none")))
    with pytest.raises(InputError, match=r"`fresh` names cell\., .*; they begin cells, down"):
        task_of(replace(config, fresh=("cell.",)))
    with pytest.raises(InputError, match="there is no `initial`"):
        replace(config, initial=None, fresh=("cells.",))


def test_a_resumed_run_goes_on_and_does_not_start_again(config: DenoiserTraining, tmp_path: Path) -> None:
    train_config(config, CPU)
    left = load_denoiser(tmp_path / "run" / "denoiser")[1].state_dict()
    (tmp_path / "first" / "denoiser.json").unlink()  # its start is not needed any more
    train_config(config, CPU, resume=True)  # nothing is left to see
    again = load_denoiser(tmp_path / "run" / "denoiser")[1].state_dict()
    assert all(torch.equal(value, left[name]) for name, value in again.items())


def test_values_that_it_was_not_told_say_nothing_at_first_and_can_be_learnt(
    config: DenoiserTraining, tmp_path: Path
) -> None:
    _save(UNet(replace(SHAPE, embedding=3)), tmp_path / "first")
    with pytest.raises(MismatchError, match=r"cells\.deviation is \(3,\), not \(4,\)"):
        task_of(config)
    task = task_of(replace(config, appended=1))
    _, first = load_denoiser(tmp_path / "first")
    x, label, condition = torch.randn(2, 2, 8, 8), torch.tensor([0.3, -0.3]), told(torch.ones(2, 2, 2))
    shorter = replace(condition, cells=condition.cells[..., :3])
    with torch.no_grad():
        torch.testing.assert_close(task.module(x, label, condition), first(x, label, shorter))
    task.module(x, label, condition).sum().backward()
    assert task.module.cells.layers[0].weight.grad[:, -1].abs().max() > 0  # type: ignore[index, union-attr]


def test_how_many_it_was_not_told_is_some_of_an_embedding(config: DenoiserTraining) -> None:
    with pytest.raises(InputError, match="some of the 4 values"):
        replace(config, appended=4)
    with pytest.raises(InputError, match="there is no `initial`"):
        replace(config, initial=None, appended=1)
