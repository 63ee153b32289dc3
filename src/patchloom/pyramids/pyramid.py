"""Tiled pyramids: plain TIFF that OpenSlide, QuPath and GDAL read, and OME-TIFF."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from patchloom import provenance
from patchloom.fields.field import Field
from patchloom.geometry import Box, Frame
from patchloom.pyramids.disk import Job
from patchloom.pyramids.layout import Directory, Tag, numbers, rational, text, write_bigtiff
from patchloom.pyramids.levels import Cascade, UInt8, level_sizes
from patchloom.pyramids.tiles import Compression, TileSpool, chroma, encoder

Progress = Callable[[int], None]  # told how many rows were finished since it was last told

_THREADS = 4
_SMALL_PX = 1024  # pictures whose longer side is not above this get small tiles
_JPEG, _DEFLATE = 7, 8
_RGB, _YCBCR = 2, 6
_CENTIMETRES = 3


@dataclass(frozen=True, slots=True)
class Style:
    """How a pyramid is stored. `nested` keeps reduced levels as SubIFDs, where OME wants them."""

    compression: Compression
    quality: int
    nested: bool = False


def write_pyramid(
    file: BinaryIO, field: Field, style: Style, extra: list[Tag], job: Job, folder: Path, progress: Progress | None
) -> None:
    """Read the field once, top to bottom, and write all levels. `extra` tags go to the first one."""
    frame = field.frame
    side = tile_side(frame)
    sizes = level_sizes(frame.height, frame.width, side)
    with ExitStack() as stack:
        spools = [stack.enter_context(closing(TileSpool(folder))) for _ in sizes]
        pool = stack.enter_context(ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)))
        encode = encoder(style.compression, style.quality)

        def keep(level: int, band: UInt8) -> None:
            job.bytes += spools[level].add(band, side, encode, pool)

        cascade = Cascade(len(sizes), side, keep)
        for band in bands(field, side, job, progress):
            cascade.push(band)
        cascade.finish()
        tags = [_tags(frame, size, index, style, side) for index, size in enumerate(sizes)]
        tags[0] += extra
        levels = [Directory(own, spool.sizes, spool.file) for own, spool in zip(tags, spools, strict=True)]
        write_bigtiff(file, levels, nested=style.nested)


def tile_side(frame: Frame) -> int:
    """512, or 256 for small pictures."""
    return 512 if max(frame.height, frame.width) > _SMALL_PX else 256


def bands(field: Field, rows: int, job: Job, progress: Progress | None) -> Iterator[UInt8]:
    """The field from top to bottom as (up to `rows`, width, 3)."""
    frame = field.frame
    for top in range(0, frame.height, rows):
        height = min(rows, frame.height - top)
        yield np.ascontiguousarray(field.read(Box(top, 0, height, frame.width)).transpose(1, 2, 0))
        job.done += height
        if progress is not None:
            progress(height)


def _tags(frame: Frame, size: tuple[int, int], level: int, style: Style, side: int) -> list[Tag]:
    height, width = size
    tags = [
        numbers(254, "I", 1 if level else 0),  # NewSubfileType: reduced
        numbers(256, "I", width),
        numbers(257, "I", height),
        numbers(258, "H", 8, 8, 8),
        numbers(277, "H", 3),
        numbers(284, "H", 1),  # colours side by side
        text(305, provenance.software()),
        numbers(322, "I", side),
        numbers(323, "I", side),
        *_codec_tags(style),
    ]
    if frame.pixel_size is not None:
        per_centimetre = 0.01 / (frame.pixel_size.metres * 2**level)
        tags += [rational(282, per_centimetre), rational(283, per_centimetre), numbers(296, "H", _CENTIMETRES)]
    return tags


def _codec_tags(style: Style) -> list[Tag]:
    if style.compression == "deflate":
        return [numbers(259, "H", _DEFLATE), numbers(262, "H", _RGB), numbers(317, "H", 2)]
    factor = chroma(style.quality)
    return [numbers(259, "H", _JPEG), numbers(262, "H", _YCBCR), numbers(530, "H", factor, factor)]
