"""How much a pattern repeats from latent to latent, in real pictures, through the autoencoder, and in what is made.

    python benchmarks/lattice.py he-foundation work/he

Of each picture of 256 px the squares under its latents are averaged; what such a mean square differs from flat, as a
mean absolute value of pixels in [-1, 1], is chance in real pictures and a lattice in those of a decoder that knows
where a latent begins. Windows are those of `patch_guidance.py`: validation images of a prepared dataset, never test.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from patch_guidance import arms, halves

from patchloom.datasets.dataset import open_dataset
from patchloom.evaluation.patches import UInt8
from patchloom.machine import choose_dtype
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.training.autoencoder_losses import lattice


def main() -> None:
    """Measure, and print a table."""
    said = asked()
    pipeline = load_pipeline(said.pipeline, "cpu", choose_dtype("auto", torch.device("cpu")))
    own, factor = pipeline.record.defaults, pipeline.record.factor
    one, two = halves(pipeline, open_dataset(said.dataset), said.window, said.most)
    real = np.concatenate([one.real, two.real])
    sys.stdout.write("| pictures | how many | mean | median | most |\n| --- | --- | --- | --- | --- |\n")
    write("real", real, factor)
    for name, pictures in arms(pipeline, one, [own.guidance], own.guidance_rescale, own.steps):
        write(f"made, guidance {name}" if name != "autoencoder" else name, pictures, factor)


def write(name: str, pictures: UInt8, factor: int) -> None:
    """A row: the lattice of pictures (n, 3, h, w)."""
    found = lattice(torch.from_numpy(pictures).float() / 127.5 - 1, factor).abs().mean((1, 2, 3))
    cells = (f"{value:.4f}" for value in (found.mean(), found.median(), found.max()))
    sys.stdout.write(f"| {name} | {len(pictures)} | {' | '.join(cells)} |\n")
    sys.stdout.flush()


def asked() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline")
    parser.add_argument("dataset", type=Path, help="of `patchloom prepare`, with the pipeline's latents")
    parser.add_argument("--window", type=int, default=32, help="latents a side")
    parser.add_argument("--most", type=int, default=24, help="windows of an image")
    return parser.parse_args()


if __name__ == "__main__":
    main()
