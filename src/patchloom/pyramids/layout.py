"""BigTIFF laid out for the cloud: all directories first, then the tiles, coarsest level first.

tifffile can only write a directory, its tiles, the next directory; a cloud-optimised GeoTIFF has the directories
together at the head and the overviews' tiles before the picture's (OGC 21-026, and GDAL's COG driver), so that one
short read from the head tells a client where everything is. Codecs and tag meanings are still the libraries'.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import BinaryIO

_HEADER = struct.Struct("<2sHHHQ")
_TAG = struct.Struct("<HHQ8s")
_ALIGN = 16
_CODES = {"B": 1, "H": 3, "I": 4, "d": 12, "Q": 16}  # struct's letter to TIFF's type
_ASCII, _RATIONAL, _IFD8 = 2, 5, 18
_TILE_OFFSETS, _TILE_BYTES, _SUB_IFDS = 324, 325, 330


@dataclass(frozen=True, slots=True)
class Tag:
    """A TIFF field as it stands in the file: code, type, count, and little-endian bytes."""

    code: int
    kind: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Directory:
    """One level: its tags without those that say where the tiles are, the tiles' sizes, and the file they wait in."""

    tags: Sequence[Tag]
    sizes: Sequence[int]
    tiles: BinaryIO


def numbers(code: int, letter: str, *values: float) -> Tag:
    """A tag of numbers; `letter` is struct's: B, H, I, Q or d."""
    return Tag(code, _CODES[letter], len(values), struct.pack(f"<{len(values)}{letter}", *values))


def text(code: int, value: str) -> Tag:
    """A tag of ASCII text."""
    data = value.encode("ascii") + b"\0"
    return Tag(code, _ASCII, len(data), data)


def rational(code: int, value: float) -> Tag:
    """A tag of one positive fraction, as near to `value` as 32 bits allow."""
    fraction = _nearest(value)
    return Tag(code, _RATIONAL, 1, struct.pack("<II", fraction.numerator, fraction.denominator))


def _nearest(value: float) -> Fraction:
    limit = 2**32 - 1
    if value >= 1:
        return Fraction(value).limit_denominator(max(int(limit / (value + 1)), 1))
    return 1 / Fraction(1 / Fraction(value)).limit_denominator(max(int(limit * value / (1 + value)), 1))


def write_bigtiff(file: BinaryIO, directories: Sequence[Directory], *, nested: bool) -> None:
    """Write the levels, finest first. `nested` hangs the others below the first (SubIFDs, as OME has them)."""
    starts = _starts(directories, nested)
    tiles = _tile_starts(directories, starts[-1])
    file.write(_HEADER.pack(b"II", 43, 8, 0, starts[0]))
    for index, directory in enumerate(directories):
        tags = [*directory.tags, *_where(directory, tiles[index])]
        if nested and index == 0 and len(directories) > 1:
            tags.append(_children(starts[1:-1]))
        last = index == len(directories) - 1
        file.write(b"\0" * (starts[index] - file.tell()))
        file.write(_packed(tags, starts[index], 0 if nested or last else starts[index + 1]))
    file.write(b"\0" * (starts[-1] - file.tell()))
    for directory in reversed(directories):
        directory.tiles.seek(0)
        shutil.copyfileobj(directory.tiles, file, 1 << 20)
        directory.tiles.truncate(0)  # the disk need not hold a level twice for longer than it is copied


def _starts(directories: Sequence[Directory], nested: bool) -> list[int]:
    """Where each directory starts, and where the tiles start."""
    starts = [_HEADER.size]
    for index, directory in enumerate(directories):
        tags = [*directory.tags, *_where(directory, 0)]
        if nested and index == 0 and len(directories) > 1:
            tags.append(_children([0] * (len(directories) - 1)))
        starts.append(_aligned(starts[-1] + len(_packed(tags, 0, 0))))
    return starts


def _tile_starts(directories: Sequence[Directory], start: int) -> list[int]:
    totals = [sum(directory.sizes) for directory in reversed(directories)]
    return list(accumulate(totals[:-1], initial=start))[::-1]


def _where(directory: Directory, start: int) -> list[Tag]:
    offsets = list(accumulate(directory.sizes[:-1], initial=start))
    return [numbers(_TILE_OFFSETS, "Q", *offsets), numbers(_TILE_BYTES, "Q", *directory.sizes)]


def _children(starts: Sequence[int]) -> Tag:
    return Tag(_SUB_IFDS, _IFD8, len(starts), struct.pack(f"<{len(starts)}Q", *starts))


def _packed(tags: Sequence[Tag], start: int, following: int) -> bytes:
    """A directory at offset `start`: its tags in order of their codes, then the values that are longer than 8 bytes."""
    head, tail = bytearray(struct.pack("<Q", len(tags))), bytearray()
    behind = start + 8 + len(tags) * _TAG.size + 8
    for tag in sorted(tags, key=lambda tag: tag.code):
        value = tag.data
        if len(value) > 8:
            value = struct.pack("<Q", behind + len(tail))
            tail += tag.data + b"\0" * (-len(tag.data) % 8)
        head += _TAG.pack(tag.code, tag.kind, tag.count, value)
    return bytes(head + struct.pack("<Q", following) + tail)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGN) * _ALIGN
