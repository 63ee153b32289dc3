"""Training an encoder: it learns places, its losses know truth from collapse, looks keep what they must keep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training.test_loop import Waits
from tests.training.toys import CPU, NEVER
from torch import Tensor

from patchloom.datasets.dataset import open_dataset
from patchloom.datasets.processes import Processes
from patchloom.datasets.stain import _stains, jittered
from patchloom.encoders.registry import load_encoder
from patchloom.encoders.trained_network import TrainedShape
from patchloom.errors import InputError, MismatchError
from patchloom.testing.colours import Colours, write_colours
from patchloom.training import loop
from patchloom.training.config import EncoderTraining, Optimisation, Upkeep, read_config
from patchloom.training.encoder import EncoderTask
from patchloom.training.encoder_losses import effective_rank, simclr, vicreg
from patchloom.training.encoder_views import Looks, look
from patchloom.training.run import train_config

SHAPE = TrainedShape(8, (8, 8), (1, 1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


def config_of(folder: Path, samples: int = 16, splits: tuple[str, ...] = ("train", "train", "val")) -> EncoderTraining:
    data = write_colours(folder, Colours(splits=splits, cell_lat=1))  # type: ignore[arg-type]
    optimisation = Optimisation(samples, batch=16, rate=3e-3, warmup=5, ema_samples=100)
    return EncoderTraining(
        "encoder", str(data), str(folder / "squares"), optimisation, SHAPE, projection=(16, 8), crop_px=16, input_px=24,
        upkeep=Upkeep(log=80, pictures=NEVER, checkpoint=NEVER),
    )  # fmt: skip


def task_of(config: EncoderTraining) -> EncoderTask:
    return EncoderTask(config, open_dataset(Path(config.data)), torch.device("cpu"))


@pytest.mark.parametrize(("loss", "gain"), [("simclr", 1.2), ("vicreg", 1.0)])
def test_it_learns_to_find_a_place_again(loss: str, gain: float, tmp_path: Path) -> None:
    small = config_of(tmp_path)
    data = write_colours(tmp_path / "large", Colours(splits=("train", "train", "val"), cell_lat=1, side=24))
    plan = Optimisation(3200, batch=32, rate=5e-3, warmup=5, ema_samples=200)
    looks = Looks((0.9, 1.1), 0.1, "rgb", 0.05, 2.0)
    config = replace(small, data=str(data), optimisation=plan, looks=looks, loss=loss)  # type: ignore[arg-type]
    task = task_of(config)
    run = loop.Run(task, plan, CPU, Processes(), 0)
    before, losses = task.judge(task.module)[0], [float(run.step()["loss"]) for _ in range(100)]
    figures, pictures = task.judge(run.average.module)
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert figures["val/found"] > gain * before["val/found"] > 0
    assert figures["val/rank"] > 1.5
    assert pictures["val/nearest"].shape == (8 * 24, 8 * 24, 3)


def test_the_exported_encoder_says_who_it_is_and_is_what_was_averaged(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    train_config(config, CPU)
    encoder = load_encoder(str(tmp_path / "squares" / "encoder"))
    spec = encoder.spec
    assert (spec.name, spec.dim, spec.input_px, spec.licence) == ("local:squares", 8, 24, "CC0-1.0")
    pixels = torch.randint(0, 255, (3, 3, 40, 40), generator=generator(), dtype=torch.uint8)
    assert encoder(pixels).shape == (3, 8)
    assert torch.allclose(encoder(pixels)[1:2], encoder(pixels[1:2]), atol=1e-5)


def test_a_killed_run_goes_on_and_another_network_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, samples=32)
    short = replace(config, optimisation=replace(config.optimisation, samples=16))
    train_config(short, CPU)
    assert train_config(config, CPU, resume=True).step == 2
    with pytest.raises(MismatchError):
        train_config(replace(config, projection=(16, 4)), CPU, resume=True)


def test_a_step_does_not_wait(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    run = loop.Run(task_of(config), config.optimisation, CPU, Processes(), 0)
    run.step()
    with Waits() as waits:
        run.step()
    assert waits.found == []


def test_a_config_file_says_it(tmp_path: Path) -> None:
    path = tmp_path / "encoder.yaml"
    path.write_text(
        "{kind: encoder, data: d, output: o, optimisation: {samples: 9}, loss: vicreg, looks: {colours: rgb}}"
    )
    config = read_config(path)
    assert isinstance(config, EncoderTraining)
    assert (config.loss, config.looks.colours) == ("vicreg", "rgb")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_px": 64}, "as large as a crop of 64 px"),
        ({"crop_px": 4}, "folds 8 px into one place"),
        ({"projection": ()}, "one or more widths"),
        ({"optimisation": Optimisation(8, batch=1)}, "`batch` must be 2 or more"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        task_of(replace(config_of(tmp_path), **change))  # type: ignore[arg-type]


def test_losses_are_least_where_looks_agree_and_places_differ() -> None:
    one, other, point = rows(64, 8), rows(64, 8, seed=1), torch.ones(64, 8)
    for loss in (simclr, vicreg):
        assert loss(one, one) < loss(one, other)
        assert loss(one, one) < loss(point, point)


def test_simclr_is_the_cross_entropy_over_all_others() -> None:
    first, second = rows(5, 4), rows(5, 4, seed=1)
    both = torch.cat([first, second])
    total = 0.0
    for i in range(10):
        likeness = torch.cosine_similarity(both[i][None], both) / 0.2
        others = [likeness[j].exp() for j in range(10) if j != i]
        total -= float((likeness[(i + 5) % 10].exp() / torch.stack(others).sum()).log())
    assert float(simclr(first, second)) == pytest.approx(total / 10, rel=1e-5)


def test_vicreg_is_zero_for_white_answers_that_agree() -> None:
    white = torch.linalg.qr(rows(64, 8) - rows(64, 8).mean(0)).Q
    white = (white - white.mean(0)) / (white - white.mean(0)).std(0)
    assert float(vicreg(2 * white, 2 * white)) < 0.5
    assert float(vicreg(torch.ones(64, 8), torch.ones(64, 8))) == pytest.approx(25 * 0.99, rel=1e-3)


def test_the_effective_rank_counts_directions() -> None:
    assert float(effective_rank(rows(4000, 6))) == pytest.approx(6, rel=0.01)
    assert float(effective_rank(rows(100, 1) * torch.ones(6))) == pytest.approx(1, rel=0.01)


def test_jitter_of_strength_zero_changes_nothing() -> None:
    pixels = torch.randint(1, 256, (2, 3, 8, 8), generator=generator(), dtype=torch.uint8)
    assert torch.allclose(jittered(pixels, "stain", 0.0, generator()), pixels.float(), atol=0.01)
    assert torch.allclose(jittered(pixels, "rgb", 0.0, generator()), pixels.float(), atol=0.01)


def test_stain_jitter_moves_amounts_of_stain_and_nothing_else() -> None:
    stains = _stains()
    amounts = torch.rand(4, 3, 8, 8, generator=generator()) * 0.8 + 0.3  # enough that no shift ends at white
    amounts[:, 2] = 0
    pixels = 255 * (-torch.einsum("bchw,cd->bdhw", amounts, stains)).exp()
    after = -(jittered(pixels, "stain", 0.3, generator(1)) / 255).log()
    found = torch.einsum("bdhw,dc->bchw", after, torch.linalg.inv(stains))
    assert (found[:, 2]).abs().max() < 1e-3  # no third stain appears
    for picture in range(4):
        for stain in range(2):
            old, new = amounts[picture, stain].flatten(), found[picture, stain].flatten()
            slope = float(((old - old.mean()) * (new - new.mean())).sum() / (old - old.mean()).square().sum())
            shift = float(new.mean() - slope * old.mean())
            assert torch.allclose(new, slope * old + shift, atol=5e-3)
            assert 0.3 < slope < 3
            assert abs(shift) < 0.3


def test_a_look_without_change_is_the_middle_turned_about() -> None:
    around = torch.zeros(64, 3, 33, 33, dtype=torch.uint8)
    around[:, :, 16, 16] = 255  # the middle stays the middle at any angle
    looks = Looks(scale=(1.0, 1.0), shift=0.0, strength=0.0, noise=0.0)
    seen = look(around, 15, looks, generator())
    assert seen.shape == (64, 3, 15, 15)
    brightest = seen[:, 0].flatten(1).argmax(1)
    assert (brightest == 7 * 15 + 7).all()


def test_every_look_lies_in_its_reach() -> None:
    looks = Looks(strength=0.0, noise=0.0)
    inside = torch.full((512, 3, *[looks.reach_px(16)] * 2), 200, dtype=torch.uint8)
    framed = torch.nn.functional.pad(inside, (9, 9, 9, 9))  # `look` works in pixels about the middle
    assert look(framed, 16, looks, generator()).min() > 190
    wider = Looks(scale=(3.0, 3.0), strength=0.0, noise=0.0)
    assert look(framed, 16, wider, generator()).min() < 100


@pytest.mark.parametrize("change", [{"scale": (1.0, 0.5)}, {"scale": (0.0, 1.0)}, {"noise": -1.0}])
def test_looks_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Looks(**change)  # type: ignore[arg-type]
