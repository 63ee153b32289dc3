"""`patchloom import`: a foreign checkpoint to a folder of ours."""

from __future__ import annotations

from pathlib import Path

import click

from patchloom.cli import options
from patchloom.cli.output import emit


@click.command("import")
@click.argument("checkpoint", type=options.FILE)
@click.option("--config", type=options.FILE, help="The model's YAML; default: the one beside the checkpoint.")
@options.output("The folder to write.")
@click.option(
    "--weights",
    type=click.Choice(["auto", "averaged", "raw"]),
    default="auto",
    show_default=True,
    help="Which weights: the averaged ones or those last trained; auto takes averaged ones where they were kept.",
)
@click.option(
    "--pixel-size",
    metavar="SIZE",
    help="The pixel size that the model was trained at, as in 0.5um; no checkpoint says it.",
)
@click.option("--encoder", help="The encoder whose embeddings it was trained on; no checkpoint says it.")
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
    pixel_size: str | None,
    encoder: str | None,
    licence: str | None,
    dtype: str,
    as_json: bool,
) -> None:
    """Bring a latent-diffusion checkpoint of the official layout here.

    CHECKPOINT is a folder with checkpoints/last.ckpt and configs/*-project.yaml, or a file. Nothing that it holds is
    executed, and its weights must fit its config exactly.
    """
    from patchloom.importers.folder import Facts, save_imported
    from patchloom.importers.latent_diffusion import import_checkpoint
    from patchloom.machine import DTYPES

    model = import_checkpoint(checkpoint, config, ema={"auto": None, "averaged": True, "raw": False}[weights])
    facts = Facts(output.name, pixel_size, encoder, licence)
    save_imported(model, output, facts, DTYPES[dtype])
    parameters = sum(value.numel() for value in model.network.parameters())
    emit(
        {
            "path": str(output),
            "patch_px": model.spec.patch_px,
            "factor": model.autoencoder.factor,
            "parameters": parameters,
            "embedding": model.spec.embedder.patch,
            "weights": "averaged" if model.spec.ema else "as last trained",
            "left_out": list(model.passengers),
        },
        as_json,
    )
