"""How much of a run is neither network nor decoder, for a pipeline at a canvas of 4096 x 4096 px.

    python benchmarks/loom_overhead.py he-foundation --side 4096

Every call of the network and of the decoder is timed; the rest, from the first noise to the last byte of the pyramid,
is the engine's: noise, windows, conditions, updates, store, JPEG. The network runs on one thread unless `--threads`.
`--windows N` stops after about that many windows have been denoised, and leaves writing out: on a busy or slow
machine the shares of a part are those of the whole.
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
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.denoiser import Denoiser
from patchloom.fields.directory import DirectoryStore
from patchloom.geometry import Frame
from patchloom.loom.decode import decode_field
from patchloom.loom.orders import weave_down
from patchloom.loom.scene import GridScene
from patchloom.pipelines.generate import run_of
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pipelines.settings import Settings
from patchloom.pyramids.image import write_image


@dataclass
class Timed:
    """A denoiser and a decoder that know how long they took."""

    denoiser: Denoiser[GridCondition]
    autoencoder: Autoencoder
    limit: int | None
    network: float = 0.0
    decoder: float = 0.0
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


def _timed(call: Callable[[], Tensor]) -> tuple[Tensor, float]:
    started = time.perf_counter()
    answer = call()
    if answer.device.type == "cuda":
        torch.cuda.synchronize()
    return answer, time.perf_counter() - started


def measure(name: str, side: int, device: str, limit: int | None) -> dict[str, Any]:
    """Seconds of each part, over a canvas whose cells are random embeddings of the pipeline's kind."""
    pipeline = load_pipeline(name, device)
    record = pipeline.record
    latents = Frame(side // record.factor, side // record.factor, record.channels, "float32")
    cells = -(-side // record.condition.cell_px)
    embeddings = np.random.default_rng(0).standard_normal((cells, cells, record.encoder.dim)).astype(np.float16)
    step = record.condition.cell_px / record.factor
    scene = GridScene(embeddings, np.ones((cells, cells), bool), (step / 2, step / 2), (step, step))
    run = run_of(pipeline, scene, latents, Settings())
    timed = Timed(run.denoiser, pipeline.autoencoder, limit)
    run = replace(run, denoiser=timed)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, DirectoryStore(Path(folder) / "store", {}) as store:
        pixels = decode_field(weave_down(run, store), timed, device=pipeline.device, pixel_size=pipeline.pixel_size)
        with suppress(Enough):
            write_image(pixels, Path(folder) / "out.tif")
    total = time.perf_counter() - started
    return {
        "side_px": side,
        "windows": timed.windows,
        "seconds": round(total, 2),
        "network": round(timed.network, 2),
        "decoder": round(timed.decoder, 2),
        "overhead_share": round(1 - (timed.network + timed.decoder) / total, 4),
    }


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description="The engine's share of a run's time.")
    parser.add_argument("pipeline")
    parser.add_argument("--side", type=int, default=4096, help="of the canvas in pixels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--windows", type=int, help="stop after about so many")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    sys.stdout.write(json.dumps(measure(asked.pipeline, asked.side, asked.device, asked.windows)) + "\n")


if __name__ == "__main__":
    main()
