"""`patchloom vary`: variations of labelled images, to train with."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import click

from patchloom.cli import options
from patchloom.cli.drawing import Drawing, drawing
from patchloom.cli.output import emit
from patchloom.cli.progress import progress


@click.command()
@click.argument("dataset", type=options.FILE)
@click.option("-n", "--count", type=options.Whole(1), required=True, help="Variations of each image.")
@options.output("Folder for the variations; the same command goes on with one that is not finished.", "folder")
@click.option(
    "--pipeline",
    required=True,
    metavar="NAME|FOLDER",
    help="A pipeline's folder, or the name of one that comes with Patchloom.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="train",
    show_default=True,
    help="Which images to vary; test is refused.",
)
@click.option("--labelled", is_flag=True, help="Leave out images without a label.")
@click.option(
    "--strength",
    type=options.Number(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Below 1 begin at the original, noised, and take this share of the steps, the last ones; 1 is noise alone.",
)
@drawing
@options.device
@options.dtype
@options.as_json
def vary(
    dataset: Path,
    *,
    count: int,
    output: Path,
    pipeline: str,
    split: Literal["train", "val", "test"],
    labelled: bool,
    strength: float,
    drawing: Drawing,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Make variations of labelled images, each from its own embeddings.

    With --strength below 1 they start from the image's own pixels.

    DATASET is a dataset of `patchloom prepare`, whose plots are varied, or a CSV table with columns file, group, split
    and label. Writes lossless pictures and variations.csv, a table of the same columns that also says source, seed and
    pipeline of each: `prepare` and `evaluate` read it. Test images are never varied.
    """
    from patchloom.pipelines.vary import TABLE
    from patchloom.pipelines.vary import vary as make

    loaded = drawing.pipeline(pipeline, device, dtype)
    settings = replace(drawing.settings(), strength=strength)
    with progress() as bar:
        made = make(loaded, dataset, count, output, settings, split=split, labelled=labelled, progress=bar("vary"))
    skipped = [asdict(each) for each in made.skipped]
    emit({"path": str(output / TABLE), "variations": len(made.variations), "skipped": skipped}, as_json)
