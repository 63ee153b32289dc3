"""Slides, GeoTIFFs and plain pictures, read by region and never whole in memory."""

from patchloom.rasters.cells import CellLattice, cell_lattice, valid_cells
from patchloom.rasters.describe import describe, doubts
from patchloom.rasters.georeference import GeoReference
from patchloom.rasters.opening import open_raster
from patchloom.rasters.raster import Raster, Slide, require_pixel_size
from patchloom.rasters.rescaled import Rescaled

__all__ = [
    "CellLattice",
    "GeoReference",
    "Raster",
    "Rescaled",
    "Slide",
    "cell_lattice",
    "describe",
    "doubts",
    "open_raster",
    "require_pixel_size",
    "valid_cells",
]
