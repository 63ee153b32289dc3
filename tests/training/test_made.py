"""A decoder that learns from what a denoiser makes, beside what its encoder sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tests.training.test_denoiser import config_of as denoiser_config
from tests.training.test_loop import Waits
from tests.training.toys import CPU, NEVER
from torch import Tensor

from patchloom.autoencoders.files import digest, load_autoencoder
from patchloom.datasets.dataset import open_dataset
from patchloom.datasets.processes import Processes
from patchloom.errors import InputError, MismatchError
from patchloom.testing.colours import Colours, write_colours
from patchloom.training import loop
from patchloom.training.autoencoder import AutoencoderTask
from patchloom.training.autoencoder_losses import Criterion, Losses, lattice
from patchloom.training.checkpoint import NAME, Progress
from patchloom.training.config import AutoencoderTraining, Made, Optimisation, Upkeep, read_config
from patchloom.training.discriminator import PatchDiscriminator
from patchloom.training.draws import Draws
from patchloom.training.journal import Report
from patchloom.training.made import MARGIN, MadeLatents, inside
from patchloom.training.run import train_config

CROP = 4  # latents
DEVICE = torch.device("cpu")
Free: TypeAlias = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    config = denoiser_config(folder, samples=800)
    train_config(config, CPU)
    return folder


def config_of(denoiser: Path, folder: Path, samples: int = 8, **told: object) -> AutoencoderTraining:
    first = load_autoencoder(denoiser / "autoencoder")
    made = Made(str(denoiser / "run" / "denoiser"), windows=5, window=CROP + 2 * MARGIN, steps=4, guidance=2.0)
    return AutoencoderTraining(
        "autoencoder", denoiser_data(denoiser), str(folder / "run"), Optimisation(samples, batch=4, warmup=1),
        first.shape, crop_px=CROP * first.factor, initial=str(denoiser / "autoencoder"), parts="decoder",
        losses=Losses(adversarial=0.3), made=replace(made, **told), equivariance=0,  # type: ignore[arg-type]
        upkeep=Upkeep(log=NEVER, pictures=NEVER, checkpoint=NEVER),
    )  # fmt: skip


def denoiser_data(folder: Path) -> str:
    return next(str(path.parent) for path in folder.rglob("dataset.json"))


def task_of(config: AutoencoderTraining, report: Report = lambda progress, figures: None) -> AutoencoderTask:
    return AutoencoderTask(config, open_dataset(Path(config.data)), DEVICE, report=report)


def test_windows_are_made_once(denoiser: Path, tmp_path: Path) -> None:
    config = config_of(denoiser, tmp_path, steps=12)
    made = task_of(config).made
    assert made is not None
    network = load_autoencoder(denoiser / "autoencoder")
    assert made.latents.shape == (5, 2, CROP + 2 * MARGIN, CROP + 2 * MARGIN)
    assert made.latents.float().abs().mean() > 0.5  # light or dark, as the dataset's are
    with torch.no_grad():
        pictures = network.pixels(made.latents.float())
    reduced = F.avg_pool2d(pictures, network.factor)
    middle = inside(reduced, MARGIN) - inside(made.colours.float(), MARGIN)
    assert middle.abs().max() < 0.02  # away from its edges the first decoder draws these colours
    written = (tmp_path / "run" / "made.safetensors").stat().st_mtime_ns
    again = task_of(config).made
    assert again is not None
    assert torch.equal(again.latents, made.latents)
    assert (tmp_path / "run" / "made.safetensors").stat().st_mtime_ns == written


def test_an_interrupted_making_goes_on(denoiser: Path, tmp_path: Path) -> None:
    heard: list[float] = []

    def interrupt(progress: Progress, figures: Mapping[str, float]) -> None:
        heard.append(figures["made/windows"])
        if heard == [16.0]:
            raise KeyboardInterrupt

    whole, parts = (replace(config_of(denoiser, tmp_path, windows=35), output=str(tmp_path / n)) for n in "ab")
    with pytest.raises(KeyboardInterrupt):
        task_of(parts, interrupt)
    first = tmp_path / "b" / ".made.0.safetensors"
    written = first.stat().st_mtime_ns
    assert not (tmp_path / "b" / "made.safetensors").exists()
    with pytest.raises(MismatchError, match="or otherwise than"):
        task_of(replace(config_of(denoiser, tmp_path, windows=35, guidance=3.0), output=parts.output))
    assert first.stat().st_mtime_ns == written
    one, other = task_of(whole).made, task_of(parts, interrupt).made
    assert one is not None
    assert other is not None
    assert torch.equal(one.latents, other.latents)
    assert heard == [16, 16, 32, 35]
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["made.safetensors"]


def test_drawn_latents_lie_over_drawn_colours() -> None:
    number = torch.arange(3 * 14 * 14).reshape(1, 3, 14, 14).half()
    made = MadeLatents(number, number)
    for seed in range(5):
        latents, colours = made.draw(2, 3, Draws.seeded(DEVICE, seed))
        assert latents.shape == (2, 3, 3 + 2 * MARGIN, 3 + 2 * MARGIN)
        assert torch.equal(inside(latents, MARGIN), colours)


def test_the_encoder_stays_and_the_decoder_learns(denoiser: Path, tmp_path: Path) -> None:
    config = config_of(denoiser, tmp_path, 24)
    train_config(config, CPU)
    first, after = load_autoencoder(denoiser / "autoencoder"), load_autoencoder(tmp_path / "run" / "autoencoder")
    assert digest(tmp_path / "run" / "autoencoder") == digest(denoiser / "autoencoder")
    latents = torch.randn(1, 2, 6, 6)
    assert not torch.equal(after.decode(latents), first.decode(latents))


def test_made_pictures_take_their_share_of_the_batch(
    denoiser: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []

    def noted(
        self: Criterion, decoded: Tensor, crops: Tensor, draws: Draws, judge: object, made: Free
    ) -> tuple[Tensor, dict[str, Tensor]]:
        shapes.extend(tuple(one.shape) for one in (decoded, crops, *made))
        return decoded.sum(), {}

    monkeypatch.setattr(Criterion, "__call__", noted)
    task_of(config_of(denoiser, tmp_path, share=0.75)).loss(torch.arange(4), Draws.seeded(DEVICE, 0))
    side = CROP * 8
    assert shapes == [(1, 3, side, side), (1, 3, side, side), (3, 3, side, side), (3, 3, CROP, CROP)]


def test_what_was_made_is_held_to_its_colours_and_to_the_discriminator_alone() -> None:
    torch.manual_seed(0)
    criterion, judge = Criterion(Losses(edges=0, adversarial=0.3), DEVICE), PatchDiscriminator((8, 8, 8))
    decoded, crops = torch.rand(2, 2, 3, 32, 32)
    free = torch.rand(1, 3, 32, 32)
    colours = F.avg_pool2d(free, 8)
    for offset in (0.0, 0.25):
        pictures = [one.clone().requires_grad_() for one in (decoded, free)]
        draws = Draws.seeded(DEVICE, 0, seen=0)
        total, figures = criterion(pictures[0], crops, draws, judge, (pictures[1], colours + offset))
        assert float(figures["colours"].detach()) == pytest.approx(offset, abs=1e-6)
        assert float(figures["absolute"].detach()) == pytest.approx(float((decoded - crops).abs().mean()), rel=1e-6)
        total.backward()  # type: ignore[no-untyped-call]
        assert all(one.grad is not None and float(one.grad.abs().max()) > 0 for one in pictures)


def test_the_lattice_is_what_squares_have_in_common() -> None:
    torch.manual_seed(0)
    pattern = torch.randn(1, 2, 8, 8)
    repeated = pattern.repeat(1, 1, 5, 6)
    wanted = pattern - pattern.mean((2, 3), keepdim=True)
    assert torch.allclose(lattice(repeated, 8), wanted, atol=1e-6)
    assert torch.allclose(lattice(F.pad(repeated + 3, (0, 5, 0, 7), value=9.0), 8), wanted, atol=1e-6)
    halves = pattern[..., :4, :4].repeat(1, 1, 10, 10)  # a shorter period is found, too
    assert lattice(halves, 8).abs().mean() > 0.5
    noise = torch.randn(1, 2, 320, 320)
    assert lattice(noise, 8).std() == pytest.approx(1 / 40, rel=0.2)  # of 40 x 40 squares


def test_pictures_without_an_original_are_held_to_no_lattice_and_others_to_their_own() -> None:
    criterion = Criterion(Losses(edges=0, lattice=1.0), DEVICE)
    draws = Draws.seeded(DEVICE, 0, seen=0)
    pattern = torch.randn(1, 3, 8, 8).repeat(1, 1, 4, 4)
    crops = torch.rand(2, 3, 32, 32)
    colours = F.avg_pool2d(pattern, 8)
    _, figures = criterion(crops + 0.1, crops, draws, None, (pattern, colours))
    assert float(figures["lattice"]) == pytest.approx(float(lattice(pattern, 8).abs().mean()) / 3, rel=1e-4)
    _, figures = criterion(crops + pattern, crops, draws)
    assert float(figures["lattice"]) == pytest.approx(float(lattice(pattern, 8).abs().mean()), rel=1e-4)


def test_it_resumes_as_if_it_had_not_stopped(denoiser: Path, tmp_path: Path) -> None:
    whole = config_of(denoiser, tmp_path, 16)
    train_config(whole, CPU)
    parts = replace(whole, output=str(tmp_path / "parts"))
    train_config(replace(parts, optimisation=replace(whole.optimisation, samples=8)), CPU)
    train_config(parts, CPU, resume=True)
    once, twice = (load_file(tmp_path / name / NAME) for name in ("run", "parts"))
    assert all(torch.equal(value, twice[name]) for name, value in once.items())


def test_a_step_does_not_wait(denoiser: Path, tmp_path: Path) -> None:
    config = config_of(denoiser, tmp_path)
    run = loop.Run(task_of(config), config.optimisation, CPU, Processes(), 0)
    run.step()
    with Waits() as waits:
        run.step()
    assert waits.found == []


def test_windows_made_otherwise_are_refused(denoiser: Path, tmp_path: Path) -> None:
    config = config_of(denoiser, tmp_path)
    task_of(config)
    task_of(config_of(denoiser, tmp_path, share=0.25))  # says nothing of how they are made
    with pytest.raises(MismatchError, match=r"made\.safetensors` was made by another denoiser, or otherwise"):
        task_of(config_of(denoiser, tmp_path, guidance=3.0))


def test_several_processes_do_not_make_windows(denoiser: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="begin the run in one process"):
        task_of(config_of(denoiser, tmp_path))
    assert not (tmp_path / "run").exists()


def test_what_does_not_belong_together_is_refused(denoiser: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"need {CROP + 2 * MARGIN}"):
        task_of(config_of(denoiser, tmp_path, window=CROP + 2 * MARGIN - 1))
    write_colours(tmp_path / "other", Colours(widths=(4, 4, 8)))
    initial = tmp_path / "other" / "autoencoder"
    config = replace(config_of(denoiser, tmp_path), initial=str(initial), shape=load_autoencoder(initial).shape)
    with pytest.raises(MismatchError, match="are of another encoder than"):
        task_of(config)


def test_a_config_names_the_denoiser(tmp_path: Path) -> None:
    said = "kind: autoencoder\ndata: d\noutput: o\noptimisation: {samples: 8}\nmade: {denoiser: net, share: 0.25}\n"
    path = tmp_path / "config.yaml"
    path.write_text(said + "initial: first\nparts: decoder\nlosses: {adversarial: 0.2}\n")
    config = read_config(path)
    assert isinstance(config, AutoencoderTraining)
    assert config.made == Made(str(tmp_path / "net"), share=0.25)
    for rest in ("initial: first\nparts: decoder\n", "losses: {adversarial: 0.2}\n"):
        path.write_text(said + rest)
        with pytest.raises(InputError, match=r"set `parts: decoder` and `losses\.adversarial`"):
            read_config(path)
    path.write_text(said.replace("share: 0.25", "share: 2"))
    with pytest.raises(InputError, match=r"`made\.share` is a share"):
        read_config(path)
