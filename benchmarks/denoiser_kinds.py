"""Kinds of denoiser side by side: norms and attention over space or not, a condition a pixel or one a window.

    python benchmarks/denoiser_kinds.py configs/he/denoiser-kinds.yaml --out FOLDER     # trains, makes, prints a table
    python benchmarks/denoiser_kinds.py CONFIG --out FOLDER --kind group --only-train  # one kind, to be gone on with

Every kind is the U-Net of the config but for what its row says, trained from the same first weights on the same windows
in the same order. Losses are those of the averaged weights on the same validation windows and noise. Then each makes
squares of validation sections with he-foundation's autoencoder, from the same noise, in windows of 32 latents with
cores of 24 and in one window, which a network without statistics over space should not mind.

Distances are of crops of 256 px side by side to the real ones of the same places; `cut` is the root mean square of what
windows change in the finished latents, which have a deviation of about 1; seams are of latents, on the last stage's
lines, over the same lines of the same run in one window. Time is CPU time of one thread.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from loom_canvases import (
    TRAINING,
    Arm,
    Canvas,
    Distances,
    Made,
    canvases,
    crops_of,
    judge,
    made,
    similarity_of,
    training_axes,
)
from loom_seams import in_one_window, paired
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from patchloom.datasets.dataset import open_dataset
from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.parametrisation import Preconditioned
from patchloom.encoders.encoder import Encoder
from patchloom.grids.grid import EmbeddingGrid
from patchloom.machine import DTYPES
from patchloom.networks.layers import PixelNorm
from patchloom.networks.unet import UNet, UNetShape
from patchloom.pipelines.guidance import Guidance
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.settings import Settings, settled
from patchloom.training import loop
from patchloom.training.config import DenoiserTraining, read_config
from patchloom.training.denoiser import DenoiserTask
from patchloom.training.run import identity
from patchloom.trials.seams import LAST

GROUPS, HEADS = 8, 4
WINDOW, CORE, STEPS, GUIDANCE = 32, 24, 10, Guidance(3.0, rescale=0.0)
WEIGHTS = "averaged.safetensors"
HEAD = (
    "| kind | loss at 0.1 / 0.3 / 1 / 3 | CPU s a window | plan | kernel | frechet | similarity | its floor | AUC "
    "| cut | seam |\n" + "| --- " * 11 + "|\n"
)


class Attention(nn.Module):
    """Self-attention over the whole window, after a level's blocks (Ho et al. 2020, appendix B)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, field: Tensor) -> Tensor:
        """(b, width, h, w) to the same."""
        b, width, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, HEADS, width // HEADS, h * w).transpose(-1, -2).unbind(1)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, width, h, w)
        return x + self.out(seen)  # type: ignore[no-any-return]


class ToldOnce(UNet):
    """Told one vector a window: what the grid says on average under it."""

    def _fields(self, x: Tensor, label: Tensor, condition: GridCondition) -> list[Tensor]:
        noise = self.noise(label)[:, :, None, None]
        cells = self.cells.project(condition)
        spread = self.cells.spread(cells, condition, *x.shape[-2:], 1).mean(dim=(-2, -1), keepdim=True)
        return [F.silu(spread + noise)] * len(self.shape.widths)


def _with_group_norms(network: UNet) -> UNet:
    for module in list(network.modules()):
        for name, part in list(module.named_children()):
            if isinstance(part, PixelNorm):
                setattr(module, name, nn.GroupNorm(GROUPS, part.width, affine=False))
    return network


def _with_attention(network: UNet) -> UNet:
    network.down[-1].blocks.append(Attention(network.shape.widths[-1]))
    return network


KINDS: dict[str, Callable[[UNetShape], UNet]] = {
    "field": UNet,
    "token": ToldOnce,
    "group": lambda shape: _with_group_norms(UNet(shape)),
    "attention": lambda shape: _with_attention(UNet(shape)),
    "group and attention": lambda shape: _with_attention(_with_group_norms(UNet(shape))),
}
WORDS = {
    "field": "a norm a pixel, no attention, a condition a pixel (ours)",
    "token": "the same, one condition a window",
    "group": "GroupNorm",
    "attention": "attention at the lowest level",
    "group and attention": "GroupNorm and attention",
}


