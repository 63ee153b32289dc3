"""`patchloom info`: what a file is, without torch."""

from __future__ import annotations

from pathlib import Path

import click

from patchloom.cli import options
from patchloom.cli.output import emit


@click.command()
@click.argument("path", type=options.FILE)
@options.as_json
def info(path: Path, as_json: bool) -> None:
    """Say what a slide, grid, dataset, pipeline or output is.

    Prints size, pixel size, encoder and provenance, as far as the file states them. Feature files of CLAM, TRIDENT and
    STAMP are understood too.

    \b
    patchloom info section.svs
    patchloom info out/demo.tif --json
    """
    from patchloom.pipelines.facts import facts_of

    emit(facts_of(path), as_json)
