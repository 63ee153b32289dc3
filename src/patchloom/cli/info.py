"""`patchloom info`: what a file is, without torch."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from patchloom import records
from patchloom.cli import options
from patchloom.cli.output import emit
from patchloom.errors import FormatError, MissingError

DATASET, PIPELINE = "dataset.json", "pipeline.json"


@click.command()
@click.argument("path", type=options.FILE)
@options.as_json
def info(path: Path, as_json: bool) -> None:
    """Say what a slide, grid, dataset, pipeline or output is.

    Prints size, pixel size, encoder and provenance, as far as the file states them. Feature files of CLAM, TRIDENT and
    STAMP are understood too.
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
    from patchloom.grids.hdf5 import is_hdf5
    from patchloom.rasters import describe as describe_raster

    if is_grid(path):
        return describe_grid(path)
    if is_hdf5(path):
        from patchloom.grids.features import describe as describe_features

        return describe_features(path)
    facts = describe_raster(path)
    return {"kind": "slide" if facts["provenance"] is None else "output", **facts}


def _folder(path: Path) -> dict[str, Any]:
    if (path / PIPELINE).is_file():
        return {"kind": "pipeline", **_pipeline(path / PIPELINE)}
    if (path / DATASET).is_file():
        return {"kind": "dataset", **_dataset(path / DATASET)}
    raise FormatError(f"folder `{path}` holds neither {DATASET} nor {PIPELINE}, so it is no dataset and no pipeline")


def _pipeline(path: Path) -> dict[str, Any]:
    """The record of a pipeline: how it was trained where it is our own, where it comes from where it is not."""
    from patchloom.pipelines.record import PipelineRecord

    facts = records.dump(records.read_json(PipelineRecord, path))
    foreign = facts["source"] is not None
    return {key: value for key, value in facts.items() if key != ("training" if foreign else "source")}


def _dataset(path: Path) -> dict[str, Any]:
    """The record of a dataset, its plots counted instead of listed. The record's own class needs torch."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        plots = Counter(plot["split"] for plot in values.pop("plots"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError(f"`{path}` is no record of a dataset: {error!r}") from None
    return {**values, "plots": dict(plots)}
