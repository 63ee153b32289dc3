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
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loom_canvases import random_grid
from spent import Clocks, Enough, Timed, clocks, timed
from torch import Tensor

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.fields.directory import DirectoryStore
from patchloom.loom.decode import decode_field
from patchloom.loom.orders import weave_down
from patchloom.machine import DTYPES
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.settings import Settings
from patchloom.pyramids.image import write_image


class TimedAutoencoder:
    """An autoencoder that knows how long it decoded."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        self.factor, self.channels = autoencoder.factor, autoencoder.channels
        self.receptive_field = autoencoder.receptive_field
        self.seconds: Clocks = np.zeros(2)
        self._autoencoder = autoencoder

    def encode(self, pixels: Tensor) -> Tensor:
        """The autoencoder's."""
        return self._autoencoder.encode(pixels)

    def decode(self, latents: Tensor) -> Tensor:
        """The autoencoder's answer."""
        answer, seconds = timed(lambda: self._autoencoder.decode(latents))
        self.seconds += seconds
        return answer


def measure(pipeline: Pipeline, side: int, limit: int | None) -> dict[str, Any]:
    """Seconds of each part, over a canvas whose cells are random embeddings of the pipeline's kind."""
    run = plan_run(pipeline, random_grid(pipeline, side), Settings())
    network, decoder = (
        Timed(run.denoiser, float("inf") if limit is None else limit),
        TimedAutoencoder(pipeline.autoencoder),
    )
    run = replace(run, denoiser=network)
    started = clocks()
    with tempfile.TemporaryDirectory() as folder, DirectoryStore(Path(folder) / "store", {}) as store:
        pixels = decode_field(weave_down(run, store), decoder, device=pipeline.device, pixel_size=pipeline.pixel_size)
        with suppress(Enough):
            write_image(pixels, Path(folder) / "out.tif")
    total = clocks() - started
    parts = {"total": total, "network": network.seconds, "decoder": decoder.seconds}
    told: dict[str, Any] = {"side_px": side, "windows": network.windows, "dtype": str(pipeline.dtype)}
    for number, clock in enumerate(("wall", "cpu")):
        told[clock] = {part: round(float(both[number]), 2) for part, both in parts.items()}
        told[clock]["overhead_share"] = round(float(1 - (network.seconds + decoder.seconds)[number] / total[number]), 4)
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
