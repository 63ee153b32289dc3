"""The field's own feature files, CLAM, TRIDENT and STAMP, as grids and from grids; `layouts` tells what each holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import FormatError, InputError
from patchloom.geometry import PixelSize
from patchloom.grids import layouts
from patchloom.grids.feature_records import LAYOUTS
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.hdf5 import FeatureFile, need_h5py, read_facts, read_hdf5
from patchloom.grids.layouts import Layout, Patches, patches_of, recorded_reference, unknown_encoder
from patchloom.grids.placement import Placement, place
from patchloom.grids.reference import Reference
from patchloom.grids.spec import EncoderSpec
from patchloom.whole import whole_file

Float = NDArray[np.float64]

_SCALE_TOLERANCE = 0.01  # tools round patches to whole pixels; more than this is another patch


def read_features(
    path: str | os.PathLike[str],
    *,
    pixel_size: PixelSize | None = None,
    patch_px: int | None = None,
    encoder: EncoderSpec | None = None,
    reference: Reference | None = None,
    tolerance: float = 0.01,
    timeout_s: float = 600.0,
    max_bytes: int = 1 << 33,
) -> EmbeddingGrid:
    """Read a CLAM, TRIDENT or STAMP feature file as a grid; missing cells are invalid.

    `pixel_size` is that of the slide's level 0, which CLAM and TRIDENT do not record. `patch_px` is a patch's side in
    level-0 pixels, needed only where the file does not say. The files do not say which weights made them: without
    `encoder` the grid carries an unknown one, which no pipeline accepts. The canvas begins at the first cell and ends
    with the last. `tolerance` is how far a patch may lie off the lattice, in strides: CLAM begins a lattice anew at
    each piece of tissue, and 0.5 moves every patch to its nearest cell (the nearer of two wins).

    The file is parsed in a process of its own. Raises MissingError; DependencyError without h5py; InputError where
    something must be said that the file leaves out; FormatError for all else.
    """
    source = Path(path)
    file = read_hdf5(source, timeout_s=timeout_s, max_bytes=max_bytes)
    try:
        return grid_of(
            file,
            source.stem,
            pixel_size=pixel_size,
            patch_px=patch_px,
            encoder=encoder,
            reference=reference,
            tolerance=tolerance,
            max_bytes=max_bytes,
        )
    except InputError as error:
        raise type(error)(f"`{path}`: {error}") from None


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a feature file is, as plain values, from its header alone. Raises as `read_features` does."""
    facts = read_facts(Path(path))
    try:
        return layouts.describe(facts)
    except InputError as error:
        raise type(error)(f"`{path}`: {error}") from None


def write_features(grid: EmbeddingGrid, path: str | os.PathLike[str], layout: Layout) -> None:
    """Write the valid cells, row by row, as a feature file that CLAM, TRIDENT or STAMP read; equal grids, equal bytes.

    Corners are rounded to whole level-0 pixels for CLAM and TRIDENT, as those do. Without a reference of known pixel
    size the grid's own pixels count as level 0. Raises InputError for another layout; DependencyError without h5py;
    MissingError where the folder is not there; CapacityError where the disk is full.
    """
    if layout not in LAYOUTS:
        raise InputError(f"there is no feature layout `{layout}`; known are {', '.join(LAYOUTS)}")
    need_h5py()
    import h5py

    record = LAYOUTS[layout](grid, Path(path).stem)
    needed = sum(array.nbytes for array in record.arrays.values())
    with whole_file(Path(path), lambda: f"it needs {needed:,} bytes") as part, h5py.File(part, "w") as file:
        for name, array in record.arrays.items():
            data = file.create_dataset(name, data=array)
            data.attrs.update(record.attributes.get(name, {}))
        file.attrs.update(record.attributes.get("", {}))


def grid_of(
    file: FeatureFile,
    name: str,
    *,
    pixel_size: PixelSize | None,
    patch_px: int | None,
    encoder: EncoderSpec | None,
    reference: Reference | None,
    tolerance: float,
    max_bytes: int,
) -> EmbeddingGrid:
    """The grid of what a feature file holds; arguments as in `read_features`."""
    patches = patches_of(file, pixel_size, patch_px)
    corners = _corners(file)
    found = place(corners, patch=patches.side, stride=patches.stride, tolerance=tolerance)
    stride_px, scale = _pixels(patches, found.stride)
    embeddings, valid = _filled(file, found, corners, max_bytes)
    rows, cols = found.shape
    return EmbeddingGrid(
        embeddings,
        valid,
        patches.side_px,
        stride_px,
        (found.origin[0] / scale, found.origin[1] / scale),
        ((rows - 1) * stride_px + patches.side_px, (cols - 1) * stride_px + patches.side_px),
        PixelSize(patches.unit_m * scale),
        encoder or unknown_encoder(file, patches.side_px),
        reference or recorded_reference(file, name, pixel_size),
    )


def _corners(file: FeatureFile) -> Float:
    """(n, 2), y before x."""
    corners = file.coords[:, ::-1].astype(np.float64)
    if not (np.isfinite(corners).all() and (np.abs(corners) < 2**40).all()):
        raise FormatError("its coordinates hold NaN, infinity or numbers that no slide has")
    return corners


def _pixels(patches: Patches, stride: float) -> tuple[int, float]:
    """The stride in whole pixels of the patch, and the units in such a pixel that make it so."""
    if patches.stride is not None and abs(stride / patches.stride - 1) > _SCALE_TOLERANCE:
        raise FormatError(
            f"its patches lie {stride:g} units apart, but its attributes say {patches.stride:g}: "
            f"is it a {patches.layout.upper()} file?"
        )
    stride_px = patches.stride_px or max(round(stride / patches.scale), 1)
    scale = stride / stride_px
    if abs(scale / patches.scale - 1) > _SCALE_TOLERANCE:
        raise InputError(
            f"patches lie {stride:g} units apart, which is {stride / patches.scale:.2f} pixels of a patch of "
            f"{patches.side_px} px over {patches.side:g} units: not a whole number"
        )
    return stride_px, scale


def _filled(
    file: FeatureFile, found: Placement, corners: Float, max_bytes: int
) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    rows, cols = found.shape
    dim = file.features.shape[1]
    if rows * cols * dim * file.features.dtype.itemsize > max_bytes:
        raise FormatError(
            f"its {len(corners)} patches lie in {rows} x {cols} cells, which is over the limit of {max_bytes:,} bytes; "
            "a coordinate is wrong, or patch_px and the true stride differ"
        )
    keep = _nearest(found, corners)
    embeddings = np.zeros((rows, cols, dim), file.features.dtype)
    valid = np.zeros((rows, cols), np.bool_)
    cells = tuple(found.cells[keep].T)
    embeddings[cells] = file.features[keep]
    valid[cells] = True
    return embeddings, valid


def _nearest(found: Placement, corners: Float) -> NDArray[np.intp]:
    """Of the patches that fall into one cell, the one that lies best. FormatError names one that is there twice."""
    if len(np.unique(corners, axis=0)) != len(corners):
        values, counts = np.unique(corners, axis=0, return_counts=True)
        y, x = values[counts.argmax()]
        raise FormatError(f"it holds the patch at (x, y) = ({x:g}, {y:g}) {counts.max()} times")
    best_first = np.argsort(found.off, kind="stable")
    _, first = np.unique(found.cells[best_first], axis=0, return_index=True)
    return best_first[first]
