"""PNG written and its text read as a stream: a band of rows in memory, never the picture."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from patchloom import provenance
from patchloom.errors import FormatError
from patchloom.fields.field import Field
from patchloom.geometry import Frame
from patchloom.pyramids.disk import Job
from patchloom.pyramids.levels import UInt8
from patchloom.pyramids.pyramid import Progress, bands

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BAND_ROWS = 128
_LEVEL = 6
_SUB, _UP, _PAETH = 1, 2, 4  # filter types; the others rarely win on photographs
_METRE = 1
_TEXT_LIMIT = 1 << 24


def write_png(file: BinaryIO, field: Field, block: str, job: Job, progress: Progress | None) -> None:
    """8-bit RGB with the provenance block in an iTXt chunk, before the pixels so that readers find it at once."""
    frame = field.frame
    file.write(SIGNATURE)
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", frame.width, frame.height, 8, 2, 0, 0, 0))
    if (density := _density(frame)) is not None:
        _chunk(file, b"pHYs", struct.pack(">IIB", density, density, _METRE))
    _chunk(file, b"iTXt", provenance.KEY.encode() + b"\0\0\0\0\0" + block.encode())
    packer, above = zlib.compressobj(_LEVEL), np.zeros((frame.width, 3), np.uint8)
    for band in bands(field, _BAND_ROWS, job, progress):
        _data(file, packer.compress(_filtered(band, above)), job)
        above = band[-1]
    _data(file, packer.flush(), job)
    _chunk(file, b"IEND", b"")


def read_text(path: Path, keyword: str) -> str | None:
    """The text of the first iTXt chunk with a keyword, if it stands before the pixels."""
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        for kind, data in _chunks(path, file):
            key, _, rest = data.partition(b"\0")
            if kind == b"iTXt" and key == keyword.encode() and rest[:2] == b"\0\0":
                return rest[2:].split(b"\0", 2)[2].decode("utf-8", "replace")
    return None


def _chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def _data(file: BinaryIO, data: bytes, job: Job) -> None:
    if data:
        _chunk(file, b"IDAT", data)
        job.bytes += len(data)


def _chunks(path: Path, file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The chunks before the pixels, large ones (colour profiles) left out."""
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise FormatError(f"`{path}` is a PNG that ends before its pixels")
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            return
        if length > _TEXT_LIMIT:
            file.seek(length + 4, 1)
            continue
        yield kind, file.read(length)
        file.seek(4, 1)


def _density(frame: Frame) -> int | None:
    """Pixels a metre, where a whole number says it to a thousandth (not for aerial images)."""
    if frame.pixel_size is None:
        return None
    exact = 1 / frame.pixel_size.metres
    whole = round(exact)
    return whole if 0 < whole < 2**31 and abs(whole / exact - 1) < 1e-3 else None


def _filtered(band: UInt8, above: UInt8) -> bytes:
    """Rows (h, w, 3) as PNG bytes, each filtered by whichever of three predictors leaves the smallest differences."""
    up = np.concatenate([above[None], band[:-1]])
    left, corner = _shifted(band), _shifted(up)
    candidates = np.stack([band - left, band - up, band - _paeth(left, up, corner)])
    costs = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=(2, 3), dtype=np.int64)
    best = costs.argmin(axis=0)
    rows = candidates[best, np.arange(len(band))].reshape(len(band), -1)
    kinds = np.array([_SUB, _UP, _PAETH], np.uint8)[best]
    return np.concatenate([kinds[:, None], rows], axis=1).tobytes()


def _shifted(rows: UInt8) -> UInt8:
    return np.concatenate([np.zeros_like(rows[:, :1]), rows[:, :-1]], axis=1)


def _paeth(left: UInt8, up: UInt8, corner: UInt8) -> UInt8:
    """The PNG specification's predictor: of the three, the nearest to left + up - corner, ties in that order."""
    a, b, c = (plane.astype(np.int16) for plane in (left, up, corner))
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest = np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))
    return nearest.astype(np.uint8)
