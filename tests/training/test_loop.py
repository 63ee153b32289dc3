"""The loop: what a step changes, what it survives, and how it ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.toys import CPU, DATA, NEVER, Toy, identity, plan, train
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from patchloom.datasets.processes import Processes
from patchloom.errors import InputError
from patchloom.training import loop
from patchloom.training.checkpoint import NAME, Progress
from patchloom.training.config import Upkeep
from patchloom.training.draws import Draws
from patchloom.training.speed import count_flops, named_peak


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def run_of(task: loop.Task, clip: float = 1.0) -> loop.Run:
    return loop.Run(task, plan(64, clip), CPU, Processes(), 0)


def test_a_run_learns_and_exports(tmp_path: Path) -> None:
    toy = Toy()
    train(toy, tmp_path, plan(800))
    losses = [line["loss"] for line in lines(tmp_path)]
    assert sum(losses[-5:]) < 0.3 * sum(losses[:5])
    assert toy.exported
    assert sorted(i for batch in toy.seen[: DATA // 8] for i in batch) == list(range(DATA))


def test_the_log_holds_means_rates_and_what_the_judge_says(tmp_path: Path) -> None:
    told: list[Mapping[str, float]] = []
    upkeep = Upkeep(log=16, pictures=32, checkpoint=NEVER)
    train(Toy(), tmp_path, plan(32), upkeep=upkeep, report=lambda progress, figures: told.append(figures))
    first, second, judged = lines(tmp_path)
    assert [first["seen"], second["seen"], judged["seen"]] == [16, 32, 32]
    assert {"loss", "gradient", "wrong", "rate", "samples_per_second", "seconds"} == first.keys() - {"seen"}
    assert judged["val/one"] == 1.0
    assert len(told) == 3


@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_gradients_are_clipped(clip: float) -> None:
    run = run_of(Toy(scale=100.0), clip=clip)
    norms: list[Tensor] = []
    run._update = lambda norm: norms.append(  # type: ignore[method-assign]
        torch.stack([norm, torch.cat([p.grad.flatten() for p in run.parameters if p.grad is not None]).norm()])
    )
    run.step()
    before, after = norms[0].tolist()
    assert 1e-3 < before < 1e3
    assert after == pytest.approx(min(before, clip), rel=1e-3)


def test_a_step_that_overflows_is_skipped_and_the_run_goes_on() -> None:
    toy = Toy()
    run = run_of(toy)
    run.step()
    before = toy.weights()
    toy.scale = float("inf")
    figures = run.step()
    assert not figures["gradient"].isfinite()
    assert toy.weights() == before
    toy.scale = 1.0
    run.step()
    assert toy.weights() != before
    assert torch.isfinite(torch.tensor(toy.weights())).all()
    assert all(p.isfinite().all() for p in run.average.module.parameters())


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation that would make a host wait for its device."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "equal")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__.partition(".")[0] in self.NAMES:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_step_does_not_wait_for_the_device() -> None:
    toy = Toy()
    toy.seen = Deaf()
    run = run_of(toy)
    run.step()  # the first one makes the optimiser's state
    with Waits() as waits:
        run.step()
    assert waits.found == []
    with Waits() as waits:
        float(torch.ones(()))
    assert waits.found


class Deaf(list[list[int]]):
    """Takes no notes."""

    def append(self, item: object) -> None: ...


@pytest.fixture
def heard() -> Iterator[None]:
    """Both signals raise KeyboardInterrupt, also where a shell started these tests in the background, deaf to them."""
    came = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in came.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_its_last_step(number: signal.Signals, tmp_path: Path) -> None:
    def interrupt(progress: Progress, figures: Mapping[str, float]) -> None:
        if progress.step == 3:
            signal.raise_signal(number)

    toy = Toy()
    with pytest.raises(KeyboardInterrupt):
        train(toy, tmp_path, plan(800), report=interrupt)
    assert signal.getsignal(number) is signal.default_int_handler
    assert not toy.exported
    assert train(Toy(), tmp_path, plan(24)).step == 3  # all three steps were kept


@pytest.mark.usefixtures("heard")
def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    def insist(progress: Progress, figures: Mapping[str, float]) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(Toy(), tmp_path, plan(800), report=insist)
    assert not (tmp_path / NAME).exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_time_is_up_after_a_step_with_checkpoint_and_export(tmp_path: Path) -> None:
    toy = Toy()
    upkeep = Upkeep(log=8, pictures=NEVER, checkpoint=NEVER)
    done = loop.train(toy, plan(10**8), upkeep, tmp_path, CPU, identity=identity("toy"), seconds=0.1)
    assert 0 < done.step < 10**6
    assert (tmp_path / NAME).exists()
    assert toy.exported


def test_a_failure_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    class Failing(Toy):
        def loss(self, index: Tensor, draws: Draws) -> tuple[Tensor, Mapping[str, Tensor]]:
            if len(self.seen) == 3:
                raise RuntimeError("the device is gone")
            return super().loss(index, draws)

    with pytest.raises(RuntimeError, match="gone"):
        train(Failing(), tmp_path, plan(800), upkeep=Upkeep(log=8, pictures=NEVER, checkpoint=16))
    assert train(Toy(), tmp_path, plan(16)).step == 2


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be shared by 3"):
        loop.Run(Toy(), plan(8), CPU, Processes(0, 3), 0)


def test_half_precision_is_refused() -> None:
    with pytest.raises(InputError, match="fp32 or bf16"):
        loop.Machine(torch.device("cpu"), torch.float16)


def test_operations_are_counted_forth_and_back() -> None:
    layer, x = torch.nn.Linear(5, 7), torch.ones(3, 5)
    layer.compile()
    assert count_flops(lambda: layer(x).sum()) == 2 * (2 * 3 * 5 * 7)  # the product, and the gradient of its weights


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
    ],
)
def test_peaks_are_of_the_very_device(name: str, peak: float | None) -> None:
    assert named_peak(name) == (None if peak is None else peak * 1e12)
