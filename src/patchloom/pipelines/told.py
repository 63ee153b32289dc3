"""Pipelines that are told a text or a class: the folder of one, and the grid that says the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from pathlib import Path

import numpy as np
import torch

from patchloom import weights
from patchloom.diffusion.parametrisation import Parametrisation
from patchloom.errors import InputError, MissingError
from patchloom.geometry import PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.spec import EncoderSpec
from patchloom.networks.given_tokens import GivenShape, GivenTokens
from patchloom.networks.ldm_files import LatentDenoiser
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.ldm_unet import LatentUNet
from patchloom.networks.path_told import ClassTold, TextTold
from patchloom.networks.told_files import WEIGHTS, load_told, save_told, words_of
from patchloom.pipelines.pipeline import read_record
from patchloom.pipelines.record import NOT_STATED, TOLD, PipelineRecord

TEXT, CLASS = "text", "class"  # the encoder's name of a pipeline that is told


def parts_of(
    told: ClassTold | TextTold, network: LatentUNet, parametrisation: Parametrisation, tokenizer: Path | None
) -> LatentDenoiser:
    """A model that is told a text or a class, as one that is told the tokens of a grid.

    Raises InputError for a text encoder without the folder of its tokenizer, and what `words_of` raises.
    """
    nothing = _tokens(told, tokenizer, None).nothing[0]
    embedder = GivenTokens(GivenShape(nothing.numel(), None, nothing.shape[1], normalise=False, tokens=len(nothing)))
    with torch.no_grad():
        embedder.patch.weight.copy_(nothing)
    return LatentDenoiser(network, embedder.eval().requires_grad_(False), parametrisation)


def save_reader(
    told: ClassTold | TextTold, patch_px: int, tokenizer: Path | None, folder: Path, licence: str | None
) -> EncoderSpec:
    """Write what reads the text into a pipeline's folder, and say which encoder that is to grids."""
    save_told(told, folder / TOLD, tokenizer)
    text = isinstance(told, TextTold)
    dim = told.shape.width * (told.shape.length * told.shape.parts if isinstance(told, TextTold) else 1)
    plain = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    digest = weights.digest(folder / TOLD / WEIGHTS)
    return EncoderSpec(TEXT if text else CLASS, dim, patch_px, *plain, licence or NOT_STATED, digest)


def describe(folder: Path, said: str | int, size: tuple[int, int]) -> EmbeddingGrid:
    """The grid of an image (height, width) in pixels that is told the same everywhere: a text, or a class.

    Raises InputError for a pipeline that is told neither, or the other, and for a size that is no whole number of its
    patches; MissingError for a folder without what reads the text.
    """
    record = read_record(folder)
    if record.encoder.name not in (TEXT, CLASS):
        raise InputError(
            f"pipeline `{record.name}` is told embeddings of `{record.encoder.name}`, neither text nor class; embed a "
            "slide for it by `patchloom embed --pipeline`"
        )
    if not (folder / TOLD).is_dir():
        raise MissingError(f"pipeline `{folder}` lacks its folder `{TOLD}`, which reads the text; import it again")
    return grid_of(record, _tokens(load_told(folder / TOLD), folder / TOLD, said), size)


def grid_of(record: PipelineRecord, told: TokenCondition, size: tuple[int, int]) -> EmbeddingGrid:
    """One set of tokens (1, n, width) in the corners of an image (height, width), and where else the lattice asks."""
    cell = record.condition.cell_px
    if any(side < cell or side % cell for side in size):
        near = " x ".join(str(max(round(side / cell), 1) * cell) for side in (size[1], size[0]))
        raise InputError(
            f"an image of {size[1]} x {size[0]} px (width x height) is no whole number of the model's patches of "
            f"{cell} px; the nearest is {near}"
        )
    stride = gcd(*(side - cell for side in size)) or cell
    rows, cols = (1 + (side - cell) // stride for side in size)
    one = told.tokens[0].flatten().float().numpy()
    embeddings = np.broadcast_to(one, (rows, cols, len(one))).copy()
    valid = np.ones((rows, cols), bool)
    pixel_size = PixelSize.parse(record.pixel_size)
    return EmbeddingGrid(embeddings, valid, cell, stride, (0.0, 0.0), size, pixel_size, record.encoder)


def _tokens(told: ClassTold | TextTold, tokenizer: Path | None, said: str | int | None) -> TokenCondition:
    """What a text or a class says, and what nothing says; None says nothing."""
    if isinstance(told, ClassTold):
        if isinstance(said, str):
            raise InputError("this pipeline is told one of its classes, by number, not a text: give --class")
        return told.condition(torch.tensor([told.shape.classes - 1 if said is None else said]))
    if isinstance(said, int):
        raise InputError("this pipeline is told a text, not a class: give --text")
    if tokenizer is None:
        raise InputError(
            "this model is told a text, and its checkpoint holds no tokenizer: name the folder of its text encoder's "
            "(vocab.json and merges.txt) by --text-encoder"
        )
    captions: Sequence[str] = (said or "", "")
    words = [words_of([caption], told.shape, tokenizer) for caption in captions]
    return told.condition(*words)
