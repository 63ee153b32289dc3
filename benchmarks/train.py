"""How fast a denoiser trains, by precision, memory order and compilation, as ratios in one run.

    python benchmarks/train.py
    python benchmarks/train.py --batch 256 --steps 20 --shape configs/he/denoiser.yaml

One process, one dataset of random squares in the device's memory, whole steps of the real loop: draw, loss, gradient,
clipping, AdamW, average. The variants take turns, `--steps` steps each, for `--rounds` rounds, and the best round of
each counts, so a busy machine slows all alike. The first row is the unit of the ratios. `peak` is the share of the
device's peak in 16 bits, where `training/speed.py` knows it. Activations are channels last in every row; `weights`
says how the convolutions' weights lie.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from patchloom.datasets.dataset import open_dataset
from patchloom.datasets.processes import Processes
from patchloom.machine import choose_device
from patchloom.networks.unet import UNetShape
from patchloom.testing.colours import Colours, write_colours
from patchloom.training.config import DenoiserTraining, Optimisation, read_config
from patchloom.training.denoiser import DenoiserTask
from patchloom.training.loop import Machine, Run
from patchloom.training.speed import peak_flops

WINDOW = 32
ORDERS = {"rows": torch.contiguous_format, "channels last": torch.channels_last}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(slots=True)
class Variant:
    """One way to train, and its best round so far."""

    dtype: str
    weights: str
    compiled: bool
    run: Run
    seconds: float = float("inf")  # a step

    def go(self, steps: int) -> None:
        """A round."""
        started = time.perf_counter()
        for _ in range(steps):
            figures = self.run.step()
        float(figures["loss"])  # waits for the device
        self.seconds = min(self.seconds, (time.perf_counter() - started) / steps)

    def row(self, unit: float) -> dict[str, str | float | None]:
        """What is printed of it."""
        machine = self.run.machine
        peak = peak_flops(machine.device, machine.dtype)
        return {
            "dtype": self.dtype,
            "weights": self.weights,
            "compiled": "yes" if self.compiled else "no",
            "samples_per_second": round(self.run.plan.batch / self.seconds, 2),
            "ratio": round(unit / self.seconds, 3),
            "peak": round(self.run.flops() / self.seconds / peak, 3) if peak else None,
        }


def variants(folder: Path, shape: UNetShape, batch: int, device: torch.device, compiles: bool) -> Iterator[Variant]:
    """Every combination, on one dataset."""
    data = write_colours(
        folder, Colours(("train",) * 8, side=16, cell_lat=8, channels=shape.channels, dim=shape.embedding)
    )
    plan = Optimisation(samples=1 << 40, batch=batch)
    config = DenoiserTraining("denoiser", str(data), "", str(folder / "autoencoder"), plan, shape, WINDOW)
    dataset = open_dataset(data)
    for compiled, dtype, weights in product((False, True) if compiles else (False,), DTYPES, ORDERS):
        task = DenoiserTask(config, dataset, device, compiled=compiled)
        task.module.to(memory_format=ORDERS[weights])  # type: ignore[call-overload]
        run = Run(task, plan, Machine(device, DTYPES[dtype], compiled), Processes(), seed=0)
        yield Variant(dtype, weights, compiled, run)


def measure(found: list[Variant], steps: int, rounds: int) -> list[dict[str, str | float | None]]:
    """A warm-up for each, then the rounds in turns; rows in the variants' order."""
    for variant in found:
        variant.go(3)
        variant.seconds = float("inf")
    for _ in range(rounds):
        for variant in found:
            gc.collect()
            variant.go(steps)
    return [variant.row(found[0].seconds) for variant in found]


def main() -> None:
    """Print the table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=Path, help="a denoiser's config whose `shape` is measured; default: our own")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="default: on CUDA")
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    config = read_config(said.shape) if said.shape else None
    shape = config.shape if isinstance(config, DenoiserTraining) else UNetShape()
    device = choose_device(said.device)
    compiles = device.type == "cuda" if said.compile is None else said.compile
    with tempfile.TemporaryDirectory() as folder:
        found = list(variants(Path(folder), shape, said.batch, device, compiles))
        rows = measure(found, said.steps, said.rounds)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    print_rows(rows, where, said.batch, as_json=said.json)


def print_rows(rows: list[dict[str, str | float | None]], where: str, batch: int, *, as_json: bool) -> None:
    """A Markdown table below what it was measured on, or one JSON object."""
    if as_json:
        sys.stdout.write(json.dumps({"device": where, "torch": torch.__version__, "batch": batch, "rows": rows}) + "\n")
        return
    lines = [
        list(rows[0]),
        ["---"] * len(rows[0]),
        *(["-" if value is None else str(value) for value in row.values()] for row in rows),
    ]
    sys.stdout.write(f"{where}, torch {torch.__version__}, batch {batch}\n\n")
    sys.stdout.writelines(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
