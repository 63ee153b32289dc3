"""`patchloom describe`: a grid of words, for pipelines that are told a text or a class."""

from __future__ import annotations

from pathlib import Path

import click

from patchloom.cli import options
from patchloom.cli.output import emit
from patchloom.errors import InputError


def _size(text: str) -> tuple[int, int]:
    parts = [int(part) if part.strip().isdigit() else 0 for part in text.split(",")]
    if len(parts) != 2 or min(parts) < 1:
        raise InputError(f"size `{text}` is not WIDTH,HEIGHT in pixels, as in 1024,1024")
    return parts[1], parts[0]


@click.command()
@click.argument("pipeline")
@click.option("--text", help="What the image should show, in words.")
@click.option("--class", "number", type=options.Whole(0), help="The class that it should show, by its number.")
@click.option(
    "--size",
    required=True,
    metavar="WIDTH,HEIGHT",
    callback=options.parsed(_size),
    help="Of the image in pixels: whole numbers of the model's patches.",
)
@options.output("The grid to write.", "file")
@options.as_json
def describe(
    pipeline: str, *, text: str | None, number: int | None, size: tuple[int, int], output: Path, as_json: bool
) -> None:
    """Write the grid of an image described by a text or a class.

    PIPELINE is the folder of an imported model that is told words, as PathLDM is. `patchloom generate PIPELINE --grid`
    then makes the image, as of any grid.
    """
    from patchloom.grids.file import describe as facts_of
    from patchloom.grids.file import write_grid
    from patchloom.pipelines.presets import find_pipeline
    from patchloom.pipelines.told import describe as grid_of

    if (text is None) == (number is None):
        raise click.UsageError("say what the image should show: either --text or --class")
    said = text if text is not None else number or 0
    write_grid(grid_of(find_pipeline(pipeline), said, size), output)
    emit({"path": str(output), **facts_of(output)}, as_json)
