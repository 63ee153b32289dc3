"""`patchloom import`: a foreign checkpoint to a pipeline of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import click

from patchloom.cli import options
from patchloom.cli.output import emit
from patchloom.errors import InputError
from patchloom.geometry import PixelSize

if TYPE_CHECKING:  # torch
    from patchloom.pipelines.importing import Imported

Colour: TypeAlias = tuple[int, int, int]


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
@click.option(
    "--lora-strength",
    metavar="NUMBER",
    type=float,
    help="How much of the adapter; 1, the default, is as it was trained.",
)
@options.output("The pipeline's folder to write.", "folder")
@click.option(
    "--weights",
    type=click.Choice(["auto", "averaged", "raw"]),
    default="auto",
    show_default=True,
    help="Which weights: the averaged ones or those last trained; auto takes averaged ones where they were kept.",
)
@options.pixel_size("The pixel size that the model works at, as in 0.5um; no checkpoint says it.", required=True)
@click.option(
    "--encoder",
    metavar="NAME",
    help="The encoder whose embeddings it was trained on, by its name, as `patchloom doctor` lists them; no checkpoint "
    "says it.",
)
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
    weights: Literal["auto", "averaged", "raw"],
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
    from patchloom.machine import DTYPES
    from patchloom.pipelines.imported import Facts
    from patchloom.pipelines.importing import Given, import_pipeline

    facts = Facts(output.name, str(pixel_size), encoder, background)
    given = Given(config, autoencoder, text_encoder, lora, lora_strength, weights, licence)
    emit(_figures(output, import_pipeline(checkpoint, output, facts, given, DTYPES[dtype])), as_json)


def _figures(output: Path, made: Imported) -> dict[str, Any]:
    record, source = made.record, made.source
    kept = "as kept" if source.layout == "diffusers" else "as last trained"
    return {
        "path": str(output),
        "patch_px": record.patch_px,
        "factor": record.factor,
        "pixel_size": record.pixel_size,
        "parameters": made.parameters,
        "embedding": record.encoder.dim,
        "encoder": record.encoder.name,
        "weights": "averaged" if source.averaged else kept,
        "left_out": list(source.passengers),
        **({} if source.adapter is None else {"adapter": source.adapter}),
    }
