"""A foreign model as a pipeline folder: two networks, and a record that says where they come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from patchloom.autoencoders.ldm_files import load_first_stage, save_first_stage
from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.autoencoders.tiny import TinyAutoencoder
from patchloom.autoencoders.tiny_files import save_tiny
from patchloom.diffusion.parametrisation import NoiseLabel
from patchloom.encoders.known import KNOWN, spec_name
from patchloom.errors import InputError
from patchloom.geometry import PixelSize
from patchloom.grids.spec import EncoderSpec
from patchloom.networks.ldm_files import LatentDenoiser, load_latent_denoiser, save_latent_denoiser
from patchloom.networks.path_told import ClassTold, TextTold
from patchloom.networks.transformer_files import TransformerDenoiser, save_transformer
from patchloom.pipelines.assemble import card_of
from patchloom.pipelines.pipeline import checked_record, write_record
from patchloom.pipelines.place import check_place
from patchloom.pipelines.record import (
    AUTOENCODER,
    DENOISER,
    FORMAT,
    NOT_STATED,
    RECORD,
    ConditionSpec,
    Defaults,
    PipelineRecord,
    Source,
)
from patchloom.pipelines.told import save_reader

STEPS, GUIDANCE = 20, 2.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What no checkpoint says about itself and its user knows. None is not stated."""

    name: str
    pixel_size: str  # of the images that it was trained on
    encoder: str | None = None  # whose embeddings it was trained on
    background: tuple[int, int, int] | None = None  # RGB where a grid holds nothing; None leaves it to the model
    guidance: float = GUIDANCE  # unless told otherwise


def save_imported(
    folder: Path,
    parts: LatentDenoiser | TransformerDenoiser,
    stage: FirstStage | TinyAutoencoder,
    patch_px: int,
    source: Source,
    facts: Facts,
    dtype: torch.dtype = torch.float32,
    *,
    told: ClassTold | TextTold | None = None,
    tokenizer: Path | None = None,
) -> PipelineRecord:
    """Write the folder; `pipeline.json` comes last and makes it a pipeline.

    `told` is what reads the text, or knows the classes, of a model that is told no pictures' embeddings; it is kept in
    the folder with the files of its `tokenizer`. Raises InputError for a bad pixel size, an encoder whose embeddings
    are of another length, or a folder that holds other things than a pipeline.
    """
    check_place(folder)
    record = described(parts, stage, patch_px, source, facts)
    if told is not None:
        record = replace(record, encoder=save_reader(told, patch_px, tokenizer, folder, source.licence))
    (folder / RECORD).unlink(missing_ok=True)
    _save_stage(stage, folder / AUTOENCODER, dtype)
    _save_denoiser(parts, folder / DENOISER, dtype)
    write_record(folder, record, card_of(record))
    return record


def load_imported(folder: Path) -> tuple[LatentDenoiser, FirstStage, PipelineRecord]:
    """The parts of the folder, as they were saved. Raises MissingError, or FormatError for a damaged one."""
    record = checked_record(folder)
    return load_latent_denoiser(folder / DENOISER), load_first_stage(folder / AUTOENCODER), record


def _save_stage(stage: FirstStage | TinyAutoencoder, folder: Path, dtype: torch.dtype) -> None:
    if isinstance(stage, TinyAutoencoder):
        save_tiny(stage, folder, dtype)
    else:
        save_first_stage(stage, folder, dtype)


def _save_denoiser(parts: LatentDenoiser | TransformerDenoiser, folder: Path, dtype: torch.dtype) -> None:
    if isinstance(parts, TransformerDenoiser):
        save_transformer(parts, folder, dtype)
    else:
        save_latent_denoiser(parts, folder, dtype)


def described(
    parts: LatentDenoiser | TransformerDenoiser,
    stage: FirstStage | TinyAutoencoder,
    patch_px: int,
    source: Source,
    facts: Facts,
) -> PipelineRecord:
    """The record of a foreign model. It was trained on cells side by side: one a patch, or a square of several."""
    patch = patch_px // stage.factor
    dim, along = _told(parts)
    if patch_px % along:
        raise InputError(f"a patch of {patch_px} px cannot be made of {along} x {along} cells")
    return PipelineRecord(
        format=FORMAT,
        name=facts.name,
        pixel_size=str(PixelSize.parse(facts.pixel_size)),
        patch_px=patch_px,
        factor=stage.factor,
        channels=stage.channels,
        encoder=_encoder(facts.encoder, dim, patch_px // along),
        condition=ConditionSpec(patch_px // along, (patch_px // along,)),
        background=facts.background,
        weights={},
        defaults=_defaults(parts.parametrisation.label, patch, facts.guidance),
        source=source,
    )


def _told(parts: LatentDenoiser | TransformerDenoiser) -> tuple[int, int]:
    """The length of a cell's embedding, and the cells along a patch."""
    if isinstance(parts, TransformerDenoiser):
        return parts.network.shape.context, parts.network.shape.cells
    return parts.embedder.shape.patch, 1


def _defaults(label: NoiseLabel, patch: int, guidance: float) -> Defaults:
    """What the mathematics says: a solver of second order over the levels of the table, windows of a patch."""
    table = label.table
    return Defaults(
        steps=STEPS,
        sigma_min=float(table[0]),
        sigma_max=float(table[-1]),
        guidance=guidance,
        window=patch,
        core=max(patch * 3 // 4, 1),
        levels="ddpm",
    )


def _encoder(name: str | None, dim: int, patch_px: int) -> EncoderSpec:
    """What is known of the encoder: its name where the user gave one, and nothing of its weights."""
    known = KNOWN.get(name or "")
    if known is None:
        plain = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        return EncoderSpec(name or NOT_STATED, dim, patch_px, *plain, NOT_STATED, NOT_STATED)
    if known.dim != dim:
        raise InputError(
            f"encoder `{name}` gives {known.dim}-d embeddings, but this model was trained on {dim}-d ones; name the "
            "encoder that it was trained with"
        )
    seen = known.transform
    return EncoderSpec(spec_name(name or ""), dim, seen.crop_px, seen.mean, seen.std, known.licence, NOT_STATED)
