"""The seam meter: do pictures change more across the engine's borders than elsewhere?

Mean absolute difference across border lines over that across other lines *of the same phase* modulo the downsample
factor, because a decoder has a period of its own that is no seam. Real images give 1.00. It works on latents (factor 1)
and on lossless pixels, reads any field by bands, and holds no more than one band in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import GeometryError, InputError
from patchloom.evaluation.estimates import Absent, Estimate
from patchloom.evaluation.intervals import LEVEL, REPEATS, centred
from patchloom.evaluation.matrices import Matrix
from patchloom.fields.field import Field
from patchloom.geometry import Box, Lattice, Span

TILES = 12  # tiles along the longer side: the units of the interval
FEW_TILES = 8
PERIODS = 4  # a tile holds at least so many lines of each phase


@dataclass(frozen=True, slots=True)
class Borders:
    """Lines between pixels: border y lies between rows y - 1 and y, border x between columns x - 1 and x."""

    rows: frozenset[int]
    cols: frozenset[int]

    @classmethod
    def of(cls, lattice: Lattice) -> Borders:
        """Where the cores of a lattice meet."""
        return cls(_starts(lattice.rows, lattice.period[0]), _starts(lattice.cols, lattice.period[1]))

    def times(self, factor: int) -> Borders:
        """The same lines counted in pixels `factor` times smaller (latents to pixels)."""
        return Borders(frozenset(y * factor for y in self.rows), frozenset(x * factor for x in self.cols))

    def within(self, part: Box) -> Borders:
        """The lines inside a part of the picture, counted from its corner."""
        return Borders(_inside(self.rows, part.y, part.stop_y), _inside(self.cols, part.x, part.stop_x))

    def without(self, other: Borders) -> Borders:
        """The lines that are not also those of another kind."""
        return Borders(self.rows - other.rows, self.cols - other.cols)


def _inside(lines: frozenset[int], start: int, stop: int) -> frozenset[int]:
    return frozenset(line - start for line in lines if start < line < stop)


def _starts(spans: tuple[Span, ...], period: int | None) -> frozenset[int]:
    if period is not None:
        return frozenset(span.core_start % period for span in spans) - {0}
    first = min(span.core_start for span in spans)
    return frozenset(span.core_start for span in spans if span.core_start > first)


def seams(
    field: Field,
    kinds: Mapping[str, Borders],
    factor: int,
    *,
    repeats: int = REPEATS,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Estimate | Absent]:
    """The ratio for each kind of border (such as `last stage`, `earlier stages`, `decode tiles`).

    A border of any kind is never an "other line". `factor` is the decoder's for pixels, 1 for latents. N is (other
    lines, border lines). The interval resamples square tiles of the picture. Raises InputError for NaN in the field,
    GeometryError for a border outside it.
    """
    if factor < 1:
        raise InputError(f"the downsample factor must be at least 1, not {factor}")
    frame = field.frame
    side = max(PERIODS * factor, -(-max(frame.height, frame.width) // TILES))
    for kind, borders in kinds.items():
        _check(kind, borders, frame.height, frame.width)
    lines = _measure(field, side)
    every = Borders(
        frozenset().union(*(borders.rows for borders in kinds.values())),
        frozenset().union(*(borders.cols for borders in kinds.values())),
    )
    found: dict[str, Estimate | Absent] = {}
    for kind, borders in kinds.items():
        sums = _sums(lines, borders, every, factor)
        reason = _obstacle(sums)
        how = f"phase modulo {factor}"
        found[kind] = Absent(kind, reason) if reason else _estimate(sums, how, repeats=repeats, level=level, seed=seed)
    return found


def _check(kind: str, borders: Borders, height: int, width: int) -> None:
    for found, length, name in ((borders.rows, height, "row"), (borders.cols, width, "column")):
        outside = sorted(line for line in found if not 0 < line < length)
        if outside:
            raise GeometryError(f"{kind}: {name} border {outside[0]} does not lie inside an extent of {length}")


@dataclass(frozen=True, slots=True)
class _Lines:
    """Sums of absolute differences across every line, by tile along the line."""

    rows: Matrix  # (height, tiles across); line 0 is zero
    cols: Matrix  # (width, tiles down)
    side: int  # of a tile


def _measure(field: Field, side: int) -> _Lines:
    frame = field.frame
    starts = np.arange(0, frame.width, side)
    rows = np.zeros((frame.height, len(starts)))
    cols = np.zeros((frame.width, -(-frame.height // side)))
    for number, (first, above, band) in enumerate(_bands(field, side)):
        down = np.abs(np.diff(band, axis=1)).mean(axis=0)
        rows[first + 1 - above : first + 1 - above + len(down)] = np.add.reduceat(down, starts, axis=1)
        across = np.abs(np.diff(band[:, above:], axis=2)).mean(axis=0)
        cols[1:, number] = across.sum(axis=0)
    return _Lines(rows, cols, side)


def _bands(field: Field, side: int) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Bands of `side` rows with the row above, where there is one: (first row, rows above, array)."""
    frame = field.frame
    for first in range(0, frame.height, side):
        above = min(first, 1)
        height = min(side, frame.height - first) + above
        band = field.read(Box(first - above, 0, height, frame.width)).astype(np.float32)
        if not np.isfinite(band).all():
            raise InputError(f"the picture holds NaN or infinity in rows {first} to {first + height - above}")
        yield first, above, band


