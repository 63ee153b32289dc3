"""`patchloom import`: a foreign checkpoint to a pipeline of ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from patchloom.cli import options
from patchloom.cli.output import emit
from patchloom.errors import InputError
from patchloom.geometry import PixelSize

if TYPE_CHECKING:
    from patchloom.autoencoders.ldm_first_stage import FirstStage
    from patchloom.autoencoders.tiny import TinyAutoencoder
    from patchloom.networks.ldm_files import LatentDenoiser
    from patchloom.networks.path_told import ClassTold, TextTold
    from patchloom.networks.transformer_files import TransformerDenoiser
    from patchloom.pipelines.imported import Facts
    from patchloom.pipelines.record import PipelineRecord, Source

Colour: TypeAlias = tuple[int, int, int]
_EMA = {"auto": None, "averaged": True, "raw": False}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line says about a checkpoint; None is left open."""

    folder: Path
    config: Path | None
    autoencoder: Path | None
    text_encoder: Path | None
    lora: Path | None
    lora_strength: float | None
    weights: str
    licence: str | None


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read of it."""

    parts: LatentDenoiser | TransformerDenoiser
    stage: FirstStage | TinyAutoencoder
    patch_px: int
    source: Source
    facts: Facts
    told: ClassTold | TextTold | None = None


def _colour(text: str) -> Colour:
    parts = [int(part) if part.strip().isdigit() else -1 for part in text.split(",")]
    if len(parts) != 3 or not all(0 <= part <= 255 for part in parts):
        raise InputError(f"colour `{text}` is not R,G,B from 0 to 255, as in 243,242,244")
    return parts[0], parts[1], parts[2]


@click.command("import")
@click.argument("checkpoint", type=options.FILE)
@click.option("--config", type=options.FILE, help="The model's YAML; default: the one beside the checkpoint.")
@click.option(
    "--autoencoder",
    metavar="FOLDER|hub:OWNER/NAME",
    type=options.FILE,
    help="The autoencoder of a diffusers pipeline whose folder holds none, as PixCell's does not.",
)
@click.option(
    "--text-encoder",
    metavar="FOLDER",
    type=options.FILE,
    help="Of a model that is told a text: the folder with its text encoder's tokenizer (vocab.json and merges.txt).",
)
@click.option("--lora", type=options.FILE, help="A LoRA adapter of peft or diffusers, to be merged into the network.")
@click.option("--lora-strength", type=float, help="How much of the adapter; 1, the default, is as it was trained.")
@options.output("The pipeline's folder to write.", "folder")
@click.option(
    "--weights",
    type=click.Choice(list(_EMA)),
    default="auto",
    show_default=True,
    help="Which weights: the averaged ones or those last trained; auto takes averaged ones where they were kept.",
)
@options.pixel_size("The pixel size that the model works at, as in 0.5um; no checkpoint says it.", required=True)
@click.option("--encoder", help="The encoder whose embeddings it was trained on; no checkpoint says it.")
@click.option(
    "--background",
    metavar="R,G,B",
    callback=options.parsed(_colour),
    help="The colour where a grid holds nothing, as in 243,242,244; default: whatever the model makes there.",
)
@click.option("--licence", help="The licence of the weights, to be kept beside them.")
@click.option(
    "--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True, help="Of what is kept."
)
@options.as_json
def import_(
    checkpoint: Path,
    *,
    config: Path | None,
    autoencoder: Path | None,
    text_encoder: Path | None,
    lora: Path | None,
    lora_strength: float | None,
    output: Path,
    weights: str,
    pixel_size: PixelSize,
    encoder: str | None,
    background: Colour | None,
    licence: str | None,
    dtype: str,
    as_json: bool,
) -> None:
    """Make a pipeline of a checkpoint of latent diffusion or diffusers.

    CHECKPOINT is a folder in the official layout of latent diffusion (checkpoints/last.ckpt and
    configs/*-project.yaml) or its file; or a folder of diffusers (model_index.json), or hub:OWNER/NAME, from which such
    a folder is fetched unless HF_HUB_OFFLINE is set. Nothing that it holds is executed, and its weights must fit its
    config exactly.
    """
    from patchloom.pipelines.place import check_place

    check_place(output)  # before what takes long
    from patchloom.importers.diffusers_pipeline import find_folder, is_pipeline
    from patchloom.pipelines.imported import Facts

    facts = Facts(output.name, str(pixel_size), encoder, background)
    folder = find_folder(checkpoint)
    asked = _Asked(folder, config, autoencoder, text_encoder, lora, lora_strength, weights, licence)
    read = (_diffusers if is_pipeline(folder) else _latent_diffusion)(asked, facts)
    emit(_figures(output, read, _saved(output, read, text_encoder, dtype)), as_json)


def _saved(output: Path, read: _Read, tokenizer: Path | None, dtype: str) -> PipelineRecord:
    from patchloom.machine import DTYPES
    from patchloom.pipelines.imported import save_imported

    parts = read.parts, read.stage, read.patch_px, read.source, read.facts
    return save_imported(output, *parts, DTYPES[dtype], told=read.told, tokenizer=tokenizer)


def _diffusers(asked: _Asked, facts: Facts) -> _Read:
    from patchloom.importers.diffusers_pipeline import find_folder, import_diffusers
    from patchloom.importers.lora import read_lora
    from patchloom.pipelines.imported import GUIDANCE
    from patchloom.pipelines.record import Source

    weights = None if asked.weights == "auto" else asked.weights
    _check_unused(config=asked.config, weights=weights, text_encoder=asked.text_encoder)
    if asked.lora is None:
        _check_unused(lora_strength=asked.lora_strength)
    lora = None if asked.lora is None else read_lora(asked.lora, _given(asked.lora_strength, 1.0))
    stage = None if asked.autoencoder is None else find_folder(asked.autoencoder, autoencoder=True)
    model = import_diffusers(asked.folder, stage, lora)
    facts = replace(facts, encoder=facts.encoder or model.encoder, guidance=model.guidance or GUIDANCE)
    source = Source("diffusers", False, model.left_out, asked.licence, None if lora is None else lora.told)
    return _Read(model.parts, model.autoencoder, model.patch_px, source, facts)


def _latent_diffusion(asked: _Asked, facts: Facts) -> _Read:
    from patchloom.importers.latent_diffusion import import_checkpoint
    from patchloom.importers.path_ldm import is_told
    from patchloom.pipelines.record import Source

    _check_unused(autoencoder=asked.autoencoder, lora=asked.lora, lora_strength=asked.lora_strength)
    if is_told(asked.folder, asked.config):
        return _told(asked, facts)
    _check_unused(text_encoder=asked.text_encoder)
    model = import_checkpoint(asked.folder, asked.config, ema=_EMA[asked.weights])
    source = Source("latent-diffusion", model.spec.ema, model.passengers, asked.licence)
    return _Read(model.parts, model.autoencoder, model.spec.patch_px, source, facts)


def _told(asked: _Asked, facts: Facts) -> _Read:
    """A model that is told a text or a class, as one that follows a grid of tokens."""
    from patchloom.importers.path_ldm import import_told
    from patchloom.pipelines.record import Source
    from patchloom.pipelines.told import parts_of

    _check_unused(encoder=facts.encoder)
    model = import_told(asked.folder, asked.config, ema=_EMA[asked.weights])
    parts = parts_of(model.told, model.network, model.spec.parametrisation, asked.text_encoder)
    source = Source("latent-diffusion", model.spec.ema, model.passengers, asked.licence)
    return _Read(parts, model.autoencoder, model.spec.patch_px, source, facts, model.told)


def _check_unused(**given: object) -> None:
    odd = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if odd:
        raise InputError(f"{' and '.join(odd)}: this kind of checkpoint has no use for it; leave it out")


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _figures(output: Path, read: _Read, record: PipelineRecord) -> dict[str, Any]:
    kept = "as kept" if read.source.layout == "diffusers" else "as last trained"
    return {
        "path": str(output),
        "patch_px": record.patch_px,
        "factor": record.factor,
        "pixel_size": record.pixel_size,
        "parameters": sum(value.numel() for value in read.parts.network.parameters()),
        "embedding": record.encoder.dim,
        "encoder": record.encoder.name,
        "weights": "averaged" if read.source.averaged else kept,
        "left_out": list(read.source.passengers),
        **({} if read.source.adapter is None else {"adapter": read.source.adapter}),
    }
