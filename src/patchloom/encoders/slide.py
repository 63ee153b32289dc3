"""From a slide, GeoTIFF or plain picture of any size to its embedding grid."""

from __future__ import annotations

from math import ceil, floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from patchloom.encoders.embed import BATCH, Advance, Precision, embed
from patchloom.encoders.encoder import Encoder
from patchloom.errors import GeometryError, InputError
from patchloom.fields.field import Cropped
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.reference import Reference
from patchloom.rasters.cells import CellLattice, Mode, cell_lattice, valid_cells
from patchloom.rasters.opening import open_raster
from patchloom.rasters.raster import Raster, require_pixel_size
from patchloom.rasters.rescaled import Rescaled

CELL_PX = 256
MIN_VALID = 0.3


def embed_slide(
    path: str | Path,
    encoder: Encoder,
    *,
    pixel_size: PixelSize | None = None,
    slide_pixel_size: PixelSize | None = None,
    cell_px: int = CELL_PX,
    stride_px: int | None = None,
    region: Box | None = None,
    mode: Mode = "auto",
    min_valid: float = MIN_VALID,
    batch: int = BATCH,
    precision: Precision = "float16",
    progress: Advance | None = None,
) -> EmbeddingGrid:
    """Open a file, read it by region and embed the cells that hold tissue, or data.

    The file is resampled to `pixel_size` (its own, where None); `slide_pixel_size` says how long its pixels are where
    the file does not, or is wrong. `region` is in level-0 pixels. Cells of `cell_px` lie `stride_px` apart (their own
    side, where None); those with a valid share of at least `min_valid` are encoded, `mode` as in `valid_cells`.
    Raises what `open_raster` raises, InputError where nothing is valid, GeometryError for a region outside the slide.
    """
    with open_raster(path, slide_pixel_size) as raster:
        slide = Rescaled(raster, pixel_size or require_pixel_size(raster))
        box = slide.frame.box if region is None else region_at(raster, region, slide.ratio)
        lattice = cell_lattice(slide, cell_px, stride_px or cell_px, box)
        return embed(
            Cropped(slide, box),
            encoder,
            cell_px=cell_px,
            stride_px=lattice.stride_px,
            valid=_enough(slide, lattice, mode, min_valid),
            batch=batch,
            precision=precision,
            origin=(float(box.y), float(box.x)),
            reference=reference_of(raster),
            progress=progress,
        )


def reference_of(raster: Raster) -> Reference:
    """What a grid remembers of the raster that it was embedded from."""
    geo = raster.geo
    return Reference(
        raster.name,
        raster.frame.height,
        raster.frame.width,
        raster.frame.pixel_size,
        geo.crs if geo else None,
        geo.transform if geo else None,
    )


def region_at(raster: Raster, region: Box, ratio: float) -> Box:
    """A region of level 0 in pixels `ratio` times as long: the whole pixels that lie inside it.

    Raises GeometryError where it leaves the raster, or is smaller than a pixel.
    """
    if not raster.frame.box.contains(region):
        raise GeometryError(
            f"region {region.x},{region.y},{region.width},{region.height} (x, y, width, height) does not lie inside "
            f"`{raster.name}`, which is {raster.frame.width} x {raster.frame.height} px"
        )
    top, left = (ceil(start / ratio - 1e-6) for start in (region.y, region.x))
    bottom, right = (floor(stop / ratio + 1e-6) for stop in (region.stop_y, region.stop_x))
    if bottom <= top or right <= left:
        raise GeometryError(f"{region} is smaller than a pixel of the grid, {ratio:g} pixels of `{raster.name}`")
    return Box(top, left, bottom - top, right - left)


def _enough(slide: Rescaled, lattice: CellLattice, mode: Mode, min_valid: float) -> NDArray[np.bool_]:
    if not 0 <= min_valid <= 1:
        raise InputError(f"the least valid share of a cell is between 0 and 1, not {min_valid}")
    share = valid_cells(slide, lattice, mode)
    enough = share >= min_valid
    if not enough.any():
        raise InputError(
            f"no cell of `{slide.name}` is valid: the best of {share.size} holds {share.max():.0%} of tissue or data, "
            f"and at least {min_valid:.0%} is asked for; choose another region, or lower the share"
        )
    return enough
