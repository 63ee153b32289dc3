"""`patchloom import`: a foreign checkpoint to a pipeline of ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from patchloom.cli import options
from patchloom.cli.output import emit
from patchloom.errors import InputError
from patchloom.geometry import PixelSize

if TYPE_CHECKING:
    from patchloom.importers.diffusers_pipeline import DiffusersModel
    from patchloom.importers.latent_diffusion import LatentDiffusion

Colour = tuple[int, int, int]


def _colour(text: str) -> Colour:
    parts = [int(part) if part.strip().isdigit() else -1 for part in text.split(",")]
    if len(parts) != 3 or not all(0 <= part <= 255 for part in parts):
        raise InputError(f"colour `{text}` is not R,G,B from 0 to 255, as in 243,242,244")
    return parts[0], parts[1], parts[2]


def _check_unused(**given: object) -> None:
    odd = [f"--{name}" for name, value in given.items() if value is not None]
    if odd:
        raise InputError(f"{' and '.join(odd)}: this kind of checkpoint has no use for it; leave it out")


@click.command("import")
@click.argument("checkpoint", type=options.FILE)
@click.option("--config", type=options.FILE, help="The model's YAML; default: the one beside the checkpoint.")
@click.option(
    "--autoencoder",
    metavar="FOLDER|hub:OWNER/NAME",
    type=options.FILE,
    help="The autoencoder of a diffusers pipeline whose folder holds none, as PixCell's does not.",
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
    from patchloom.importers.diffusers_pipeline import find_folder, import_diffusers, is_pipeline
    from patchloom.importers.latent_diffusion import import_checkpoint
    from patchloom.machine import DTYPES
    from patchloom.pipelines.imported import GUIDANCE, Facts, save_imported
    from patchloom.pipelines.record import Source

    model: DiffusersModel | LatentDiffusion
    folder = find_folder(checkpoint)
    facts = Facts(output.name, str(pixel_size), encoder, background)
    if is_pipeline(folder):
        _check_unused(config=config, weights=None if weights == "auto" else weights)
        stage = None if autoencoder is None else find_folder(autoencoder, autoencoder=True)
        model = import_diffusers(folder, stage)
        facts = replace(facts, encoder=encoder or model.encoder, guidance=model.guidance or GUIDANCE)
        source, patch_px = Source("diffusers", False, model.left_out, licence), model.patch_px
    else:
        _check_unused(autoencoder=autoencoder)
        model = import_checkpoint(folder, config, ema={"auto": None, "averaged": True, "raw": False}[weights])
        source = Source("latent-diffusion", model.spec.ema, model.passengers, licence)
        patch_px = model.spec.patch_px
    record = save_imported(output, model.parts, model.autoencoder, patch_px, source, facts, DTYPES[dtype])
    emit(
        {
            "path": str(output),
            "patch_px": record.patch_px,
            "factor": record.factor,
            "pixel_size": record.pixel_size,
            "parameters": sum(value.numel() for value in model.parts.network.parameters()),
            "embedding": record.encoder.dim,
            "encoder": record.encoder.name,
            "weights": "averaged" if source.averaged else "as kept" if is_pipeline(folder) else "as last trained",
            "left_out": list(source.passengers),
        },
        as_json,
    )
