"""How much of a run is neither network nor decoder, for a pipeline at a canvas of 4096 x 4096 px.

    python benchmarks/loom_overhead.py he-foundation --side 4096

Every call of the network and of the decoder is timed; the rest, from the first noise to the last byte of the pyramid,
is the engine's: noise, windows, conditions, updates, store on disk, JPEG. Two clocks say so: the wall, and on a CPU the
process's own CPU time, which other work on the machine changes less. The network runs on one thread unless `--threads`.
`--windows N` stops after about that many windows have been denoised, and leaves writing out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from loom_canvases import random_grid
from numpy.typing import NDArray
from torch import Tensor

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.denoiser import Denoiser
from patchloom.fields.directory import DirectoryStore
from patchloom.loom.decode import decode_field
from patchloom.loom.orders import weave_down
from patchloom.machine import DTYPES
from patchloom.pipelines.generate import plan_run
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.settings import Settings
from patchloom.pyramids.image import write_image

Clocks: TypeAlias = NDArray[np.float64]


@dataclass
class Timed:
    """A denoiser and a decoder that know how long they took."""

    denoiser: Denoiser[GridCondition]
    autoencoder: Autoencoder
    limit: int | None
    network: Clocks = field(default_factory=lambda: np.zeros(2))  # seconds of the wall, of this process's CPU
    decoder: Clocks = field(default_factory=lambda: np.zeros(2))
    windows: int = 0
    factor: int = field(init=False)
    channels: int = field(init=False)
    receptive_field: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.factor, self.channels = self.autoencoder.factor, self.autoencoder.channels
        self.receptive_field = self.autoencoder.receptive_field

    def __call__(self, x: Tensor, sigma: Tensor, condition: GridCondition) -> Tensor:
        """The denoiser's answer."""
        if self.limit is not None and self.windows >= self.limit:
            raise Enough
        answer, seconds = _timed(lambda: self.denoiser(x, sigma, condition))
        self.network += seconds
        self.windows += len(x)
        return answer

    def encode(self, pixels: Tensor) -> Tensor:
        """The autoencoder's."""
        return self.autoencoder.encode(pixels)

    def decode(self, latents: Tensor) -> Tensor:
        """The autoencoder's answer."""
        answer, seconds = _timed(lambda: self.autoencoder.decode(latents))
        self.decoder += seconds
        return answer


class Enough(Exception):  # noqa: N818 - not an error
    """As many windows were denoised as were asked for."""


def _now() -> Clocks:
    return np.array([time.perf_counter(), time.process_time()])


def _timed(call: Callable[[], Tensor]) -> tuple[Tensor, Clocks]:
    started = _now()
    answer = call()
    if answer.device.type == "cuda":
        torch.cuda.synchronize()
    return answer, _now() - started


def measure(pipeline: Pipeline, side: int, limit: int | None) -> dict[str, Any]:
    """Seconds of each part, over a canvas whose cells are random embeddings of the pipeline's kind."""
    run = plan_run(pipeline, random_grid(pipeline, side), Settings())
    timed = Timed(run.denoiser, pipeline.autoencoder, limit)
    run = replace(run, denoiser=timed)
    started = _now()
    with tempfile.TemporaryDirectory() as folder, DirectoryStore(Path(folder) / "store", {}) as store:
        pixels = decode_field(weave_down(run, store), timed, device=pipeline.device, pixel_size=pipeline.pixel_size)
        with suppress(Enough):
            write_image(pixels, Path(folder) / "out.tif")
    total = _now() - started
    told: dict[str, Any] = {"side_px": side, "windows": timed.windows, "dtype": str(pipeline.dtype)}
    for number, clock in enumerate(("wall", "cpu")):
        seconds = {"total": total, "network": timed.network, "decoder": timed.decoder}
        told[clock] = {part: round(float(both[number]), 2) for part, both in seconds.items()}
        told[clock]["overhead_share"] = round(float(1 - (timed.network + timed.decoder)[number] / total[number]), 4)
    return told


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline")
    parser.add_argument("--side", type=int, default=4096, help="of the canvas in pixels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bf16", choices=list(DTYPES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--windows", type=int, help="stop after about so many")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    pipeline = load_pipeline(asked.pipeline, asked.device, DTYPES[asked.dtype])
    sys.stdout.write(json.dumps(measure(pipeline, asked.side, asked.windows)) + "\n")


if __name__ == "__main__":
    main()
