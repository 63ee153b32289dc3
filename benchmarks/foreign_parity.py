"""Parity with recorded large images of the official code that takes too long for the tests.

    python benchmarks/foreign_parity.py whole --fixtures ../shared/fixtures/ldm      a canvas of 128 x 192 px
    python benchmarks/foreign_parity.py size --fixtures ../shared/fixtures/ldm       1024 x 1024 px
    python benchmarks/foreign_parity.py stride64 --fixtures ../shared/fixtures/ldm   the same, at other strides
    python benchmarks/foreign_parity.py stride32 --fixtures ../shared/fixtures/ldm
    python benchmarks/foreign_parity.py bf16 --fixtures ../shared/fixtures/ldm       in bfloat16

`whole`: all 50 steps of both models at strides 4 and 8, and with averaged weights. `size`: two steps at the official
stride of 16, and random latents decoded. `stride64`: all 50 steps of windows side by side. `stride32`: all 50 of
windows half a window apart, and what is decoded of it. `bf16`: as `whole`, at stride 8, with the network in bfloat16.
Errors are in deviations of the recorded values.
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


def large_image(
    own: LatentDiffusion, grid: NDArray[Any], window: int, stride: int, seed: int, steps: int = STEPS
) -> NDArray[np.float32]:
    """The official loop's latents over a grid of embeddings (rows, cols, dim), from recorded draws.

    After fewer steps than all they are given as the loop has them: x / sqrt(1 + sigma²).
    """
    canvas = grid.shape[0] * window, grid.shape[1] * window
    drawn = draws(seed, (3, *canvas))
    top = np.float32(float32_table(own.spec.parametrisation.label)[-1])
    scene = SlerpScene.lattice(grid, window, own.embedder)
    how = How(window=window, core=stride, batch=7)
    whole = official_run(own, scene, canvas, how, ArrayField(drawn[0] + top * drawn[1]))
    sigma = 0.0 if steps == STEPS else whole.stages[steps].sigma
    part = replace(whole, stages=whole.stages[:steps], noise=partial(Drawn, drawn))
    return np.asarray(weave_canvas(part).read(Box(0, 0, *canvas)) / np.sqrt(1 + sigma**2), np.float32)


def errors(found: NDArray[Any], wanted: NDArray[Any]) -> dict[str, float]:
    """Root mean square and largest, in deviations of what is wanted."""
    off = np.abs(found.astype(np.float64) - wanted) / wanted.std()
    return {"rms": float(f"{np.sqrt((off**2).mean()):.2g}"), "largest": float(f"{off.max():.2g}")}


def pooled(planes: NDArray[Any], side: int) -> NDArray[Any]:
    """Means of squares of `side`."""
    channels, height, width = planes.shape
    means: NDArray[Any] = planes.reshape(channels, height // side, side, width // side, side).mean((2, 4))
    return means


def whole(fixtures: Path) -> dict[str, Any]:
    """Both models on the smaller canvas, to the end."""
    found: dict[str, Any] = {}
    runs = (("final", 4, False), ("final_stride8", 8, False), ("final_ema", 4, True))
    for name in ("tiny_patch", "tiny_ssl"):
        file = recorded(fixtures / name, "panorama")
        for wanted, stride, ema in runs:
            if wanted in file:
                own = import_checkpoint(fixtures / name, ema=ema)
                found[f"{name} {wanted}"] = errors(large_image(own, file["grid"], 16, stride, 1234), file[wanted][0])
    return found


def size(fixtures: Path) -> dict[str, Any]:
    """The official size: the first two steps at its stride, and random latents decoded."""
    own, file = _official_size(fixtures)
    early = large_image(own, file["grid4x4"].reshape(4, 4, -1), 64, 16, 4321, steps=2)
    drawn = np.random.RandomState(99).standard_normal((1, 3, 256, 256)).astype(np.float32)[0]  # the recorded draw
    pixels, part = BlendedDecode(ArrayField(drawn), own.autoencoder, window=64, stride=16), Box(448, 448, 64, 64)
    levels = np.abs(pixels.read(part).astype(int) - file["decode_rs99_uint8_crop"][0].transpose(2, 0, 1))
    return {
        "x_after_2_crop": errors(early[:, 96:160, 96:160], file["x_after_2_crop"][0]),
        "x_after_2_corner": errors(early[:, :24, :24], file["x_after_2_corner"][0]),
        "x_after_2_pool8": errors(pooled(early, 8), file["x_after_2_pool8"][0]),
        "decode_rs99_float_crop": errors(np.asarray(pixels.blended(part)), file["decode_rs99_float_crop"][0]),
        "decode_rs99_uint8_crop": {"largest_level": int(levels.max()), "share": float(f"{(levels > 0).mean():.2g}")},
    }


def stride64(fixtures: Path) -> dict[str, Any]:
    """The official size at stride 64: windows side by side."""
    own, file = _official_size(fixtures)
    last = large_image(own, file["grid4x4"].reshape(4, 4, -1), 64, 64, 4321)
    return {
        "final_stride64_crop": errors(last[:, 96:160, 96:160], file["final_stride64_crop"][0]),
        "final_stride64_pool8": errors(pooled(last, 8), file["final_stride64_pool8"][0]),
    }


def _official_size(fixtures: Path) -> tuple[LatentDiffusion, Arrays]:
    own = import_checkpoint(fixtures / "tiny_patch", ema=False)
    return own, recorded(fixtures / "tiny_patch", "panorama_official_size")


def stride32(fixtures: Path) -> dict[str, Any]:
    """The official size at stride 32, and its decoding."""
    own, file = _official_size(fixtures)
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


KINDS = {"whole": whole, "size": size, "stride64": stride64, "stride32": stride32, "bf16": bf16}


def main() -> None:
    """Compare one thing, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(KINDS))
    parser.add_argument("--fixtures", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(KINDS[asked.what](asked.fixtures)) + "\n")


if __name__ == "__main__":
    main()
