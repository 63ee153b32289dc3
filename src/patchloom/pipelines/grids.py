"""The grid that a pipeline is to follow: our own file, or a feature file of CLAM, TRIDENT or STAMP."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from patchloom.errors import InputError, MismatchError
from patchloom.geometry import PixelSize
from patchloom.grids.features import read_features
from patchloom.grids.file import read_grid
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.hdf5 import is_hdf5
from patchloom.grids.spec import EncoderSpec
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.record import NOT_STATED


@dataclass(frozen=True, slots=True)
class Told:
    """What a user says that feature files leave out; the meaning of each is told at `read_features`."""

    encoder: str | None = None
    slide_pixel_size: PixelSize | None = None
    patch_px: int | None = None
    tolerance: float | None = None


def open_grid(pipeline: Pipeline, path: Path, told: Told = Told()) -> EmbeddingGrid:
    """Open the grid in a file and check that it fits the pipeline.

    Feature files do not say which weights made them: `told.encoder` must name the pipeline's encoder, whose weights
    are then taken for granted. Raises what `read_grid` or `read_features` raises, InputError where something must be
    said or cannot be, MismatchError where the grid is of another encoder, field of view or pixel size.
    """
    if is_hdf5(path):
        grid = read_features(
            path,
            pixel_size=told.slide_pixel_size,
            patch_px=told.patch_px,
            encoder=_encoder(pipeline, path, told.encoder),
            tolerance=0.01 if told.tolerance is None else told.tolerance,
        )
    elif told == Told():
        grid = read_grid(path)
    else:
        raise InputError(
            f"`{path}` is no feature file in HDF5: Patchloom's own grids say their encoder, pixel size and cells "
            "themselves. Leave out --grid-encoder, --grid-patch, --grid-tolerance and --slide-pixel-size"
        )
    pipeline.check(grid, f"`{path}`")
    return grid


def _encoder(pipeline: Pipeline, path: Path, name: str | None) -> EncoderSpec:
    """The pipeline's own encoder, once the user has said that it made the features."""
    own = pipeline.record.encoder
    if name is None:
        wanted = own.name if own.name != NOT_STATED else "NAME"
        raise InputError(
            f"`{path}` does not say which weights made its embeddings. Pipeline `{pipeline.record.name}` follows those "
            f"of `{own.name}`: if they made them, say so with --grid-encoder {wanted}"
        )
    if own.name not in (NOT_STATED, name):
        raise MismatchError(
            f"`{path}` holds embeddings of `{name}`, pipeline `{pipeline.record.name}` follows those of `{own.name}`; "
            f"embed the slide with `patchloom embed --pipeline {pipeline.record.name}`, or take a pipeline trained on "
            f"`{name}`"
        )
    return replace(own, name=name)


def doubts(pipeline: Pipeline, path: Path, told: Told) -> tuple[str, ...]:
    """What is taken for granted about a grid, as sentences."""
    if not is_hdf5(path):
        return ()
    return (
        f"`{path}` does not say which weights made it; they are taken to be those of `{told.encoder}`, with which "
        f"`{pipeline.record.name}` was trained",
    )
