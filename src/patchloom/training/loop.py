"""The loop that trains anything: order of the data, steps, averages, checkpoints, log.

It imports torch, numpy, safetensors, pillow and pyyaml alone, so that it runs on a bare GPU image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW

from patchloom.datasets.processes import Processes
from patchloom.errors import InputError
from patchloom.training import checkpoint
from patchloom.training.checkpoint import Progress
from patchloom.training.config import Optimisation, Upkeep
from patchloom.training.draws import Draws
from patchloom.training.ema import Average
from patchloom.training.identity import Identity
from patchloom.training.journal import Journal, Meter, Report
from patchloom.training.schedule import order, rate
from patchloom.training.speed import count_flops, peak_flops
from patchloom.training.stop import Stop


class Task(Protocol):
    """What is trained, on what, and how it is judged."""

    @property
    def module(self) -> nn.Module:
        """The weights that are trained and averaged."""
        ...

    def __len__(self) -> int:
        """Data in an epoch."""
        ...

    def loss(self, index: Tensor, draws: Draws) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The mean loss of the data numbered `index`, to be differentiated, and figures for the log."""
        ...

    def judge(self, averaged: nn.Module) -> tuple[Mapping[str, float], Mapping[str, NDArray[np.uint8]]]:
        """Figures and pictures (height, width, 3) of the averaged weights, on validation data."""
        ...

    def export(self, averaged: nn.Module, folder: Path) -> None:
        """Write what the run leaves behind."""
        ...


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run computes: `dtype` is that of the products; weights and sums stay float32.

    Raises InputError for float16, whose small gradients would need scaling.
    """

    device: torch.device
    dtype: torch.dtype
    compile: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in (torch.float32, torch.bfloat16):
            raise InputError(f"training runs in fp32 or bf16, not in {self.dtype}")


def train(
    task: Task,
    plan: Optimisation,
    upkeep: Upkeep,
    folder: Path,
    machine: Machine,
    *,
    identity: Identity,
    seed: int = 0,
    resume: bool = False,
    seconds: float | None = None,
    report: Report = lambda progress, figures: None,
) -> Progress:
    """Train until `plan.samples` are seen, or for `seconds`, and leave a checkpoint and an export in `folder`.

    A checkpoint whose `identity` differs is refused. A killed run goes on from its last
    checkpoint with `resume`, in as many processes as there are then. SIGINT and SIGTERM end the run after the step
    that is being made, with a checkpoint and no export; a second one ends it at once.
    """
    with Processes.joined(machine.device) as processes:
        run = Run(task, plan, machine, processes, seed)
        run.start(folder, identity, resume)
        journal = Journal(folder, processes, report)

        def keep() -> None:
            if processes.leads:
                checkpoint.save(folder, task.module, run.average, run.optimiser, run.progress, identity)

        with closing(journal), Stop(seconds) as stop:
            _steps(run, upkeep, journal, stop, keep)
            keep()
        if processes.leads:
            task.export(run.average.module, folder)
        processes.wait()
    return run.progress


class Run:
    """The state of a run between two steps."""

    def __init__(self, task: Task, plan: Optimisation, machine: Machine, processes: Processes, seed: int) -> None:
        if plan.batch % processes.count:
            raise InputError(f"a batch of {plan.batch} cannot be shared by {processes.count} processes evenly")
        self.task, self.plan, self.machine, self.processes, self.seed = task, plan, machine, processes, seed
        self.parameters = [p for p in task.module.parameters() if p.requires_grad]
        self.optimiser = AdamW(
            self.parameters, lr=plan.rate, betas=plan.betas, weight_decay=plan.weight_decay, fused=True
        )
        self.average = Average(task.module, plan.ema_samples)
        self.progress = Progress()

    def start(self, folder: Path, identity: Identity, resume: bool) -> None:
        """Go on from the checkpoint in a folder, if there is one; every process with the leader's weights.

        Raises InputError where there is one and nobody said `resume`, MismatchError where it is of another run.
        """
        if (folder / checkpoint.NAME).exists():
            if not resume:
                raise InputError(f"`{folder}` holds a run already; go on with --resume or name another output")
            self.progress = checkpoint.restore(folder, self.task.module, self.average, self.optimiser, identity)
        self.processes.same(list(self.task.module.state_dict().values()))

    def step(self) -> Mapping[str, Tensor]:
        """One step of every process on its share of the batch; nothing in it waits for the device."""
        loss, figures = self._loss()
        loss.backward()  # type: ignore[no-untyped-call]
        self.processes.mean([p.grad for p in self.parameters if p.grad is not None])
        norm = nn.utils.clip_grad_norm_(self.parameters, self.plan.clip)
        self._update(norm)
        return {"loss": loss.detach(), "gradient": norm, **figures}

    def flops(self) -> int:
        """Floating point operations of this process's share of a step."""
        counted = count_flops(lambda: self._loss()[0])
        self.optimiser.zero_grad()
        return counted

    def _loss(self) -> tuple[Tensor, Mapping[str, Tensor]]:
        device, dtype, rank = self.machine.device, self.machine.dtype, self.processes.rank
        share = self.plan.batch // self.processes.count
        index = order(len(self.task), self.seed, self.progress.seen, self.plan.batch, device)
        draws = Draws.seeded(device, self.seed, self.progress.step, rank, seen=self.progress.seen)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return self.task.loss(index[rank * share : (rank + 1) * share], draws)

    def _update(self, norm: Tensor) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.plan, self.progress)
        # One overflow must not end a run of days: the fused step skips itself where this says so, without asking the
        # device to wait. A run of them shows in the log, as a gradient that is no number.
        self.optimiser.found_inf = norm.isfinite().logical_not().float()  # type: ignore[attr-defined]
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.progress.seen += self.plan.batch
        self.progress.step += 1
        self.average.update(self.task.module, self.progress.seen, self.plan.batch)


def _steps(run: Run, upkeep: Upkeep, journal: Journal, stop: Stop, keep: Callable[[], None]) -> None:
    meter = Meter(run.plan.batch, _peak_share(run))
    last = time.monotonic()
    while run.progress.seen < run.plan.samples and not run.processes.agree(stop.asked):
        meter.add(run.step())
        now = time.monotonic()
        run.progress.seconds += now - last
        last = now
        if _due(run, upkeep.log):
            journal.figures(run.progress, {**meter.take(run.processes), "rate": rate(run.plan, run.progress)})
        with meter.paused():
            if _due(run, upkeep.pictures) and run.processes.leads:
                figures, pictures = run.task.judge(run.average.module)
                journal.figures(run.progress, figures)
                journal.pictures(run.progress, pictures)
            if _due(run, upkeep.checkpoint):
                keep()


def _due(run: Run, every: int) -> bool:
    return run.progress.seen // every != (run.progress.seen - run.plan.batch) // every


def _peak_share(run: Run) -> float | None:
    """The share of the device's peak that one step a second would take."""
    peak = peak_flops(run.machine.device, run.machine.dtype)
    return run.flops() / peak if peak else None
