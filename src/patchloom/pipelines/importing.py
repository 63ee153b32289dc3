"""A foreign checkpoint to a pipeline folder, whichever layout it has: what `patchloom import` does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.autoencoders.tiny import TinyAutoencoder
from patchloom.errors import InputError
from patchloom.importers.diffusers_pipeline import find_folder, import_diffusers, is_pipeline
from patchloom.importers.latent_diffusion import import_checkpoint
from patchloom.importers.lora import read_lora
from patchloom.importers.path_ldm import import_told, is_told
from patchloom.networks.ldm_files import LatentDenoiser
from patchloom.networks.path_told import ClassTold, TextTold
from patchloom.networks.transformer_files import TransformerDenoiser
from patchloom.pipelines.imported import GUIDANCE, Facts, save_imported
from patchloom.pipelines.place import check_place
from patchloom.pipelines.record import PipelineRecord, Source
from patchloom.pipelines.told import parts_of

Weights = Literal["auto", "averaged", "raw"]
_EMA = {"auto": None, "averaged": True, "raw": False}


@dataclass(frozen=True, slots=True)
class Given:
    """What goes with a checkpoint: files that it needs, and which of its weights are taken. None is left open."""

    config: Path | None = None  # of latent diffusion: the YAML; else the one beside the checkpoint
    autoencoder: Path | None = None  # of diffusers: a folder or hub:OWNER/NAME, where the pipeline holds none
    text_encoder: Path | None = None  # of a model that is told a text: the folder of the tokenizer
    lora: Path | None = None  # of diffusers: an adapter that is merged into the network
    lora_strength: float | None = None  # how much of it; None is 1, as it was trained
    weights: Weights = "auto"  # of latent diffusion: averaged ones where they were kept, or those last trained
    licence: str | None = None  # of the weights, to be kept beside them


@dataclass(frozen=True, slots=True)
class Imported:
    """What was written: the pipeline's record, where its weights come from, and how many its denoiser has."""

    record: PipelineRecord
    source: Source
    parameters: int


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of a checkpoint."""

    parts: LatentDenoiser | TransformerDenoiser
    stage: FirstStage | TinyAutoencoder
    patch_px: int
    source: Source
    facts: Facts
    told: ClassTold | TextTold | None = None


def import_pipeline(
    checkpoint: Path, folder: Path, facts: Facts, given: Given = Given(), dtype: torch.dtype = torch.float32
) -> Imported:
    """Make the pipeline `folder` of a checkpoint of latent diffusion or diffusers, its weights kept in `dtype`.

    `checkpoint` is a folder in the official layout of latent diffusion or its file, a folder of diffusers, or
    hub:OWNER/NAME, from which such a folder is fetched. Nothing in it is executed. Raises InputError for a folder that
    holds other things than a pipeline, and for what is given and this kind of checkpoint has no use for; MissingError,
    FormatError and MismatchError, saying which file or weight, where the checkpoint is not whole or does not fit.
    """
    check_place(folder)  # before what takes long
    source = find_folder(checkpoint)
    read = (_diffusers if is_pipeline(source) else _latent_diffusion)(source, facts, given)
    parts = read.parts, read.stage, read.patch_px, read.source, read.facts
    record = save_imported(folder, *parts, dtype, told=read.told, tokenizer=given.text_encoder)
    return Imported(record, read.source, sum(value.numel() for value in read.parts.network.parameters()))


def _diffusers(folder: Path, facts: Facts, given: Given) -> _Read:
    weights = None if given.weights == "auto" else given.weights
    _check_unused(config=given.config, weights=weights, text_encoder=given.text_encoder)
    if given.lora is None:
        _check_unused(lora_strength=given.lora_strength)
    strength = 1.0 if given.lora_strength is None else given.lora_strength
    lora = None if given.lora is None else read_lora(given.lora, strength)
    stage = None if given.autoencoder is None else find_folder(given.autoencoder, autoencoder=True)
    model = import_diffusers(folder, stage, lora)
    facts = replace(facts, encoder=facts.encoder or model.encoder, guidance=model.guidance or GUIDANCE)
    source = Source("diffusers", False, model.left_out, given.licence, None if lora is None else lora.told)
    return _Read(model.parts, model.autoencoder, model.patch_px, source, facts)


def _latent_diffusion(folder: Path, facts: Facts, given: Given) -> _Read:
    _check_unused(autoencoder=given.autoencoder, lora=given.lora, lora_strength=given.lora_strength)
    if is_told(folder, given.config):
        return _told(folder, facts, given)
    _check_unused(text_encoder=given.text_encoder)
    model = import_checkpoint(folder, given.config, ema=_EMA[given.weights])
    source = Source("latent-diffusion", model.spec.ema, model.passengers, given.licence)
    return _Read(model.parts, model.autoencoder, model.spec.patch_px, source, facts)


def _told(folder: Path, facts: Facts, given: Given) -> _Read:
    """A model that is told a text or a class, as one that follows a grid of tokens."""
    _check_unused(encoder=facts.encoder)
    model = import_told(folder, given.config, ema=_EMA[given.weights])
    parts = parts_of(model.told, model.network, model.spec.parametrisation, given.text_encoder)
    source = Source("latent-diffusion", model.spec.ema, model.passengers, given.licence)
    return _Read(parts, model.autoencoder, model.spec.patch_px, source, facts, model.told)


def _check_unused(**given: object) -> None:
    odd = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if odd:
        raise InputError(f"{' and '.join(odd)}: this kind of checkpoint has no use for it; leave it out")
