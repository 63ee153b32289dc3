"""Tasks small enough to train in milliseconds. Run as a script it trains one, under torchrun too."""

from __future__ import annotations

import json
import os
import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from patchloom.training import loop
from patchloom.training.checkpoint import Progress
from patchloom.training.config import Optimisation, Upkeep
from patchloom.training.draws import Draws
from patchloom.training.ema import channels_last
from patchloom.training.identity import Identity
from patchloom.training.journal import Report

CPU = loop.Machine(torch.device("cpu"), torch.float32)
DATA = 24
NEVER = 10**9


class Toy:
    """A small convolution learns to answer each datum's number. `seen` notes what it was shown, `group` among whom."""

    def __init__(self, scale: float = 1.0) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = channels_last(nn.Sequential(nn.Conv2d(3, 4, 2), nn.SiLU(), nn.Conv2d(4, 1, 2)))
        self.data = torch.randn(DATA, 3, 3, 3, generator=torch.Generator().manual_seed(1))
        self.scale = scale
        self.seen: list[list[int]] = []
        self.exported = False
        self.group: weakref.ref[object] | None = None

    def __len__(self) -> int:
        return DATA

    def loss(self, index: Tensor, draws: Draws) -> tuple[Tensor, Mapping[str, Tensor]]:
        self.seen.append(index.tolist())
        if dist.is_initialized():
            self.group = weakref.ref(dist.group.WORLD)
        wrong = self.module(self.data[index])[:, 0, 0, 0] - index.float() / DATA
        return self.scale * wrong.square().mean(), {"wrong": wrong.abs().mean()}

    def judge(self, averaged: nn.Module) -> tuple[Mapping[str, float], Mapping[str, NDArray[np.uint8]]]:
        return {"val/one": 1.0}, {"val/picture": np.full((4, 6, 3), 200, np.uint8)}

    def export(self, averaged: nn.Module, folder: Path) -> None:
        self.exported = True

    def weights(self) -> list[float]:
        return torch.cat([p.detach().flatten() for p in self.module.parameters()]).tolist()


def plan(samples: int, clip: float = 1.0) -> Optimisation:
    return Optimisation(samples, batch=8, rate=0.01, warmup=1, clip=clip)


@dataclass(frozen=True)
class Named:
    """All that a toy's checkpoint belongs to."""

    name: str


def identity(name: str) -> Identity:
    return Identity(Named(name))


def train(
    task: loop.Task,
    folder: Path,
    optimisation: Optimisation,
    *,
    upkeep: Upkeep | None = None,
    named: str = "toy",
    resume: bool = True,
    report: Report = lambda progress, figures: None,
) -> Progress:
    upkeep = upkeep or Upkeep(log=8, pictures=NEVER, checkpoint=NEVER)
    return loop.train(task, optimisation, upkeep, folder, CPU, identity=identity(named), resume=resume, report=report)


def main(folder: Path, samples: int, upkeep: Upkeep) -> None:
    """Train a toy and leave `rank-R.json`: what this process was shown, and the weights that it ends with."""
    toy = Toy()
    train(toy, folder, plan(samples), upkeep=upkeep)
    report = {
        "seen": toy.seen,
        "weights": toy.weights(),
        "exported": toy.exported,
        "group_is_gone": toy.group is not None and toy.group() is None,
    }
    (folder / f"rank-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Upkeep(log=8, pictures=NEVER, checkpoint=int(sys.argv[3])))
