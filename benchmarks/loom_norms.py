"""How a decoder with norms and attention over the plane tints tiles, by what its norms measure.

    python benchmarks/loom_norms.py ../shared/fixtures/ldm/tiny_patch/checkpoints/last.ckpt
    python benchmarks/loom_norms.py --kl

A crop of the sample section is encoded, and decoded in one piece (the truth) and in tiles. `tint` is the mean absolute
difference of the colours of 32 x 32 px blocks from the truth, in levels of 255; `difference` that of pixels; `seam` the
meter at the tiles' borders, on the truth beside it; `decodes` how many latents are decoded for each of the canvas.
`--kl` adds an AutoencoderKL of diffusers, 8 px a latent as released ones are (random weights), read by the importer.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.evaluation.estimates import Estimate
from patchloom.evaluation.seams import Borders, seams
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box, Lattice
from patchloom.importers.diffusers_folder import read_stage
from patchloom.importers.latent_diffusion import import_checkpoint
from patchloom.loom.decode import decode_field, tiles
from patchloom.loom.frozen import SAMPLES, freeze, reach_of, sampled
from patchloom.loom.swept import layers_of, sweep_exactly
from patchloom.rasters.opening import open_raster

PICTURE = Path(__file__).parent.parent / "src/patchloom/samples/gallbladder.jpg"
BLOCK = 32
MOST = 64 * 64  # latents to sweep: a sweep for each layer takes long on a CPU


def ways(stage: FirstStage, latents: ArrayField, tile: int) -> Iterator[tuple[str, Autoencoder, int | None, float]]:
    """Names, decoders, halos of their tiles (None fades), and how often tiles are decoded beside the last time."""
    reach, canvas = reach_of(stage), latents.frame.box
    lattice = tiles(canvas.shape, reach, tile)
    yield "own, fading", stage, None, 0
    yield "own, halo", stage, reach, 0
    for samples in (4, SAMPLES):
        windows = sampled(tiles(canvas.shape, reach, tile // 2), samples)
        share = sum(window.box.area for window in windows) / canvas.area
        yield f"frozen on {len(windows)} tiles", freeze(stage, latents, windows, margin=reach), reach, share
    if canvas.area <= MOST:
        yield "exact", sweep_exactly(stage, latents, lattice, reach), reach, layers_of(stage) * _seen(lattice)


def measure(name: str, stage: FirstStage, side: int, tile: int) -> Iterator[dict[str, Any]]:
    """One row a way."""
    latents = ArrayField(_encoded(stage, side))
    canvas = latents.frame.box
    with torch.no_grad():
        truth = stage.decode(torch.from_numpy(latents.array)[None])[0].numpy()
    for way, decoder, reach, before in ways(stage, latents, tile):
        lattice = tiles(canvas.shape, reach, tile)
        field = decode_field(latents, decoder, tile=tile, margin=reach)
        made = np.asarray(field.read(field.frame.box))
        error = made.astype(float) - truth
        yield {
            "decoder": name,
            "norms": way,
            "reach": reach_of(stage),
            "layers": layers_of(stage),
            "tint": round(float(np.abs(_blocks(error)).mean()), 3),
            "most": round(float(np.abs(_blocks(error)).max()), 2),
            "difference": round(float(np.abs(error).mean()), 3),
            "seam": [
                _seam(picture, Borders.of(lattice).times(stage.factor), stage.factor) for picture in (made, truth)
            ],
            "decodes": round(before + _seen(lattice), 2),
        }


def _encoded(stage: FirstStage, side: int) -> NDArray[np.float32]:
    with open_raster(PICTURE) as raster, torch.no_grad():
        pixels = torch.from_numpy(np.ascontiguousarray(raster.read(Box(700, 500, side, side))))[None]
        return np.asarray(stage.encode(pixels)[0].float().numpy())


def _seen(lattice: Lattice) -> float:
    return sum(window.box.area for window in lattice) / lattice.box.area


def _blocks(error: NDArray[Any]) -> NDArray[Any]:
    height, width = (length // BLOCK for length in error.shape[1:])
    cut = error[:, : height * BLOCK, : width * BLOCK]
    return np.asarray(cut.reshape(3, height, BLOCK, width, BLOCK).mean((2, 4)))


def _seam(picture: NDArray[Any], borders: Borders, factor: int) -> float | str:
    found = seams(ArrayField(picture), {"tiles": borders}, factor)["tiles"]
    return round(found.value, 3) if isinstance(found, Estimate) else found.reason


def _kl() -> FirstStage:
    import diffusers

    torch.manual_seed(0)
    widths, kind = (32, 64, 64, 64), ("DownEncoderBlock2D", "UpDecoderBlock2D")
    made: Any = diffusers.AutoencoderKL
    network = made(
        block_out_channels=widths,
        down_block_types=(kind[0],) * len(widths),
        up_block_types=(kind[1],) * len(widths),
        latent_channels=4,
    )
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        return read_stage(Path(folder)).eval().requires_grad_(False)


def main() -> None:
    """Measure, and print one JSON object a line."""
    parser = argparse.ArgumentParser(description="How a foreign decoder tints tiles, by what its norms measure.")
    parser.add_argument("checkpoint", type=Path, nargs="?", help="of latent diffusion in the official layout")
    parser.add_argument("--kl", action="store_true", help="an AutoencoderKL of diffusers too")
    parser.add_argument("--side", type=int, default=512, help="of the crop in px")
    parser.add_argument("--tile", type=int, default=32, help="of decoding, in latents")
    asked = parser.parse_args()
    stages: dict[str, FirstStage] = {}
    if asked.checkpoint:
        stages["VQ"] = import_checkpoint(asked.checkpoint).autoencoder.eval().requires_grad_(False)
    if asked.kl:
        stages["KL of diffusers"] = _kl()
    for name, stage in stages.items():
        for row in measure(name, stage, asked.side, asked.tile):
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
