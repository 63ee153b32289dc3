"""Training the first stage: it learns, its constants standardise its latents, and bad sizes are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training.test_loop import Waits
from tests.training.toys import CPU, NEVER

from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder, ConvolutionalShape
from patchloom.autoencoders.files import load_autoencoder
from patchloom.datasets.dataset import open_dataset
from patchloom.datasets.processes import Processes
from patchloom.errors import InputError
from patchloom.testing.colours import Colours, write_colours
from patchloom.training import loop
from patchloom.training.autoencoder import AutoencoderTask, measure_constants
from patchloom.training.config import AutoencoderTraining, Optimisation, Upkeep
from patchloom.training.run import train_config

SHAPE = ConvolutionalShape(2, (4, 8, 8), (1, 1, 1), (1, 1, 1))


def config_of(folder: Path, samples: int = 8, splits: tuple[str, ...] = ("train", "val")) -> AutoencoderTraining:
    data = write_colours(folder, Colours(splits=splits, cell_lat=3))  # type: ignore[arg-type]
    optimisation = Optimisation(samples, batch=8, rate=5e-3, warmup=10, ema_samples=100)
    return AutoencoderTraining(
        "autoencoder", str(data), str(folder / "run"), optimisation, SHAPE, crop_px=32,
        upkeep=Upkeep(log=80, pictures=NEVER, checkpoint=NEVER),
    )  # fmt: skip


def task_of(config: AutoencoderTraining) -> AutoencoderTask:
    return AutoencoderTask(config, open_dataset(Path(config.data)), torch.device("cpu"))


def test_it_learns_the_colours_and_leaves_standardised_latents(tmp_path: Path) -> None:
    config = config_of(tmp_path, samples=800)
    task = task_of(config)
    before = task.judge(task.module)[0]["val/psnr"]
    train_config(config, CPU)
    network = load_autoencoder(tmp_path / "run" / "autoencoder")
    figures, pictures = task.judge(network)
    assert figures["val/psnr"] > before + 5
    assert figures["val/psnr_bicubic8"] > 0
    assert pictures["val/pairs"].shape == (512, 8 * 256, 3)
    whole = task.pixels.crops(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]), 144, 144)
    latents = network.encode(whole)  # the constants were measured on weights that the file holds rounded
    assert latents.mean((0, 2, 3)).abs().max() < 0.05
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.05


def test_constants_do_not_depend_on_those_before(tmp_path: Path) -> None:
    task = task_of(config_of(tmp_path))
    network = task.module
    assert isinstance(network, ConvolutionalAutoencoder)
    measure_constants(network, task.pixels, crops=8, side=64)
    first = network.mean.clone(), network.deviation.clone()
    network.mean += 3
    network.deviation *= 2
    measure_constants(network, task.pixels, crops=8, side=64)
    assert torch.equal(network.mean, first[0])
    assert torch.equal(network.deviation, first[1])


def test_a_step_does_not_wait_and_leaves_the_constants_alone(tmp_path: Path) -> None:
    config = replace(config_of(tmp_path), equivariance=0.5)
    task = task_of(config)
    run = loop.Run(task, config.optimisation, CPU, Processes(), 0)
    run.step()
    with Waits() as waits:
        for _ in range(3):
            run.step()
    assert waits.found == []
    assert torch.equal(task.module.mean, torch.zeros(2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"crop_px": 40}, "must be a multiple of 16"), ({"crop_px": 256}, "as large as a crop of 256 px")],
)
def test_crops_that_do_not_fit_are_refused(change: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        task_of(replace(config_of(tmp_path), **change))  # type: ignore[arg-type]


def test_a_dataset_without_training_plots_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no plot in split `train`"):
        task_of(config_of(tmp_path, splits=("val", "test")))
