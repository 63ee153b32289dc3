"""A denoiser on the dataset of two colours: it follows its condition, and refuses what does not belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training.test_loop import Waits
from tests.training.toys import CPU, NEVER

from patchloom.datasets.dataset import open_dataset
from patchloom.datasets.processes import Processes
from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.levels import karras
from patchloom.diffusion.samplers import dpmpp_2m, run
from patchloom.errors import InputError, MismatchError
from patchloom.networks.files import load_denoiser
from patchloom.networks.unet import UNetShape
from patchloom.testing.colours import LIGHT, Colours, write_colours
from patchloom.training import loop
from patchloom.training.config import DenoiserTraining, Optimisation, Upkeep, WideWindows
from patchloom.training.denoiser import DenoiserTask
from patchloom.training.draws import Draws
from patchloom.training.run import train_config

SHAPE = UNetShape(channels=2, embedding=4, widths=(16, 16), blocks=(1, 1), condition=16)


def config_of(folder: Path, samples: int = 8) -> DenoiserTraining:
    """A config for the dataset of two colours in a folder, which is made."""
    data = write_colours(folder, Colours())
    optimisation = Optimisation(samples, batch=8, rate=3e-3, warmup=10, ema_samples=200)
    return DenoiserTraining(
        "denoiser", str(data), str(folder / "run"), str(folder / "autoencoder"), optimisation, SHAPE,
        window=8, strides=(1,), sigma_mean=0.0, upkeep=Upkeep(log=800, pictures=NEVER, checkpoint=NEVER),
    )  # fmt: skip


def task_of(config: DenoiserTraining) -> DenoiserTask:
    return DenoiserTask(config, open_dataset(Path(config.data)), torch.device("cpu"))


def told(signs: torch.Tensor) -> GridCondition:
    """A window of 8 x 8 latents above 2 x 2 cells (b, 2, 2) of these colours."""
    count = len(signs)
    return GridCondition(
        cells=(LIGHT * signs[..., None]).expand(-1, -1, -1, 4),
        valid=torch.ones(count, 2, 2, dtype=torch.bool),
        origin=torch.full((count, 2), 2.0),
        step=torch.full((count, 2), 4.0),
        dropped=torch.zeros(count, dtype=torch.bool),
    )


def test_it_learns_to_follow_its_condition(tmp_path: Path) -> None:
    config = config_of(tmp_path, samples=1600)
    train_config(config, CPU)
    denoiser, _ = load_denoiser(tmp_path / "run" / "denoiser")
    signs = torch.tensor([[[1.0, 1], [1, 1]], [[-1, -1], [-1, -1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]]])
    sigmas = karras(8, 0.02, 20.0)
    noise = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        sampled = run(denoiser, dpmpp_2m(sigmas), noise * float(sigmas[0]), told(signs))
    wanted = signs.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None].expand_as(sampled)
    inner = torch.tensor([0, 1, 6, 7])  # cells blend in the middle
    here, there = (value[:, :, inner][..., inner] for value in (sampled, LIGHT * wanted))
    assert (here.sign() == there.sign()).float().mean() > 0.95
    assert (here - there).abs().mean() < 0.4


def test_a_step_does_not_wait_for_the_device(tmp_path: Path) -> None:
    config = replace(config_of(tmp_path), strides=(1, 2))
    step = loop.Run(task_of(config), config.optimisation, CPU, Processes(), 0)
    step.step()
    with Waits() as waits:
        for _ in range(3):
            step.step()
    assert waits.found == []


def test_a_judgement_is_the_same_every_time(tmp_path: Path) -> None:
    task = task_of(config_of(tmp_path))
    (first, pictures), (second, again) = task.judge(task.module), task.judge(task.module)
    assert first == second
    assert {"val/loss_0.1", "val/loss_3.0"} <= first.keys()
    (sheet,) = pictures.values()
    assert sheet.shape == (2 * 64, 8 * 64, 3)
    assert (sheet == again["val/decoded_and_sampled"]).all()


def test_the_share_of_dropped_conditions(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    tasks = {share: task_of(replace(config, dropped=share)) for share in (0.0, 1.0)}
    index = torch.zeros(16, dtype=torch.int64)
    with torch.no_grad():
        for task in tasks.values():
            torch.manual_seed(0)
            for weight in task.module.parameters():
                weight.normal_(std=0.3)  # at first nothing passes the layers that start as zeros
        said, unsaid = (task.loss(index, Draws.seeded(index.device, 0))[0] for task in tasks.values())
    assert not torch.allclose(said, unsaid)


def test_latents_of_another_autoencoder_are_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    other = tmp_path / "other"
    write_colours(other, Colours(widths=(4, 4, 8)))
    with pytest.raises(MismatchError, match="were made by another autoencoder"):
        task_of(replace(config, autoencoder=str(other / "autoencoder")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": replace(SHAPE, channels=3)}, "latents of 2 channels"),
        ({"shape": replace(SHAPE, embedding=5)}, "embeddings of 4"),
        ({"window": 9}, "must be a multiple of 2"),
        ({"window": 64}, "as large as a window of 64 latents"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        task_of(replace(config_of(tmp_path), **change))  # type: ignore[arg-type]


def test_a_wide_step_sees_fewer_larger_windows_of_the_planes_that_have_room(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    task = task_of(replace(config, wide=WideWindows(window=16, share=1.0)))
    index = torch.arange(len(task))
    chosen = task.wide.instead_of(task.windows, index)
    x0, condition = task.wide.draw(chosen, Draws.seeded(CPU.device, 0))
    assert x0.shape[-2:] == (16, 16)
    assert len(chosen) == max(1, len(index) // 4) == len(condition.cells)
    latents = task.windows.latents
    assert {int(plane) for plane in task.wide.planes[chosen]} <= set(torch.nonzero(latents.height >= 16)[:, 0].tolist())
    losses = [task.loss(index[:8], Draws.seeded(CPU.device, n))[0] for n in range(3)]
    assert all(loss.isfinite() for loss in losses)


def test_wide_windows_that_are_no_wider_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="larger than `window`"):
        replace(config_of(tmp_path), wide=WideWindows(window=8))


def test_constants_are_those_of_valid_cells(tmp_path: Path) -> None:
    task = task_of(config_of(tmp_path))
    grids = task.windows.grids
    mean, deviation = grids.constants()
    values = grids.cells.values.double()
    assert torch.allclose(mean.double(), values.mean(0))
    assert torch.allclose(deviation.double(), values.std(0, correction=0))
    cells = replace(grids.cells, values=torch.cat([grids.cells.values, torch.full((50, 4), 99.0).half()]))
    valid = replace(grids.valid, values=torch.cat([grids.valid.values, torch.zeros(50, 1, dtype=torch.bool)]))
    assert torch.allclose(replace(grids, cells=cells, valid=valid).constants()[0], mean)
