"""Pictures to feature matrices, in the space of a named network. The only part of measuring that needs torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchloom.encoders.embed import encode
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.network import NetworkEncoder
from patchloom.encoders.pixels import RESIZES
from patchloom.errors import InputError
from patchloom.evaluation.estimates import FeatureSpace, Side
from patchloom.evaluation.matrices import Groups, checked
from patchloom.evaluation.patches import Patches, UInt8

_ON_CPU, _ELSEWHERE = 8, 32  # pictures at once


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Features of a set of pictures, with what a report must say of them."""

    rows: NDArray[np.float32]  # (n, dim)
    space: FeatureSpace
    side: Side
    groups: Groups | None = None  # the field, patient or place of each row


def features(
    patches: Patches,
    encoder: Encoder,
    *,
    resize_px: int | None = None,
    batch: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Encode every picture, a batch (that of `batch_of`, where it is None) at a time.

    The encoder brings pictures to its own size; with `resize_px` they are brought to that size first, by Pillow's
    antialiased bicubic. Raises InputError where pictures differ in size and no `resize_px` is given, or where the
    network answers NaN.
    """
    parts, batch = [], batch or batch_of(encoder)
    for start in range(0, patches.n, batch):
        numbers = range(start, min(start + batch, patches.n))
        parts.append(encode(encoder, _stacked([_sized(patches.read(n), resize_px) for n in numbers]), batch))
        if progress is not None:
            progress(numbers.stop, patches.n)
    rows = np.concatenate(parts)
    checked(rows, f"features of `{patches.name}`", least=1)
    space = FeatureSpace(encoder.spec.name, encoder.spec.digest, encoder.spec.dim, resizer(encoder, resize_px))
    return Features(rows, space, Side(patches.name, patches.n, patches.codec), patches.groups)


def batch_of(encoder: Encoder) -> int:
    """How many pictures an encoder sees at once: on a CPU few, since the maps of many do not fit its caches.

    EfficientNet-Lite0 is half as fast again with 8 as with 32 there, and answers with the same bits.
    """
    on_cpu = not isinstance(encoder, NetworkEncoder) or encoder.device.type == "cpu"
    return _ON_CPU if on_cpu else _ELSEWHERE


def resizer(encoder: Encoder, resize_px: int | None = None) -> str:
    """In words, how pictures come to the size that the network sees."""
    first = "" if resize_px is None else f"antialiased bicubic to {resize_px} px, then "
    if not isinstance(encoder, NetworkEncoder):
        return f"{first}the encoder's own to {encoder.spec.input_px} px"
    own = encoder.transform
    cut = "" if own.crop_px == own.resize_px else f", centre {own.crop_px} px"
    return f"{first}{RESIZES[own.filter]} to {own.resize_px} px{cut}"


def resized(picture: UInt8, side_px: int) -> UInt8:
    """A picture (3, h, w) brought to (3, side_px, side_px) by Pillow's bicubic, which is antialiased."""
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(picture, 0, -1)))
    again = np.asarray(image.resize((side_px, side_px), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(np.moveaxis(again, -1, 0))


def _sized(picture: UInt8, side_px: int | None) -> UInt8:
    return picture if side_px is None or picture.shape[1] == side_px else resized(picture, side_px)


def _stacked(pictures: list[UInt8]) -> UInt8:
    sizes = sorted({picture.shape[1] for picture in pictures})
    if len(sizes) > 1:
        raise InputError(f"pictures of {sizes[0]} to {sizes[-1]} px stand in one set; say a common size with resize_px")
    return np.stack(pictures)
