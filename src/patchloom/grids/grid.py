"""The embedding grid: what a large image should show, cell by cell."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import GeometryError, InputError, MismatchError
from patchloom.geometry import Box, PixelSize
from patchloom.grids.content import GridHeader, content
from patchloom.grids.reference import Reference
from patchloom.grids.spec import EncoderSpec


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingGrid:
    """Embeddings of square cells on a lattice, and where the cells lie.

    The canvas is the image that the grid describes; cell (row, col) covers the square of `cell_px` whose corner is
    (row * stride_px, col * stride_px) of the canvas. Canvas and cells are counted in pixels of `pixel_size`. `origin`
    is where the canvas' corner lies in the reference, counted in the same pixels from the reference's corner; it is
    whole unless the reference had to be resampled. Invalid cells are background, or places no source covers: their
    values mean nothing.

    Two grids are the same where their digests are. Raises InputError (or a kind of it) where the parts do not fit.
    """

    embeddings: NDArray[np.floating[Any]]  # (rows, cols, dim), float16 or float32; may be mapped from disk
    valid: NDArray[np.bool_]  # (rows, cols)
    cell_px: int  # field of view of the encoder
    stride_px: int  # from one cell to the next; below cell_px the cells overlap
    origin: tuple[float, float]  # y, x
    canvas: tuple[int, int]  # height, width
    pixel_size: PixelSize
    encoder: EncoderSpec
    reference: Reference | None = None

    def __post_init__(self) -> None:
        _check_arrays(self.embeddings, self.valid, self.encoder)
        if self.cell_px <= 0 or self.stride_px <= 0:
            raise InputError(f"cells of {self.cell_px} px, {self.stride_px} px apart: both must be positive")
        reach = ((self.rows - 1) * self.stride_px, (self.cols - 1) * self.stride_px)
        if reach[0] >= self.canvas[0] or reach[1] >= self.canvas[1]:
            raise GeometryError(
                f"{self.rows} x {self.cols} cells, {self.stride_px} px apart, leave a canvas of "
                f"{self.canvas[0]} x {self.canvas[1]} px (height x width)"
            )
        _check_finite(self.embeddings, self.valid)

    @property
    def rows(self) -> int:
        """Cells from top to bottom."""
        return int(self.embeddings.shape[0])

    @property
    def cols(self) -> int:
        """Cells from left to right."""
        return int(self.embeddings.shape[1])

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self.embeddings.shape[2])

    @property
    def header(self) -> GridHeader:
        """Everything but the arrays."""
        return GridHeader(
            self.cell_px, self.stride_px, self.origin, self.canvas, self.pixel_size, self.encoder, self.reference
        )

    def cell_box(self, row: int, col: int) -> Box:
        """The pixels of the canvas that a cell's embedding describes."""
        return Box(row * self.stride_px, col * self.stride_px, self.cell_px, self.cell_px)

    def digest(self) -> str:
        """`sha256:` and the 64 hex digits that `sha256sum` prints for the grid's file."""
        sha = hashlib.sha256()
        for piece in content(self.header, self.embeddings, self.valid):
            sha.update(piece)
        return f"sha256:{sha.hexdigest()}"

    def cropped(self, cells: Box) -> EmbeddingGrid:
        """The grid of a box of cells, on the canvas that those cells cover.

        Raises GeometryError where the box leaves the grid, InputError where it holds no valid cell.
        """
        rows, cols = cells.inside(Box(0, 0, self.rows, self.cols))
        if cells.area == 0:
            raise GeometryError(f"{cells} holds no cell")
        top, left = cells.y * self.stride_px, cells.x * self.stride_px
        height = _extent(cells.height, cells.stop_y == self.rows, self.canvas[0] - top, self)
        width = _extent(cells.width, cells.stop_x == self.cols, self.canvas[1] - left, self)
        return replace(
            self,
            embeddings=self.embeddings[rows, cols],
            valid=self.valid[rows, cols],
            origin=(self.origin[0] + top, self.origin[1] + left),
            canvas=(height, width),
        )

    def subsampled(self, step: int) -> EmbeddingGrid:
        """Every step-th cell of every step-th row, on the same canvas: a larger stride."""
        if step < 1:
            raise InputError(f"a grid is subsampled by a whole step of at least 1, not {step}")
        return replace(
            self,
            embeddings=self.embeddings[::step, ::step],
            valid=self.valid[::step, ::step],
            stride_px=self.stride_px * step,
        )

    def shuffled(self, seed: int) -> EmbeddingGrid:
        """The same embeddings in other valid cells: the floor of every measure of likeness to the layout."""
        place = np.argwhere(self.valid)
        source = place[np.random.Generator(np.random.PCG64(seed)).permutation(len(place))]
        embeddings = np.array(self.embeddings)
        embeddings[tuple(place.T)] = self.embeddings[tuple(source.T)]
        return replace(self, embeddings=embeddings)


def _extent(cells: int, to_the_end: bool, rest: int, grid: EmbeddingGrid) -> int:
    """Canvas along an axis under some cells: up to the canvas' own end where the last cell is among them."""
    return rest if to_the_end else min((cells - 1) * grid.stride_px + grid.cell_px, rest)


def _check_arrays(embeddings: NDArray[Any], valid: NDArray[Any], encoder: EncoderSpec) -> None:
    if embeddings.ndim != 3 or 0 in embeddings.shape:
        raise InputError(f"embeddings are (rows, cols, dim) and not empty; found an array of shape {embeddings.shape}")
    if embeddings.dtype.name not in ("float16", "float32"):
        raise InputError(f"embeddings are float16 or float32, not {embeddings.dtype}")
    if valid.dtype != np.bool_ or valid.shape != embeddings.shape[:2]:
        raise InputError(
            f"valid must be bool of shape {embeddings.shape[:2]}, found {valid.dtype} of shape {valid.shape}"
        )
    if embeddings.shape[2] != encoder.dim:
        raise MismatchError(
            f"embeddings are {embeddings.shape[2]}-d, but encoder `{encoder.name}` gives {encoder.dim}-d ones"
        )
    if not valid.any():
        raise InputError("the grid has no valid cell: its source is background only, or the wrong region was chosen")


def _check_finite(embeddings: NDArray[Any], valid: NDArray[np.bool_]) -> None:
    # Row by row, so that a grid mapped from disk is never in memory as a whole.
    for number, (row, keep) in enumerate(zip(embeddings, valid, strict=True)):
        bad = keep & ~np.isfinite(row).all(axis=1)
        if bad.any():
            more = int(bad.sum()) - 1
            raise InputError(
                f"the embedding of cell (row {number}, column {int(bad.argmax())}) holds NaN or infinity"
                f"{f', and so do {more} more of that row' if more else ''}; mark such cells invalid, or embed again"
            )
