"""The loop that trains anything: order of the data, steps, averages, checkpoints, log.

It imports torch, numpy, safetensors, pillow and pyyaml alone, so that it runs on a bare GPU image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW

from patchloom.errors import InputError
from patchloom.training import checkpoint
from patchloom.training.checkpoint import Progress
from patchloom.training.config import Optimisation, Upkeep
from patchloom.training.ema import Average
from patchloom.training.events import Log
from patchloom.training.processes import Processes


class Task(Protocol):
    """What is trained, on what, and how it is judged."""

    @property
    def module(self) -> nn.Module:
        """The weights that are trained and averaged."""
        ...

    def __len__(self) -> int:
        """Data in an epoch."""
        ...

    def loss(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The mean loss of the data numbered `index`, to be differentiated, and figures for the log."""
        ...

    def judge(self, averaged: nn.Module) -> tuple[Mapping[str, float], Mapping[str, NDArray[np.uint8]]]:
        """Figures and pictures (height, width, 3) of the averaged weights, on validation data."""
        ...

    def export(self, averaged: nn.Module, folder: Path, progress: Progress) -> None:
        """Write what the run leaves behind."""
        ...


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run computes: `dtype` is that of the products; weights and sums stay float32."""

    device: torch.device
    dtype: torch.dtype
    compile: bool = False


Report = Callable[[Progress, Mapping[str, float]], None]


def train(
    task: Task,
    plan: Optimisation,
    upkeep: Upkeep,
    folder: Path,
    machine: Machine,
    *,
    identity: str,
    seed: int = 0,
    resume: bool = False,
    seconds: float | None = None,
    report: Report = lambda progress, figures: None,
) -> Progress:
    """Train until `plan.samples` are seen, or for `seconds`, and leave a checkpoint and an export in `folder`.

    `identity` names network and data: a checkpoint of another one is refused. A killed run goes on from its last
    checkpoint with `resume`, in as many processes as there are then. Interrupting it writes a checkpoint first.
    """
    processes = Processes.join(machine.device)
    if plan.batch % processes.count:
        raise InputError(f"a batch of {plan.batch} cannot be shared by {processes.count} processes evenly")
    run = _Run(task, plan, machine, processes, seed)
    if (folder / checkpoint.NAME).exists():
        if not resume:
            raise InputError(f"`{folder}` holds a run already; go on with --resume or name another output")
        run.progress = checkpoint.restore(folder, task.module, run.average, run.optimiser, identity)
    folder.mkdir(parents=True, exist_ok=True)
    processes.same([p.data for p in task.module.parameters()])
    log = Log(folder) if processes.leads else None

    def keep() -> None:
        if processes.leads:
            checkpoint.save(folder, task.module, run.average, run.optimiser, run.progress, identity)

    try:
        _steps(run, upkeep, log, keep, seconds, report)
    finally:
        if run.whole:
            keep()
        if log:
            log.close()
    if processes.leads:
        task.export(run.average.module, folder, run.progress)
    processes.wait()
    processes.leave()
    return run.progress


class _Run:
    """The state of a run between two steps."""

    def __init__(self, task: Task, plan: Optimisation, machine: Machine, processes: Processes, seed: int) -> None:
        self.task, self.plan, self.machine, self.processes, self.seed = task, plan, machine, processes, seed
        self.parameters = [p for p in task.module.parameters() if p.requires_grad]
        self.optimiser = AdamW(
            self.parameters,
            lr=plan.rate,
            betas=plan.betas,
            weight_decay=plan.weight_decay,
            fused=True,
        )
        self.average = Average(task.module, plan.ema_samples)
        self.progress = Progress()
        self.whole = True  # False while a step is half done: such a state is not worth keeping
        self.loss = torch.compile(task.loss) if machine.compile else task.loss

    def step(self) -> Mapping[str, Tensor]:
        """One step of every process on its share of the batch."""
        share = self.plan.batch // self.processes.count
        index = order(len(self.task), self.seed, self.progress.seen, self.plan.batch)
        mine = index[self.processes.rank * share : (self.processes.rank + 1) * share].to(self.machine.device)
        generator = torch.Generator(self.machine.device)
        generator.manual_seed(hash((self.seed, self.progress.step, self.processes.rank)) & (2**63 - 1))
        with torch.autocast(self.machine.device.type, self.machine.dtype, self.machine.dtype != torch.float32):
            loss, figures = self.loss(mine, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        self.processes.mean([p.grad for p in self.parameters if p.grad is not None])
        norm = nn.utils.clip_grad_norm_(self.parameters, self.plan.clip)
        self._update(norm.isfinite().logical_not().float())
        return {"loss": loss.detach(), "gradient": norm, **figures}

    def _update(self, unsound: Tensor) -> None:
        self.whole = False
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.plan, self.progress)
        # One overflow must not end a run of days: the fused step skips itself where this says so, without asking the
        # device to wait. A run of them shows in the log, as a gradient of nan.
        self.optimiser.found_inf = unsound  # type: ignore[attr-defined]
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.progress.seen += self.plan.batch
        self.progress.step += 1
        self.average.update(self.task.module, self.progress.seen, self.plan.batch)
        self.whole = True


def _steps(
    run: _Run, upkeep: Upkeep, log: Log | None, keep: Callable[[], None], seconds: float | None, report: Report
) -> None:
    started = last = time.monotonic()
    sums: dict[str, Tensor] = {}
    since = 0
    while run.progress.seen < run.plan.samples:
        figures = run.step()
        since += 1
        sums = {name: sums[name] + value.detach() if sums else value.detach() for name, value in figures.items()}
        now = time.monotonic()
        run.progress.seconds += now - last
        if _due(run, upkeep.log):
            means = {name: float(value) / since for name, value in sums.items()}
            _tell(run, log, means | {"rate": rate(run.plan, run.progress)}, report)
            sums, since = {}, 0
        if _due(run, upkeep.pictures) and log:
            judged, pictures = run.task.judge(run.average.module)
            _tell(run, log, judged, report)
            for tag, pixels in pictures.items():
                log.picture(run.progress.seen, tag, pixels)
        if _due(run, upkeep.checkpoint):
            keep()
        last = now
        late = seconds is not None and now - started > seconds
        if run.processes.agree(late, run.machine.device):
            return


def _due(run: _Run, every: int) -> bool:
    return run.progress.seen // every != (run.progress.seen - run.plan.batch) // every


def _tell(run: _Run, log: Log | None, figures: Mapping[str, float], report: Report) -> None:
    if log:
        log.figures(run.progress.seen, {**figures, "seconds": run.progress.seconds})
        report(run.progress, figures)


def order(length: int, seed: int, seen: int, batch: int) -> Tensor:
    """The data of the next batch: epochs are permutations, one after another, whatever the number of processes."""
    if length == 0:
        raise InputError("there is nothing to train on: the dataset has no plot in split `train`")
    parts: list[Tensor] = []
    while batch:
        epoch, place = divmod(seen, length)
        permutation = torch.randperm(length, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        part = permutation[place : place + batch]
        parts.append(part)
        seen, batch = seen + len(part), batch - len(part)
    return torch.cat(parts)


def rate(plan: Optimisation, progress: Progress) -> float:
    """The learning rate at a point of the run."""
    warm = min((progress.step + 1) / max(plan.warmup, 1), 1.0)
    if plan.decay == "constant":
        return plan.rate * warm
    return plan.rate * warm * (0.5 + 0.5 * cos(pi * min(progress.seen / plan.samples, 1.0)))


def identity_of(*parts: Any) -> str:
    """A digest of whatever makes a checkpoint usable: network shape and dataset."""
    import hashlib
    import json

    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
