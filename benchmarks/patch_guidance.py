"""Scales of guidance beside one another on single validation patches of a prepared dataset.

    python benchmarks/patch_guidance.py he-foundation work/he --scales 2 3 5 --rescale 0.7 --encoder he-encoder

Half of some windows of every validation image (view 0, never test) are made anew from their cells, with a margin that
is cut off, and their pictures held against the real ones of the other half: kernel distance in the conditioning
encoder, in efficientnet-lite0 and in any `--encoder`, and the mean cosine to what the autoencoder keeps of the same
window. The first rows are the real pictures of the half that is made anew, and that half through the autoencoder. An
image gives at most `--most` windows, so that no large one decides alone; sixty patches tell large differences only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchloom.datasets.dataset import Dataset, open_dataset
from patchloom.datasets.planes import Planes
from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.guidance import guided
from patchloom.diffusion.levels import karras
from patchloom.diffusion.samplers import dpmpp_2m, run
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.registry import load_encoder
from patchloom.evaluation.features import features
from patchloom.evaluation.kernel import kernel
from patchloom.evaluation.patches import UInt8, from_arrays
from patchloom.machine import choose_dtype
from patchloom.pipelines.margin import decoded_inside, margin_of
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.training.draws import Draws
from patchloom.training.windows import Windows

JUDGE = "efficientnet-lite0"
BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class Half:
    """Windows of latents with their margin, what their cells say, and the real pictures of their middles."""

    latents: Tensor
    condition: GridCondition
    real: UInt8


def halves(pipeline: Pipeline, dataset: Dataset, side: int, most: int) -> tuple[Half, Half]:
    """Two halves of at most `most` windows of each validation image, at random places and in random order."""
    factor, margin = pipeline.record.factor, margin_of(pipeline)
    windows = Windows.read(dataset, "val", factor, side + 2 * margin, (1,), pipeline.device)
    pixels = dataset.pack("val", ["pixels"], pipeline.device)
    first = np.flatnonzero(windows.planes.numpy() < len(dataset.plots("val")))
    by_plane = [first[windows.planes[first].numpy() == plane][:most] for plane in range(len(dataset.plots("val")))]
    chosen = np.random.default_rng(0).permutation(np.concatenate(by_plane))
    chosen = chosen[: len(chosen) // 2 * 2]
    index = torch.from_numpy(chosen)
    latents, condition = windows.draw(index, Draws.seeded(pipeline.device, 0))
    real = pictures_of(pixels, windows.planes[index], side * factor)
    parts = [torch.arange(start, len(chosen), 2) for start in (0, 1)]
    one, two = (Half(latents[part], condition.take(part), real[part.numpy()]) for part in parts)
    return one, two


def pictures_of(pixels: Planes, planes: Tensor, side: int) -> UInt8:
    """Real pictures (n, 3, side, side), one somewhere in each named plane."""
    place = torch.rand(2, len(planes), generator=torch.Generator().manual_seed(1))
    y = (place[0] * (pixels.height[planes] - side + 1)).long()
    x = (place[1] * (pixels.width[planes] - side + 1)).long()
    cut: UInt8 = pixels.crops(planes, y, x, side, side).numpy()
    return cut


def arms(
    pipeline: Pipeline, half: Half, scales: Sequence[float], rescale: float, steps: int
) -> Iterator[tuple[str, UInt8]]:
    """What the autoencoder keeps of a half, then what is made at each scale, all from the same noise."""
    yield "autoencoder", shown(pipeline, half.latents)
    own = pipeline.record.defaults
    stages = dpmpp_2m(karras(steps, own.sigma_min, own.sigma_max))
    noise = torch.randn(half.latents.shape, generator=torch.Generator().manual_seed(2))
    for scale in scales:
        denoiser = guided(pipeline.denoiser, scale, rescale=rescale if scale != 1 else 0.0)
        made = []
        for start in range(0, len(noise), BATCH):
            part = torch.arange(start, min(start + BATCH, len(noise)))
            condition = half.condition.take(part).to(pipeline.device, pipeline.dtype)
            with torch.no_grad():
                made.append(run(denoiser, stages, noise[part] * stages[0].sigma, condition))
        yield f"{scale:g}", shown(pipeline, torch.cat(made))


def shown(pipeline: Pipeline, latents: Tensor) -> UInt8:
    """The pictures of latents, a batch at a time."""
    return np.concatenate([decoded_inside(pipeline, part).numpy() for part in torch.split(latents, BATCH)])


def embedded(pictures: UInt8, encoders: Sequence[Encoder]) -> list[NDArray[np.float64]]:
    """Embeddings of pictures in every network."""
    side = from_arrays(list(pictures))
    return [features(side, encoder).rows.astype(np.float64) for encoder in encoders]


def main() -> None:
    """Measure, and print a table."""
    said = asked()
    pipeline = load_pipeline(said.pipeline, "cpu", choose_dtype("auto", torch.device("cpu")))
    encoders = [pipeline.encoder(), *(load_encoder(name) for name in (JUDGE, *said.encoder))]
    one, two = halves(pipeline, open_dataset(said.dataset), said.window, said.most)
    reference = embedded(two.real, encoders)
    write(["made with", *(f"kernel, {e.spec.name}" for e in encoders), "similarity"])
    write(["---"] * (len(encoders) + 2))
    write(["real", *told(reference, embedded(one.real, encoders)), ""])
    kept: NDArray[np.float64] | None = None
    for name, pictures in arms(pipeline, one, said.scales, said.rescale, said.steps or pipeline.record.defaults.steps):
        rows = embedded(pictures, encoders)
        kept = rows[0] if kept is None else kept
        cosine = (rows[0] * kept).sum(1) / np.linalg.norm(rows[0], axis=1) / np.linalg.norm(kept, axis=1)
        write([name, *told(reference, rows), f"{cosine.mean():.3f}"])


def told(reference: list[NDArray[np.float64]], rows: list[NDArray[np.float64]]) -> list[str]:
    """Kernel distances to the reference, a network each."""
    return [f"{kernel(real, made):.4f}" for real, made in zip(reference, rows, strict=True)]


def write(cells: list[str]) -> None:
    """A row of the table."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def asked() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline")
    parser.add_argument("dataset", type=Path, help="of `patchloom prepare`, with the pipeline's latents")
    parser.add_argument("--scales", type=float, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--rescale", type=float, default=0.0, help="share of the added deviation that is taken back")
    parser.add_argument("--steps", type=int, help="default: the pipeline's")
    parser.add_argument("--window", type=int, default=32, help="latents a side")
    parser.add_argument("--most", type=int, default=24, help="windows of an image")
    parser.add_argument("--encoder", action="append", default=[], help="another judge, by name or folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
