"""Small pictures joined into one: a field whose squares are the middles of as many files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchloom.errors import GeometryError, InputError
from patchloom.geometry import Box, Frame, PixelSize
from patchloom.rasters.opening import open_raster
from patchloom.rasters.raster import require_pixel_size
from patchloom.rasters.rescaled import Rescaled
from patchloom.rasters.source import UInt8


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Squares of `side_px` from the middles of files, row by row: a field of RGB at `pixel_size`.

    A file is opened when its square is read. Cells whose side divides `side_px`, a side apart, lie in one file each.
    Raises GeometryError for squares or rows without extent, InputError where the files do not fill the last row.
    """

    paths: tuple[Path, ...]
    columns: int
    side_px: int
    pixel_size: PixelSize
    own: PixelSize | None = None  # of the files, where they do not say it or are wrong

    def __post_init__(self) -> None:
        if self.side_px < 1 or self.columns < 1:
            raise GeometryError(f"{self.columns} columns of squares of {self.side_px} px: both must be at least 1")
        if not self.paths or len(self.paths) % self.columns:
            raise InputError(
                f"{len(self.paths)} pictures do not fill rows of {self.columns}: add some, leave some out, or choose "
                "another number of columns"
            )

    @property
    def frame(self) -> Frame:
        """Rows times columns of squares."""
        rows = len(self.paths) // self.columns
        return Frame(rows * self.side_px, self.columns * self.side_px, 3, "uint8", self.pixel_size)

    def read(self, box: Box) -> UInt8:
        """The (3, h, w) RGB pixels of a box.

        Raises GeometryError where it leaves the mosaic or a file is smaller than its square, and what opening raises.
        """
        box.inside(self.frame.box)
        made = np.empty((3, *box.shape), np.uint8)
        for number, path in enumerate(self.paths):
            row, col = divmod(number, self.columns)
            square = Box(row * self.side_px, col * self.side_px, self.side_px, self.side_px)
            part = square.meet(box)
            if part.area:
                made[:, *part.inside(box)] = self._part(path, part.moved(-square.y, -square.x))
        return made

    def _part(self, path: Path, part: Box) -> UInt8:
        with open_raster(path, self.own) as raster:
            slide = Rescaled(raster, self.pixel_size)
            spare = [side - self.side_px for side in slide.frame.box.shape]
            if min(spare) < 0:
                raise GeometryError(
                    f"`{path}` is {slide.frame.width} x {slide.frame.height} px at {self.pixel_size}, smaller than a "
                    f"square of {self.side_px} px; leave it out, or choose smaller squares"
                )
            return slide.read(part.moved(spare[0] // 2, spare[1] // 2))


def mosaic(
    paths: list[Path],
    *,
    columns: int | None = None,
    side_px: int = 256,
    pixel_size: PixelSize | None = None,
    own: PixelSize | None = None,
) -> Mosaic:
    """The mosaic of files, as nearly square as their number allows where `columns` is None.

    It has the first file's pixel size where none is given. Raises InputError without files, and what
    `Mosaic` and opening the first file raise.
    """
    if not paths:
        raise InputError("a mosaic needs at least one picture")
    if pixel_size is None:
        with open_raster(paths[0], own) as first:
            pixel_size = require_pixel_size(first)
    return Mosaic(tuple(paths), columns or _columns(len(paths)), side_px, pixel_size, own)


def _columns(count: int) -> int:
    """The least divisor that is not below the square root: 12 pictures in 3 rows of 4."""
    return next(columns for columns in range(1, count + 1) if count % columns == 0 and columns**2 >= count)