class KindTask(DenoiserTask):
    """The task of a config with another network in it."""

    def __init__(self, config: DenoiserTraining, kind: str) -> None:
        self._kind = kind
        super().__init__(config, open_dataset(Path(config.data)), torch.device("cpu"))

    def _network(self) -> UNet:
        plain = super()._network()
        torch.manual_seed(self.config.seed)
        network = KINDS[self._kind](self.config.shape)
        missing = network.load_state_dict(plain.state_dict(), strict=False)
        if missing.unexpected_keys:
            raise ValueError(f"`{self._kind}` has no place for {missing.unexpected_keys}")
        return network

    def export(self, averaged: nn.Module, folder: Path) -> None:
        """The averaged weights, as they are."""
        save_file({name: value.contiguous() for name, value in averaged.state_dict().items()}, folder / WEIGHTS)


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A kind after its training."""

    kind: str
    network: UNet
    losses: Mapping[str, float]

    def inside(self, pipeline: Pipeline, config: DenoiserTraining) -> Pipeline:
        """A pipeline with this network in place of its own."""
        network = self.network.to(pipeline.dtype)
        denoiser = Preconditioned[GridCondition](network, config.parametrisation)
        return replace(pipeline, network=network, denoiser=denoiser)


def trained(config: DenoiserTraining, kind: str, folder: Path, dtype: torch.dtype) -> Trained:
    """Train a kind, or go on, or take what is there."""
    task, place = KindTask(config, kind), folder / kind.replace(" ", "-")
    if not (place / WEIGHTS).is_file():
        machine = loop.Machine(torch.device("cpu"), dtype)
        known = identity(config, open_dataset(Path(config.data)))
        resume = (place / "checkpoint.safetensors").is_file()
        loop.train(
            task, config.optimisation, config.upkeep, place, machine, identity=known, resume=resume, report=_say(kind)
        )
    averaged = task.module
    if not isinstance(averaged, UNet):
        raise TypeError(f"expected our U-Net, found {type(averaged).__name__}")
    averaged.load_state_dict(load_file(place / WEIGHTS))
    averaged.eval().requires_grad_(False)
    return Trained(kind, averaged, task.judge(averaged)[0])


def _say(kind: str) -> Callable[..., None]:
    def report(progress: object, figures: object) -> None:
        sys.stderr.write(f"{kind}: {progress} {figures}\n")

    return report


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What rows are made of."""

    pipeline: Pipeline
    config: DenoiserTraining
    folder: Path
    chosen: list[Canvas]
    distances: Distances
    judge: Encoder
    own: Encoder

    def rows(self, one: Trained) -> list[str]:
        """Windows with a halo, then one window."""
        pipeline = one.inside(self.pipeline, self.config)
        plan = settled(pipeline, Settings(window=WINDOW, core=CORE, steps=STEPS, guidance=GUIDANCE, batch=1))
        whole = in_one_window(plan, self.chosen[0].box.height // pipeline.record.factor)
        windows = Arm(f"{one.kind} {WINDOW}", plan)
        arms = (windows, replace(whole, name=f"{one.kind} whole"))
        grids = [canvas.grid(pipeline, self.own) for canvas in self.chosen]
        both = [
            [
                made(self.folder / "canvases", pipeline, grid, canvas, arm)
                for canvas, grid in zip(self.chosen, grids, strict=True)
            ]
            for arm in arms
        ]
        cut = np.sqrt(np.mean([(a.latents - b.latents) ** 2 for a, b in zip(*both, strict=True)]))
        seam = paired(pipeline, [one.latents for one in both[0]], [one.latents for one in both[1]], windows)[LAST]
        found = f"{seam['value']:.3f} ({seam['low']:.3f} to {seam['high']:.3f})"
        losses = " / ".join(f"{value:.4f}" for value in one.losses.values())
        return [
            self._row([WORDS[one.kind], losses], f"{CORE} of {WINDOW}", both[0], grids, [f"{cut:.3f}", found]),
            self._row(["", ""], "one window", both[1], grids, ["", ""]),
        ]

    def _row(self, first: list[str], plan: str, some: list[Made], grids: list[EmbeddingGrid], last: list[str]) -> str:
        features = crops_of([one.pixels for one in some], self.judge)
        like = [similarity_of(self.pipeline, grid, one.pixels, self.own) for grid, one in zip(grids, some, strict=True)]
        shown = sum(one.facts["evaluations"] for one in some)
        seconds = sum(one.facts["denoise_cpu_seconds"] for one in some) / shown
        cells = [
            *first,
            f"{seconds:.4f}",
            plan,
            f"{self.distances.kernel(features):.4f}",
            f"{self.distances.frechet(features):.2f}",
            *(f"{np.mean([one[name] for one in like]):.3f}" for name in ("similarity", "floor", "auc")),
            *last,
        ]
        return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Train what is missing, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="of a denoiser; its `output` is not used")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is trained and made")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="may be repeated; default: all")
    parser.add_argument("--pipeline", default="he-foundation", help="whose autoencoder and encoder are taken")
    parser.add_argument("--side", type=int, default=1024, help="of a canvas in px")
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    parser.add_argument("--only-train", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    config, dtype = read_config(asked.config), DTYPES[asked.dtype]
    if not isinstance(config, DenoiserTraining):
        parser.error(f"`{asked.config}` is not the config of a denoiser")
    found = [trained(config, kind, asked.out, dtype) for kind in asked.kind or KINDS]
    if asked.only_train:
        return
    pipeline = load_pipeline(asked.pipeline, "cpu", dtype)
    chosen, encoder = canvases(pipeline, TRAINING, "val", asked.side), judge()
    real = crops_of([canvas.pixels(pipeline) for canvas in chosen], encoder)
    axes = training_axes(TRAINING, pipeline, encoder, max(real.shape[0] * real.shape[1] // 10, 1), asked.out)
    table = Table(pipeline, config, asked.out, chosen, Distances(real, axes), encoder, pipeline.encoder())
    sys.stdout.write(f"{len(chosen)} canvases, {table.distances.n} crops, {axes}\n\n{HEAD}")
    for one in found:
        sys.stdout.writelines(table.rows(one))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
