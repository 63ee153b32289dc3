"""A dataset of two colours, for tests and benchmarks: what a window should look like is what its cells say.

Each cell's square of a plot is light or dark, at random. Pixels, latents and embeddings all say which.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from patchloom import records, weights
from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder, ConvolutionalShape
from patchloom.autoencoders.files import digest, save_autoencoder
from patchloom.datasets.dataset import FORMAT, NAME, DatasetRecord, Plot, Split
from patchloom.grids.spec import EncoderSpec

LIGHT = 0.9  # of a light latent or embedding; a dark one is the negative


@dataclass(frozen=True, slots=True)
class Colours:
    """Sizes of such a dataset: square plots of `side` x `side` cells."""

    splits: tuple[Split, ...] = ("train", "train", "val")  # one plot each
    side: int = 6
    cell_lat: int = 4  # latents from one cell to the next
    channels: int = 2
    dim: int = 4
    widths: tuple[int, ...] = (4, 4, 4)  # of the autoencoder, which nobody trained

    def signs(self, plot: int) -> Tensor:
        """Light 1 or dark -1 of each cell of a plot, (side, side)."""
        return torch.from_numpy(np.random.default_rng(plot).choice([-1.0, 1.0], (self.side, self.side))).float()


def write_colours(folder: Path, colours: Colours) -> Path:
    """Write `folder/autoencoder` and the dataset `folder/data`, which is returned."""
    torch.manual_seed(0)
    levels = len(colours.widths)
    network = ConvolutionalAutoencoder(
        ConvolutionalShape(colours.channels, colours.widths, (1,) * levels, (1,) * levels)
    )
    save_autoencoder(network, folder / "autoencoder")
    (folder / "data" / "plots").mkdir(parents=True)
    for number in range(len(colours.splits)):
        path = folder / "data" / "plots" / f"{number}.safetensors"
        weights.write_tensors(_tensors(colours, number, network.factor), path)
    record = _record(colours, digest(folder / "autoencoder"), network.factor)
    (folder / "data" / NAME).write_text(json.dumps(records.dump(record)))
    return folder / "data"


def _tensors(colours: Colours, number: int, factor: int) -> dict[str, Tensor]:
    signs = colours.signs(number)
    latents = signs.repeat_interleave(colours.cell_lat, 0).repeat_interleave(colours.cell_lat, 1)
    pixels = (128 + 100 * latents).repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    texture = 0.1 * torch.randn(*latents.shape, colours.channels, generator=torch.Generator().manual_seed(number))
    centre = colours.cell_lat * factor / 2
    return {
        "pixels": pixels[..., None].expand(-1, -1, 3).to(torch.uint8),
        "latents.0": (LIGHT * latents[..., None] + texture).half(),
        "cells.0": (LIGHT * signs[..., None]).expand(-1, -1, colours.dim).half(),
        "valid.0": torch.ones(signs.shape, dtype=torch.bool),
        "origin.0": torch.tensor([centre, centre]),
    }


def _record(colours: Colours, autoencoder: str, factor: int) -> DatasetRecord:
    cell_px, side_px = colours.cell_lat * factor, colours.side * colours.cell_lat * factor
    encoder = EncoderSpec("colours", colours.dim, cell_px, (0.0,) * 3, (1.0,) * 3, "CC0-1.0", "sha256:0")
    plots = tuple(
        Plot(str(number), f"{number}.png", f"patient {number}", split, "CC0-1.0", "", (0, 0, side_px, side_px), 1.0)
        for number, split in enumerate(colours.splits)
    )
    return DatasetRecord(FORMAT, "0.5um", cell_px, cell_px, encoder, autoencoder, factor, (0,), plots)
