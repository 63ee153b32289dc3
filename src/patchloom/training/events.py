"""The log that TensorBoard reads, and the same figures as lines of JSON.

TensorBoard's event file is a sequence of records (length, masked CRC-32C of it, protobuf message, masked CRC-32C);
a message here is `Event{wall_time=1, step=2, file_version=3 | summary=5}` with `Summary.Value{tag=1, simple_value=2 |
image=4}`. Written by hand because the training path runs where TensorBoard is not installed.
"""

from __future__ import annotations

import io
import json
import math
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LINES = "log.jsonl"


class Log:
    """Appends to `folder/events.out.tfevents.<number>.patchloom` and `folder/log.jsonl`; each line is flushed.

    A figure that is no number is null in JSON, which has none.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("events.out.tfevents.*")))
        self._events = (folder / f"events.out.tfevents.{number:010d}.patchloom").open("ab")
        self._lines = (folder / LINES).open("a", encoding="utf-8")
        self._record(_bytes(3, b"brain.Event:2"), 0)

    def figures(self, seen: int, figures: Mapping[str, float]) -> None:
        """One value a tag, at a number of samples seen."""
        values = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + _key(2, 5) + struct.pack("<f", value)) for tag, value in figures.items()
        )
        self._record(_bytes(5, values), seen)
        finite = {tag: value if math.isfinite(value) else None for tag, value in figures.items()}
        self._lines.write(json.dumps({"seen": seen, **finite}) + "\n")
        self._lines.flush()

    def picture(self, seen: int, tag: str, pixels: NDArray[np.uint8]) -> None:
        """A picture (height, width, 3)."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png")
        height, width = pixels.shape[:2]
        image = _number(1, height) + _number(2, width) + _number(3, 3) + _bytes(4, buffer.getvalue())
        self._record(_bytes(5, _bytes(1, _bytes(1, tag.encode()) + _bytes(4, image))), seen)

    def close(self) -> None:
        """Close both files."""
        self._events.close()
        self._lines.close()

    def _record(self, body: bytes, seen: int) -> None:
        message = _key(1, 1) + struct.pack("<d", time.time()) + _number(2, seen) + body
        length = struct.pack("<Q", len(message))
        self._events.write(length + _masked(length) + message + _masked(message))
        self._events.flush()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _number(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _key(number, 2) + _varint(len(value)) + value


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # noqa: PLW2901 - the register is shifted in place
        table.append(byte)
    return table


_TABLE = _crc_table()


def _masked(data: bytes) -> bytes:
    """CRC-32C (Castagnoli), rotated and offset as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
