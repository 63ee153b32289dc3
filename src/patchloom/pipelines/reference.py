"""The embedding grid of a slide as a pipeline wants it."""

from __future__ import annotations

from pathlib import Path

import torch

from patchloom.encoders.coloured import SUFFIX
from patchloom.encoders.embed import BATCH, Advance
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.registry import load_encoder
from patchloom.encoders.slide import MIN_VALID, embed_slide
from patchloom.encoders.trained import LOCAL
from patchloom.errors import InputError, MismatchError
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.spec import EncoderSpec
from patchloom.pipelines.record import ENCODER, NOT_STATED, PipelineRecord
from patchloom.rasters.cells import Mode


def encoder_of(record: PipelineRecord, folder: Path, device: torch.device | str, dtype: torch.dtype) -> Encoder:
    """The encoder that a pipeline was trained with: its own in `folder`, the pipeline's, or one of the registry.

    Raises MismatchError where its weights or lengths are others here, InputError where the pipeline does not name it,
    or names one that `patchloom train` wrote and does not carry it.
    """
    own = record.encoder
    if own.name == NOT_STATED:
        raise InputError(
            f"pipeline `{record.name}` does not state which encoder it was trained with; import it again with "
            "--encoder, or embed the reference beforehand and give --grid"
        )
    encoder = load_encoder(_place_of(own, folder), device, dtype)
    if not is_same(own, encoder.spec):
        raise MismatchError(
            f"encoder `{encoder.spec.name}` has weights {encoder.spec.digest[:19]} and {encoder.spec.dim}-d embeddings "
            f"here, pipeline `{record.name}` was trained with {own.digest[:19]} and {own.dim}-d ones; install the "
            "version it names"
        )
    return encoder


def _place_of(own: EncoderSpec, folder: Path) -> str:
    """What `load_encoder` finds the encoder by."""
    if not own.name.startswith(LOCAL):
        return own.name
    if not (folder / ENCODER).is_dir():
        raise InputError(
            f"encoder `{own.name}` is found by no name, and pipeline `{folder}` does not carry it; copy the folder "
            f"that `patchloom train` wrote to `{folder / ENCODER}`, or embed with `patchloom embed --encoder FOLDER` "
            "and give --grid"
        )
    return f"{folder / ENCODER}{SUFFIX if own.name.endswith(SUFFIX) else ''}"


def is_same(own: EncoderSpec, other: EncoderSpec) -> bool:
    """Whether a pipeline's encoder is another, as far as the pipeline states it: by name, digest and length."""
    return own.name in (NOT_STATED, other.name) and own.digest in (NOT_STATED, other.digest) and own.dim == other.dim


def embed_reference(
    record: PipelineRecord,
    encoder: Encoder,
    slide: Path,
    *,
    stride_px: int | None = None,
    slide_pixel_size: PixelSize | None = None,
    region: Box | None = None,
    mode: Mode = "auto",
    min_valid: float = MIN_VALID,
    batch: int = BATCH,
    progress: Advance | None = None,
) -> EmbeddingGrid:
    """Embed a slide at the pipeline's pixel size, in cells of its field of view; raises what `embed_slide` raises.

    Without a stride, cells lie as close as the pipeline was trained for: the denser, the closer the layout is followed.
    """
    return embed_slide(
        slide,
        encoder,
        pixel_size=PixelSize.parse(record.pixel_size),
        slide_pixel_size=slide_pixel_size,
        cell_px=record.condition.cell_px,
        stride_px=stride_px or min(record.condition.strides_px),
        region=region,
        mode=mode,
        min_valid=min_valid,
        batch=batch,
        progress=progress,
    )
