"""From pixels to an embedding grid: cells are read band by band and encoded in batches of one shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.encoders.encoder import Encoder
from patchloom.errors import GeometryError, InputError
from patchloom.fields.field import Field
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.reference import Reference

UInt8 = NDArray[np.uint8]
Advance = Callable[[int, int], None]  # (done, total) cells
Precision = Literal["float16", "float32"]

BATCH = 32


def embed(
    field: Field,
    encoder: Encoder,
    *,
    cell_px: int,
    stride_px: int,
    valid: NDArray[np.bool_],
    batch: int = BATCH,
    precision: Precision = "float16",
    origin: tuple[float, float] = (0.0, 0.0),
    pixel_size: PixelSize | None = None,
    reference: Reference | None = None,
    progress: Advance | None = None,
) -> EmbeddingGrid:
    """The embedding grid of a field of uint8 RGB pixels: its canvas is the field's frame.

    `valid` (rows, cols) says which cells to encode; cell (row, col) has its corner at (row, col) * stride_px, and every
    valid cell lies inside the frame. Each pixel row is read once, however much the cells overlap, and no more than a
    band of `cell_px` rows is held. `batch` is the one shape that the network sees: an embedding does not depend on
    which other cells are valid. `origin` and `reference` are recorded as `EmbeddingGrid` tells; `pixel_size` is needed
    where the field does not know its own. Raises InputError or GeometryError where the parts do not fit.
    """
    size = pixel_size or field.frame.pixel_size
    if size is None:
        raise InputError("the pixel size of the field is not known; say it: pixel_size=PixelSize.parse('0.5um')")
    check_cells(field, valid, cell_px, stride_px)
    _check_batch(batch)
    embeddings = np.zeros((*valid.shape, encoder.spec.dim), precision)
    total, done = int(valid.sum()), 0
    cells = cells_of(field, valid, cell_px, stride_px)
    while some := list(islice(cells, batch)):
        rows, cols, pictures = zip(*some, strict=True)
        embeddings[rows, cols] = encode(encoder, np.stack(pictures), batch)
        done += len(some)
        if progress is not None:
            progress(done, total)
    canvas = (field.frame.height, field.frame.width)
    return EmbeddingGrid(embeddings, valid, cell_px, stride_px, origin, canvas, size, encoder.spec, reference)


def encode(encoder: Encoder, pictures: UInt8, batch: int = BATCH) -> NDArray[np.float32]:
    """Embeddings (n, dim) of n pictures (n, 3, h, h), always in batches of `batch`.

    Convolution libraries give other bits for another batch size, so the last batch is filled up with black pictures
    and its surplus dropped.
    """
    _check_batch(batch)
    parts = [np.zeros((0, encoder.spec.dim), np.float32)]
    for start in range(0, len(pictures), batch):
        some = pictures[start : start + batch]
        full = np.zeros((batch, *pictures.shape[1:]), pictures.dtype)
        full[: len(some)] = some
        parts.append(encoder(torch.from_numpy(full))[: len(some)].float().cpu().numpy())
    return np.concatenate(parts)


def check_cells(field: Field, valid: NDArray[Any], cell_px: int, stride_px: int) -> None:
    """Raise InputError or GeometryError unless the valid cells can be cut from the field's RGB pixels."""
    frame = field.frame
    if (frame.channels, frame.dtype) != (3, "uint8"):
        raise InputError(f"an encoder sees 3 channels of uint8, the field has {frame.channels} of {frame.dtype}")
    if cell_px <= 0 or stride_px <= 0:
        raise InputError(f"cells of {cell_px} px, {stride_px} px apart: both must be positive")
    if valid.dtype != np.bool_ or valid.ndim != 2:
        raise InputError(f"valid must be bool (rows, cols), found {valid.dtype} of shape {valid.shape}")
    if not valid.any():
        raise InputError("no cell is valid: the region is background only, or holds no data; choose another region")
    height, width = (int(last) * stride_px + cell_px for last in np.argwhere(valid).max(axis=0))
    if height > frame.height or width > frame.width:
        raise GeometryError(
            f"cells of {cell_px} px, {stride_px} px apart, reach to {height} x {width} px, beyond the region of "
            f"{frame.height} x {frame.width} px (height x width)"
        )


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise InputError(f"a batch holds at least one picture, not {batch}")


def cells_of(field: Field, valid: NDArray[np.bool_], cell_px: int, stride_px: int) -> Iterator[tuple[int, int, UInt8]]:
    """(row, col, pixels (3, cell_px, cell_px)) of the valid cells, row by row. The pixels are views: use or copy."""
    for row, left, band in _bands(field, valid, cell_px, stride_px):
        for col in np.flatnonzero(valid[row]):
            start = int(col) * stride_px - left
            yield row, int(col), band[:, :, start : start + cell_px]


def _bands(field: Field, valid: NDArray[np.bool_], cell_px: int, stride_px: int) -> Iterable[tuple[int, int, UInt8]]:
    """Of each row with a valid cell: its number, the column of its first pixel, its (3, cell_px, width) pixels."""
    cols = np.flatnonzero(valid.any(axis=0))
    left, right = int(cols[0]) * stride_px, int(cols[-1]) * stride_px + cell_px
    held, band = Box(0, left, 0, right - left), np.zeros((3, 0, right - left), np.uint8)
    for row in np.flatnonzero(valid.any(axis=1)):
        box = Box(int(row) * stride_px, left, cell_px, right - left)
        first = max(box.y, held.stop_y)
        fresh = field.read(Box(first, left, box.stop_y - first, box.width))
        band = np.concatenate([band[:, band.shape[1] - (first - box.y) :], fresh], axis=1) if first > box.y else fresh
        held = box
        yield int(row), left, band
