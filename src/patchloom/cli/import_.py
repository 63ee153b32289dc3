"""`patchloom import`: a foreign checkpoint to a pipeline of ours."""

from __future__ import annotations

from pathlib import Path

import click

from patchloom.cli import options
from patchloom.cli.output import emit
from patchloom.errors import InputError
from patchloom.geometry import PixelSize

Colour = tuple[int, int, int]


def _colour(text: str) -> Colour:
    parts = [int(part) if part.strip().isdigit() else -1 for part in text.split(",")]
    if len(parts) != 3 or not all(0 <= part <= 255 for part in parts):
        raise InputError(f"colour `{text}` is not R,G,B from 0 to 255, as in 243,242,244")
    return parts[0], parts[1], parts[2]


@click.command("import")
@click.argument("checkpoint", type=options.FILE)
@click.option("--config", type=options.FILE, help="The model's YAML; default: the one beside the checkpoint.")
@options.output("The pipeline's folder to write.")
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
    output: Path,
    weights: str,
    pixel_size: PixelSize,
    encoder: str | None,
    background: Colour | None,
    licence: str | None,
    dtype: str,
    as_json: bool,
) -> None:
    """Make a pipeline of a checkpoint in the official layout.

    The layout is that of latent diffusion: CHECKPOINT is a folder with checkpoints/last.ckpt and
    configs/*-project.yaml, or a file. Nothing that it holds is executed, and its weights must fit its config exactly.
    """
    from patchloom.importers.latent_diffusion import import_checkpoint
    from patchloom.machine import DTYPES
    from patchloom.pipelines.imported import Facts, save_imported
    from patchloom.pipelines.record import Source

    model = import_checkpoint(checkpoint, config, ema={"auto": None, "averaged": True, "raw": False}[weights])
    source = Source("latent-diffusion", model.spec.ema, model.passengers, licence)
    facts = Facts(output.name, str(pixel_size), encoder, background)
    record = save_imported(output, model.parts, model.autoencoder, model.spec.patch_px, source, facts, DTYPES[dtype])
    emit(
        {
            "path": str(output),
            "patch_px": record.patch_px,
            "factor": record.factor,
            "pixel_size": record.pixel_size,
            "parameters": sum(value.numel() for value in model.network.parameters()),
            "embedding": record.encoder.dim,
            "encoder": record.encoder.name,
            "weights": "averaged" if source.averaged else "as last trained",
            "left_out": list(source.passengers),
        },
        as_json,
    )
