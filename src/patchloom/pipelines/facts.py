"""What any file or folder is that Patchloom reads or writes, as plain values. No torch: `patchloom info` shows them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from patchloom import records
from patchloom.errors import FormatError, MissingError
from patchloom.pipelines.record import RECORD, PipelineRecord

DATASET = "dataset.json"


def facts_of(path: Path) -> dict[str, Any]:
    """Its `kind` (slide, output, grid, features, pipeline or dataset) and what it states, as values that JSON holds.

    A suffix `_px` or `_m` of a key is the unit; sizes are (height, width). Nothing but headers is read. Raises
    MissingError, FormatError where it is none of these, and DependencyError for HDF5 without h5py.
    """
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
    try:
        facts = describe_raster(path)
    except FormatError as error:
        raise FormatError(f"{error}; nor is it a grid, or a feature file of CLAM, TRIDENT or STAMP") from None
    return {"kind": "slide" if facts["provenance"] is None else "output", **facts}


def _folder(path: Path) -> dict[str, Any]:
    if (path / RECORD).is_file():
        return {"kind": "pipeline", **_pipeline(path / RECORD)}
    if (path / DATASET).is_file():
        return {"kind": "dataset", **_dataset(path / DATASET)}
    raise FormatError(f"folder `{path}` holds neither {DATASET} nor {RECORD}, so it is no dataset and no pipeline")


def _pipeline(path: Path) -> dict[str, Any]:
    """The record of a pipeline: how it was trained where it is our own, where it comes from where it is not."""
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
