"""Pictures of what a pipeline gets wrong: parts of a real image beside the same parts made from its embeddings.

    python benchmarks/failures.py he-foundation SLIDE --slide-pixel-size 0.5um --region 512,512,1024,1024 \\
        --out work/bench/failures --part glands=128,128,384 --part vessel=600,200,384

The region is embedded and made with the pipeline's own settings, seed 0. Parts are X,Y,SIDE in px of the made image;
each becomes `OUT/NAME.jpg`, the real one on the left. Without a part both whole images are written, to choose from.
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from patchloom.geometry import Box, PixelSize
from patchloom.machine import choose_dtype
from patchloom.pipelines.generate import generate
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pipelines.reference import embed_reference
from patchloom.pipelines.request import Request
from patchloom.rasters.opening import open_raster
from patchloom.trials.evaluate import beneath

GAP = 8  # px between the two
MOST = 150_000  # bytes of a picture for the documentation


def beside(real: NDArray[np.uint8], made: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two pictures (3, h, w) as one (h, 2 w + gap, 3)."""
    gap = np.full((3, real.shape[1], GAP), 255, np.uint8)
    return np.ascontiguousarray(np.moveaxis(np.concatenate([real, gap, made], axis=2), 0, -1))


def write_small(picture: NDArray[np.uint8], path: Path) -> None:
    """A JPEG of the best quality, up to 90, that is small enough."""
    for quality in range(90, 40, -5):
        file = BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
        if file.tell() <= MOST:
            break
    path.write_bytes(file.getvalue())


def part_of(text: str) -> tuple[str, Box]:
    """NAME=X,Y,SIDE."""
    name, _, numbers = text.partition("=")
    x, y, side = map(int, numbers.split(","))
    return name, Box(y, x, side, side)


def main() -> None:
    """Make the image, and cut the parts."""
    parser = argparse.ArgumentParser(description="Parts of a real image beside the same parts of a made one.")
    parser.add_argument("pipeline")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--slide-pixel-size", type=PixelSize.parse)
    parser.add_argument("--region", type=Box.parse, help="X,Y,WIDTH,HEIGHT in px of the slide's file")
    parser.add_argument("--stride", type=int, help="px from cell to cell; default: as close as it was trained")
    parser.add_argument("--part", type=part_of, action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    device = torch.device("cpu")
    pipeline = load_pipeline(asked.pipeline, device, choose_dtype("auto", device))
    grid = embed_reference(
        pipeline.record,
        pipeline.encoder(),
        asked.slide,
        stride_px=asked.stride,
        slide_pixel_size=asked.slide_pixel_size,
        region=asked.region,
    )
    pixels = generate(Request(pipeline, grid)).pixels
    made = pixels.read(pixels.frame.box)
    with open_raster(asked.slide, asked.slide_pixel_size) as raster:
        real = beneath(raster, grid).read(pixels.frame.box)
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, box in asked.part:
        rows, cols = box.inside(pixels.frame.box)
        write_small(beside(real[:, rows, cols], made[:, rows, cols]), asked.out / f"{name}.jpg")
    if not asked.part:
        Image.fromarray(beside(real, made)).save(asked.out / f"{asked.slide.stem}.png")


if __name__ == "__main__":
    main()