@dataclass(frozen=True, slots=True)
class _Sums:
    """By tile and by phase (those of rows, then those of columns): summed differences and their lengths in pixels."""

    border: Matrix
    border_px: Matrix
    other: Matrix
    other_px: Matrix
    n: tuple[int, int]  # other lines of the borders' phases, border lines

    def ratio(self, weights: Matrix) -> Matrix:
        """The meter for each row of weights (draws, tiles): borders over what their phases lead to expect."""
        parts = (self.border, self.border_px, self.other, self.other_px)
        border, border_px, other, other_px = (weights @ part for part in parts)
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = np.where(border_px > 0, border_px * other / other_px, 0).sum(axis=1)
            return np.asarray(border.sum(axis=1) / expected)


def _sums(lines: _Lines, borders: Borders, every: Borders, factor: int) -> _Sums:
    height, width = len(lines.rows), len(lines.cols)
    tables = np.zeros((4, lines.cols.shape[1], lines.rows.shape[1], 2 * factor))
    rows = _chosen(height, borders.rows, every.rows, factor)
    cols = _chosen(width, borders.cols, every.cols, factor)
    _add(tables[..., :factor], lines.rows, _lengths(width, lines.side), rows, lines.side)
    _add(tables[..., factor:].swapaxes(1, 2), lines.cols, _lengths(height, lines.side), cols, lines.side)
    places = [place for _, place in rows + cols]
    border, border_px, other, other_px = tables.reshape(4, -1, 2 * factor)
    return _Sums(border, border_px, other, other_px, (places.count(_OTHER), places.count(_BORDER)))


_BORDER, _OTHER = 0, 2  # where in the tables a line's sums go; its lengths follow


def _chosen(extent: int, borders: frozenset[int], every: frozenset[int], factor: int) -> list[tuple[int, int]]:
    """The border lines, and the other lines that share a phase with one of them."""
    phases = {line % factor for line in borders}
    others = (line for line in range(1, extent) if line not in every and line % factor in phases)
    return [(line, _BORDER) for line in sorted(borders)] + [(line, _OTHER) for line in others]


def _add(tables: Matrix, sums: Matrix, lengths: Matrix, chosen: list[tuple[int, int]], side: int) -> None:
    """Add the lines of one axis to their tiles: tables (4, tiles over lines, tiles along a line, phases)."""
    for line, place in chosen:
        phase = line % tables.shape[-1]
        tables[place, line // side, :, phase] += sums[line]
        tables[place + 1, line // side, :, phase] += lengths


def _lengths(extent: int, side: int) -> Matrix:
    """Pixels of a line in each tile along it."""
    return np.minimum(side, extent - np.arange(0, extent, side)).astype(np.float64)


def _obstacle(sums: _Sums) -> str:
    """Why there is no figure, or nothing."""
    if sums.n[1] == 0:
        return "no border of this kind lies inside the picture"
    if (sums.border_px.any(axis=0) & ~sums.other_px.any(axis=0)).any():
        return "every line of the borders' phase is a border: there is nothing to compare with"
    if not np.isfinite(sums.ratio(np.ones((1, len(sums.border))))).all():
        return "the picture is flat along the lines to compare with"
    return ""


def _estimate(sums: _Sums, how: str, *, repeats: int, level: float, seed: int) -> Estimate:
    tiles = len(sums.border)
    value = float(sums.ratio(np.ones((1, tiles)))[0])
    weights = np.random.default_rng(seed).multinomial(tiles, np.full(tiles, 1 / tiles), repeats).astype(np.float64)
    draws = sums.ratio(weights)
    draws = draws[np.isfinite(draws)]
    if tiles < FEW_TILES or len(draws) < 0.9 * repeats:
        return Estimate(value, sums.n, how=how, warnings=(f"no interval: too few of {tiles} tiles hold a border",))
    words = f"bootstrap, {len(draws)} resamples of {tiles} tiles"
    return Estimate(value, sums.n, centred(value, draws, level, words), how=how)
