"""A large canvas through the whole engine to a real pyramid, with a denoiser that costs next to nothing.

    python benchmarks/loom_gigapixel.py --side 32768 --out gigapixel
    python benchmarks/loom_gigapixel.py --side 4096 --side 8192 --side 16384 --side 32768 --out gigapixel

For each side, in a process of its own: seconds by the wall and of this process's CPU, megapixels a second, the largest
resident memory and the part of it that is anonymous (RssAnon, which does not count mapped pages), the file's size, and
the size in which OpenSlide opens it; for several sides also the exponents of time in area, fitted over their
logarithms. The denoiser is the exact one for independent Gaussian latents, the decoder repeats latents: what is
measured is the engine, the store, the noise and the pyramid. `--store` keeps states on disk, as `generate` does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spent import Peak, clocks
from torch import Tensor

from patchloom.diffusion.levels import karras
from patchloom.diffusion.samplers import dpmpp_2m
from patchloom.fields.directory import DirectoryStore, delete_store
from patchloom.fields.field import Field
from patchloom.geometry import Frame, PixelSize
from patchloom.loom.decode import decode_field
from patchloom.loom.orders import weave_down
from patchloom.loom.plan import Plan
from patchloom.loom.run import Run
from patchloom.pyramids.image import write_image
from patchloom.testing.gaussian import FlatScene, GaussianDenoiser, Means

FACTOR, CHANNELS = 8, 4


class Repeat:
    """A decoder that shows three channels of each latent as a square of pixels."""

    factor, channels, receptive_field = FACTOR, CHANNELS, 1

    def encode(self, pixels: Tensor) -> Tensor:
        """Nothing is encoded here."""
        raise TypeError("the gigapixel benchmark only decodes")

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (b, 4, h, w) to uint8 (b, 3, 8 h, 8 w)."""
        shown = (latents[:, :3] * 40 + 128).clamp(0, 255).to(torch.uint8)
        return shown.repeat_interleave(FACTOR, 2).repeat_interleave(FACTOR, 3)


def run_of(height: int, width: int, window: int, core: int, steps: int) -> Run[Means]:
    """A run over a canvas of that many pixels."""
    latents = Frame(height // FACTOR, width // FACTOR, CHANNELS, "float32")
    stages, plan = dpmpp_2m(karras(steps, 0.02, 20.0)), Plan.of("halo", window, core)
    return Run(GaussianDenoiser(0.5), stages, FlatScene(), plan, latents, seed=1, batch=16)


def make(height: int, width: int, window: int, core: int, steps: int, out: Path, stored: bool) -> dict[str, Any]:
    """Make one picture, and say what it took."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    path, folder = out / f"{height}x{width}.tif", out / f"{height}x{width}.store"
    run = run_of(height, width, window, core, steps)
    started = clocks()
    with Peak() as peak:
        _woven(run, path, folder if stored else None)
    seconds, cpu = map(float, clocks() - started)
    return {
        "height": height,
        "width": width,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "megapixels_per_cpu_second": round(height * width / cpu / 1e6, 2),
        "peak_anonymous_mib": round(peak.mib),
        "peak_resident_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
        "file_mib": round(path.stat().st_size / 2**20),
        "openslide": opened(path),
    }


def opened(path: Path) -> dict[str, Any]:
    """What OpenSlide, a reader that is not ours, says of the file: width and height, levels, and its last corner."""
    import openslide

    with openslide.OpenSlide(path) as slide:
        width, height = slide.dimensions
        corner = slide.read_region((width - 256, height - 256), 0, (256, 256)).convert("RGB")
        levels = [list(level) for level in slide.level_dimensions]
        return {"size": [width, height], "levels": levels, "corner_deviation": round(float(np.std(corner)), 1)}


def _woven(run: Run[Means], path: Path, folder: Path | None) -> None:
    if folder is None:
        _write(weave_down(run, keep=256), path)
        return
    with DirectoryStore(folder, {"size": [run.latents.height, run.latents.width]}) as store:
        _write(weave_down(run, store), path)
    delete_store(folder)


def _write(latents: Field, path: Path) -> None:
    pixels = decode_field(latents, Repeat(), pixel_size=PixelSize(5e-7))
    write_image(pixels, path, quality=85, provenance={"synthetic": True})


def exponent(found: list[dict[str, Any]], clock: str) -> float:
    """Of time in area, by a clock: `seconds` or `cpu_seconds`."""
    areas = np.log([float(one["height"] * one["width"]) for one in found])
    return round(float(np.polyfit(areas, np.log([one[clock] for one in found]), 1)[0]), 3)


def main() -> None:
    """Make the pictures that were asked for, each in a process of its own, and print what they took as JSON."""
    parser = argparse.ArgumentParser(description="A large canvas through the whole engine to a real pyramid.")
    parser.add_argument("--side", type=int, action="append", help="of a square canvas in pixels; as often as given")
    parser.add_argument("--height", type=int, help="of canvases that are not square")
    parser.add_argument("--window", type=int, default=32, help="in latents")
    parser.add_argument("--core", type=int, default=24, help="in latents")
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--store", action="store_true", help="keep states on disk")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    asked = parser.parse_args()
    sides: list[int] = asked.side or [32768]
    if len(sides) == 1:
        height = asked.height or sides[0]
        made = make(height, sides[0], asked.window, asked.core, asked.steps, asked.out, asked.store)
        sys.stdout.write(json.dumps(made) + "\n")
        return
    rest = [f"--{name}={getattr(asked, name)}" for name in ("window", "core", "steps", "out")]
    rest += ["--store"] * asked.store + ([f"--height={asked.height}"] if asked.height else [])
    found = []
    for side in sides:
        command = [sys.executable, __file__, "--side", str(side), *rest]
        found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        sys.stdout.write(json.dumps(found[-1]) + "\n")
        sys.stdout.flush()
    exponents = {f"exponent_of_{clock}": exponent(found, clock) for clock in ("seconds", "cpu_seconds")}
    sys.stdout.write(json.dumps(exponents) + "\n")


if __name__ == "__main__":
    main()
