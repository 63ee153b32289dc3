"""Parity with recorded large images of the official code that takes too long for the tests.

    python benchmarks/foreign_parity.py stride32 --fixtures ../shared/fixtures/ldm
    python benchmarks/foreign_parity.py bf16 --fixtures ../shared/fixtures/ldm

`stride32`: 1024 x 1024 px, all 50 steps at a stride of half a window, and what is decoded of it. `bf16`: a smaller
canvas, all 50 steps at stride 8 with the network in bfloat16. Errors are in deviations of the recorded values.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.diffusion.official import float32_table
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box, Frame
from patchloom.importers.latent_diffusion import LatentDiffusion, import_checkpoint
from patchloom.importers.official import How, official_run
from patchloom.loom.blended import BlendedDecode
from patchloom.loom.orders import weave_canvas
from patchloom.loom.slerp import SlerpScene

Arrays = dict[str, NDArray[Any]]
STEPS = 50


def recorded(folder: Path, name: str) -> Arrays:
    """A file of recorded arrays."""
    with np.load(folder / "arrays" / f"{name}.npz") as file:
        return {key: np.asarray(file[key]) for key in file.files}


def draws(seed: int, shape: tuple[int, int, int]) -> list[NDArray[np.float32]]:
    """What a recorded run drew, in its order: two for the start, then one a step but the last."""
    generator = np.random.RandomState(seed)  # the recorded runs drew from it
    return [generator.standard_normal((1, *shape)).astype(np.float32)[0] for _ in range(1 + STEPS)]


class Drawn:
    """Recorded draws in place of noise by place: stream 1 + k is what stage k adds."""

    def __init__(self, values: list[NDArray[np.float32]], seed: int, stream: int, frame: Frame) -> None:
        self.frame, self._values = frame, values[min(1 + stream, len(values) - 1)]

    def read(self, box: Box) -> NDArray[np.float32]:
        """The values of a box."""
        return self._values[:, box.y : box.stop_y, box.x : box.stop_x]


def large_image(own: LatentDiffusion, grid: NDArray[Any], window: int, stride: int, seed: int) -> NDArray[np.float32]:
    """The official loop's latents over a grid of embeddings (rows, cols, dim), from recorded draws."""
    canvas = grid.shape[0] * window, grid.shape[1] * window
    drawn = draws(seed, (3, *canvas))
    top = np.float32(float32_table(own.spec.parametrisation.label)[-1])
    scene = SlerpScene.lattice(grid, window, own.embedder)
    how = How(window=window, core=stride, batch=7)
    run = replace(
        official_run(own, scene, canvas, how, ArrayField(drawn[0] + top * drawn[1])), noise=partial(Drawn, drawn)
    )
    return np.asarray(weave_canvas(run).read(Box(0, 0, *canvas)), np.float32)


def errors(found: NDArray[Any], wanted: NDArray[Any]) -> dict[str, float]:
    """Root mean square and largest, in deviations of what is wanted."""
    off = np.abs(found.astype(np.float64) - wanted) / wanted.std()
    return {"rms": float(f"{np.sqrt((off**2).mean()):.2g}"), "largest": float(f"{off.max():.2g}")}


def pooled(planes: NDArray[Any], side: int) -> NDArray[Any]:
    """Means of squares of `side`."""
    channels, height, width = planes.shape
    means: NDArray[Any] = planes.reshape(channels, height // side, side, width // side, side).mean((2, 4))
    return means


def stride32(fixtures: Path) -> dict[str, Any]:
    """The official size at stride 32, and its decoding."""
    own = import_checkpoint(fixtures / "tiny_patch", ema=False)
    file = recorded(fixtures / "tiny_patch", "panorama_official_size")
    latents = large_image(own, file["grid4x4"].reshape(4, 4, -1), 64, 32, 4321)
    found: dict[str, Any] = {
        "final_stride32_pool8": errors(pooled(latents, 8), file["final_stride32_pool8"][0]),
        "final_stride32_crop": errors(latents[:, 96:160, 96:160], file["final_stride32_crop"][0]),
        "decode_in_pool8": errors(pooled(latents, 8), file["decode_in_pool8"][0]),
    }
    pixels = BlendedDecode(ArrayField(latents), own.autoencoder, window=64, stride=16)
    for name, box in (("decode_uint8_crop", Box(448, 448, 128, 128)), ("decode_uint8_corner", Box(0, 0, 64, 64))):
        off = np.abs(pixels.read(box).astype(int) - file[name][0].transpose(2, 0, 1))
        found[name] = {"largest_level": int(off.max()), "share": float(f"{(off > 0).mean():.2g}")}
    return found


def bf16(fixtures: Path) -> dict[str, Any]:
    """Fifty steps with the network in bfloat16, beside float32, on both models."""
    found: dict[str, Any] = {}
    for name in ("tiny_patch", "tiny_ssl"):
        file = recorded(fixtures / name, "panorama")
        for dtype in (torch.float32, torch.bfloat16):
            own = import_checkpoint(fixtures / name, ema=False)
            own.network.to(dtype)
            latents = large_image(own, file["grid"], 16, 8, 1234)
            found[f"{name} {dtype}"] = errors(latents, file["final_stride8"][0])
    return found


def main() -> None:
    """Compare one thing, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["stride32", "bf16"])
    parser.add_argument("--fixtures", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = stride32(asked.fixtures) if asked.what == "stride32" else bf16(asked.fixtures)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
