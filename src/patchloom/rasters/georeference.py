"""Where a raster lies on Earth, and how long its pixels are on the ground."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, hypot, radians, sin, sqrt
from typing import Any

from patchloom.errors import GeometryError
from patchloom.geometry import Box, PixelSize

Transform = tuple[float, float, float, float, float, float]

_EQUATOR_M = 6_378_137.0  # semi-major axis of WGS 84
_ECCENTRICITY2 = 0.00669437999014


@dataclass(frozen=True, slots=True)
class GeoReference:
    """A coordinate reference system and the affine transform of pixel corners into it.

    `transform` is in rasterio's order: x = a col + b row + c and y = d col + e row + f.
    `crs` is WKT, and empty where the file has a transform but names no system.
    """

    crs: str
    transform: Transform

    def cropped(self, box: Box) -> GeoReference:
        """The georeference of the part of the raster under `box`."""
        a, b, c, d, e, f = self.transform
        moved = (a, b, c + a * box.x + b * box.y, d, e, f + d * box.x + e * box.y)
        return GeoReference(self.crs, moved)

    def rescaled(self, factor: float) -> GeoReference:
        """The same corner with pixels `factor` times as long. Raises GeometryError for a factor not above 0."""
        if factor <= 0:
            raise GeometryError(f"a georeference cannot be scaled by {factor}; the factor must be positive")
        a, b, c, d, e, f = self.transform
        return GeoReference(self.crs, (a * factor, b * factor, c, d * factor, e * factor, f))

    def at(self, row: float, col: float) -> tuple[float, float]:
        """(x, y) in the reference system of a place in pixels; (0, 0) is the first pixel's outer corner."""
        a, b, c, d, e, f = self.transform
        return a * col + b * row + c, d * col + e * row + f


def ground_pixel_size(crs: Any, transform: Transform, height: int, width: int) -> PixelSize | None:
    """Length of a pixel's side on the ground, in the middle of the raster: the root of the pixel's area.

    `crs` is a rasterio CRS. Projected systems count in their own unit; degrees and Mercator, whose unit
    is not a length on the ground, are measured on the WGS 84 ellipsoid at the raster's latitude.
    None where the system is not known or local (engineering).
    """
    if crs is None or not (crs.is_geographic or crs.is_projected):
        return None
    a, b, _, d, e, _ = transform
    if crs.is_projected and not _is_mercator(crs):
        unit = float(crs.linear_units_factor[1])
        return _root(abs(a * e - b * d) * unit * unit)
    return _root(_area_on_ellipsoid(crs, GeoReference("", transform), height / 2, width / 2))


def _root(area: float) -> PixelSize | None:
    return PixelSize(sqrt(area)) if area > 0 else None


def _is_mercator(crs: Any) -> bool:
    method = crs.to_dict(projjson=True).get("conversion", {}).get("method", {}).get("name", "")
    return str(method).startswith(("Mercator", "Popular Visualisation Pseudo Mercator"))


def _area_on_ellipsoid(crs: Any, geo: GeoReference, row: float, col: float) -> float:
    """Square metres of the pixel around (row, col), from its two half axes in longitude and latitude."""
    from rasterio.warp import transform as project

    places = [geo.at(row, col - 0.5), geo.at(row, col + 0.5), geo.at(row - 0.5, col), geo.at(row + 0.5, col)]
    lon, lat = project(crs, "EPSG:4326", [x for x, _ in places], [y for _, y in places])
    middle = radians(sum(lat) / 4)
    bend = 1 - _ECCENTRICITY2 * sin(middle) ** 2
    east = radians(1) * _EQUATOR_M / sqrt(bend) * cos(middle)  # metres a degree, along the parallel
    north = radians(1) * _EQUATOR_M * (1 - _ECCENTRICITY2) / bend**1.5  # along the meridian
    across = hypot((lon[1] - lon[0]) * east, (lat[1] - lat[0]) * north)
    down = hypot((lon[3] - lon[2]) * east, (lat[3] - lat[2]) * north)
    return across * down
