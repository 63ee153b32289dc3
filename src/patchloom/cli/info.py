"""`patchloom info`: what a file is, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from patchloom.cli import options
from patchloom.cli.output import emit
from patchloom.errors import FormatError, MissingError

RECORDS = {"pipeline.json": "pipeline", "dataset.json": "dataset"}


@click.command()
@click.argument("path", type=options.FILE)
@options.as_json
def info(path: Path, as_json: bool) -> None:
    """Say what a slide, grid, dataset, pipeline or output is.

    Prints size, pixel size, encoder and provenance, as far as the file states them.
    """
    emit(describe(path), as_json)


def describe(path: Path) -> dict[str, Any]:
    """The facts of any file or folder that Patchloom reads or writes. Raises MissingError or FormatError."""
    if not path.exists():
        raise MissingError(f"there is no file or folder `{path}`")
    return _folder(path) if path.is_dir() else _file(path)


def _file(path: Path) -> dict[str, Any]:
    from patchloom.grids.file import describe as describe_grid
    from patchloom.grids.file import is_grid
    from patchloom.rasters import describe as describe_raster

    if is_grid(path):
        return describe_grid(path)
    facts = describe_raster(path)
    return {"kind": "slide" if facts["provenance"] is None else "output", **facts}


def _folder(path: Path) -> dict[str, Any]:
    for name, kind in RECORDS.items():
        if (path / name).is_file():
            return {"kind": kind, **_record(path / name)}
    raise FormatError(f"folder `{path}` holds neither {' nor '.join(RECORDS)}, so it is no pipeline and no dataset")


def _record(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"`{path}` is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise FormatError(f"`{path}` should hold a JSON object, found {values!r:.80}")
    return values
