"""A grid as the arrays and attributes of the field's feature files; `layouts` tells what each holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.grids.grid import EmbeddingGrid

_OBJECTIVE_M = 10e-6  # an objective of 20x means about 0.5 um a pixel


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRecord:
    """What is written: arrays by dataset, attributes by dataset (those of the file itself under "")."""

    arrays: dict[str, NDArray[Any]]
    attributes: dict[str, dict[str, Any]]


def clam_record(grid: EmbeddingGrid, name: str) -> FeatureRecord:
    """As `create_patches_fp` and `extract_features_fp` leave them together, from level 0 and float32.

    `custom_downsample` is what older CLAM wrote where patches were shrunk after reading.
    """
    scale = _level0_scale(grid)
    coords = {"patch_size": grid.cell_px, "patch_level": 0, "downsample": (1.0, 1.0), "name": _name(grid, name)}
    if scale != 1:
        coords["custom_downsample"] = scale
    if grid.reference is not None:
        coords["level_dim"] = (grid.reference.width, grid.reference.height)
    arrays = {"features": _rows(grid).astype(np.float32), "coords": _level0_corners(grid).astype(np.int32)}
    return FeatureRecord(arrays, {"coords": coords})


def trident_record(grid: EmbeddingGrid, name: str) -> FeatureRecord:
    """As TRIDENT's patch encoders leave them. Its magnifications are whole numbers, rounded from the pixel sizes."""
    scale = _level0_scale(grid)
    coords = {
        "patch_size": grid.cell_px,
        "patch_size_level0": round(grid.cell_px * scale),
        "level0_magnification": _magnification(grid.pixel_size.metres / scale),
        "target_magnification": _magnification(grid.pixel_size.metres),
        "overlap": grid.cell_px - grid.stride_px,
        "name": _name(grid, name),
        "savetodir": "",
    }
    if grid.reference is not None:
        coords |= {"level0_width": grid.reference.width, "level0_height": grid.reference.height}
    features = {"name": _name(grid, name), "savetodir": ""}
    arrays = {"features": _rows(grid), "coords": _level0_corners(grid)}
    return FeatureRecord(arrays, {"features": features, "coords": coords})


def stamp_record(grid: EmbeddingGrid, _name: str) -> FeatureRecord:
    """As STAMP 2.1 preprocesses, in micrometres. STAMP knows no overlap: tiles may lie closer than their size."""
    pixel_um = grid.pixel_size.metres * 1e6
    told = {
        "extractor": grid.encoder.name,
        "unit": "um",
        "tile_size_um": grid.cell_px * pixel_um,
        "tile_size_px": grid.cell_px,
        "feat_type": "tile",
    }
    return FeatureRecord({"feats": _rows(grid), "coords": (_corners(grid) * pixel_um).astype(np.float32)}, {"": told})


LAYOUTS: dict[str, Callable[[EmbeddingGrid, str], FeatureRecord]] = {
    "clam": clam_record,
    "trident": trident_record,
    "stamp": stamp_record,
}


def _rows(grid: EmbeddingGrid) -> NDArray[np.floating[Any]]:
    """(n, dim) embeddings of the valid cells, row by row."""
    return np.asarray(grid.embeddings)[grid.valid]


def _corners(grid: EmbeddingGrid) -> NDArray[np.float64]:
    """(n, 2) corners of the valid cells in the reference, x before y, in the grid's pixels."""
    corners: NDArray[np.float64] = np.argwhere(grid.valid)[:, ::-1] * grid.stride_px + np.array(grid.origin[::-1])
    return corners


def _level0_corners(grid: EmbeddingGrid) -> NDArray[np.int64]:
    return np.rint(_corners(grid) * _level0_scale(grid)).astype(np.int64)


def _level0_scale(grid: EmbeddingGrid) -> float:
    """Level-0 pixels in one of the grid's."""
    known = grid.reference is not None and grid.reference.pixel_size
    return grid.pixel_size.ratio(known) if known else 1.0


def _magnification(metres: float) -> int:
    return max(round(_OBJECTIVE_M / metres), 1)


def _name(grid: EmbeddingGrid, name: str) -> str:
    return name if grid.reference is None else grid.reference.name.rsplit(".", 1)[0]
