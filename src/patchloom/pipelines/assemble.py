"""From what training left to a pipeline folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from patchloom import records
from patchloom.autoencoders.files import digest, load_autoencoder
from patchloom.datasets.dataset import Dataset
from patchloom.encoders.coloured import SUFFIX, coloured
from patchloom.encoders.trained import LOCAL, trained_encoder
from patchloom.errors import InputError, MismatchError
from patchloom.grids.spec import EncoderSpec
from patchloom.pipelines.pipeline import Pipeline, load_pipeline, save_pipeline
from patchloom.pipelines.record import FORMAT, NOT_STATED, ConditionSpec, Defaults, PipelineRecord, Training

GLASS = (243, 242, 244)  # RGB of empty glass under a microscope


def assemble(
    folder: Path,
    name: str,
    *,
    denoiser: Path,
    autoencoder: Path,
    dataset: Dataset,
    training: Training,
    window: int,
    thinnings: tuple[int, ...] = (1,),
    background: tuple[int, int, int] = GLASS,
    defaults: Defaults | None = None,
    card: str | None = None,
    encoder: Path | None = None,
) -> Pipeline:
    """Make and load the pipeline of a denoiser trained on `dataset`, `window` latents a side.

    `encoder` is the folder of the dataset's encoder where `patchloom train` wrote it: the pipeline then carries it, and
    every verb finds it there. Raises MismatchError where the autoencoder is not the one that made the dataset's
    latents, or the encoder not the one that made its embeddings; InputError where a trained one is not given.
    """
    record = dataset.record
    if record.encoder is None or record.autoencoder is None or record.factor is None:
        raise InputError(f"dataset `{dataset.folder}` holds no embeddings and latents: no denoiser was trained on it")
    if digest(autoencoder) != record.autoencoder:
        raise MismatchError(f"`{autoencoder}` did not make the latents of `{dataset.folder}`; name the one that did")
    _check_encoder(dataset, record.encoder, encoder)
    described = PipelineRecord(
        FORMAT,
        name,
        record.pixel_size,
        window * record.factor,
        record.factor,
        load_autoencoder(autoencoder).channels,
        record.encoder,
        ConditionSpec(record.patch_px, tuple(record.stride_px * n for n in thinnings)),
        background,
        {},
        training,
        defaults or Defaults(window=window, core=window * 3 // 4),
    )
    save_pipeline(folder, autoencoder, denoiser, described, card or card_of(described), encoder)
    return load_pipeline(folder)


def _check_encoder(dataset: Dataset, own: EncoderSpec, folder: Path | None) -> None:
    """Refuse a pipeline whose encoder nobody would find, or which would carry another one."""
    if folder is None:
        if own.name.startswith(LOCAL):
            raise InputError(
                f"the embeddings of `{dataset.folder}` are of `{own.name}`, which `patchloom train` wrote and "
                "no name finds: give its folder as `encoder`, so that the pipeline carries it"
            )
        return
    carried = trained_encoder(folder)
    found = (coloured(carried) if own.name.endswith(SUFFIX) else carried).spec
    if found != own:
        raise MismatchError(
            f"the embeddings of `{dataset.folder}` are of `{own.name}` ({own.digest[:19]}), `{folder}` holds "
            f"`{found.name}` ({found.digest[:19]}); name the one that made them"
        )


def card_of(record: PipelineRecord) -> str:
    """A model card that says what is known; whoever ships the model adds figures, pictures and failures."""
    facts = records.dump(record)
    lines = [f"# {record.name}", "", "A Patchloom pipeline. What it makes is synthetic.", ""]
    lines += [f"- {key.replace('_', ' ')}: {facts[key]}" for key in ("pixel_size", "patch_px", "factor", "channels")]
    lines += [f"- encoder: {record.encoder.name}, {record.encoder.dim}-d ({record.encoder.licence})"]
    for block in (facts["training"], facts["source"]):
        lines += [f"- {key}: {_told(value)}" for key, value in (block or {}).items()]
    return "\n".join(lines) + "\n"


def _told(value: Any) -> str:
    """A fact as a card says it."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return NOT_STATED if value is None else str(value)
