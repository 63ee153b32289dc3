"""What a grid was embedded from."""

from __future__ import annotations

from dataclasses import dataclass

from patchloom.errors import InputError
from patchloom.geometry import PixelSize


@dataclass(frozen=True, slots=True)
class Reference:
    """A slide, raster or picture, at its level 0: named and measured, never opened. Raises InputError without area."""

    name: str  # file name without folders
    height: int  # level-0 pixels
    width: int
    pixel_size: PixelSize | None = None  # of level 0
    crs: str | None = None  # WKT or an authority's code, such as EPSG:32633
    # x = a * column + b * row + c and y = d * column + e * row + f, as (a, b, c, d, e, f), of level-0 corners
    transform: tuple[float, float, float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.height <= 0 or self.width <= 0:
            raise InputError(f"reference `{self.name}` has no area: {self.width} x {self.height} px")
