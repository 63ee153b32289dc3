"""Pictures for tests: soft colours with some noise, and fields that watch how they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.fields.field import ArrayField
from patchloom.geometry import Box, Frame, PixelSize

UInt8 = NDArray[np.uint8]
HALF_UM = PixelSize(0.5e-6)


def picture(height: int, width: int, seed: int = 0) -> UInt8:
    """(3, height, width): slow waves of colour and noise of a few grey levels."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(y / 37 + k) * np.cos(x / 53 - k) for k in range(3)]
    noise = np.random.Generator(np.random.PCG64(seed)).normal(0, 3, (3, height, width))
    return np.clip(np.stack(waves) + noise, 0, 255).astype(np.uint8)


def field(height: int, width: int, pixel_size: PixelSize | None = HALF_UM) -> ArrayField:
    """The picture as a field."""
    return ArrayField(picture(height, width), pixel_size)


class Watched:
    """A field that notes which boxes were read, and fails at a row where it is told to."""

    def __init__(self, source: ArrayField, fail_at: int | None = None, error: type[BaseException] = ValueError) -> None:
        self.source, self.fail_at, self.error = source, fail_at, error
        self.boxes: list[Box] = []

    @property
    def frame(self) -> Frame:
        return self.source.frame

    def read(self, box: Box) -> NDArray[Any]:
        if self.fail_at is not None and box.stop_y > self.fail_at:
            raise self.error("no more rows")
        self.boxes.append(box)
        return self.source.read(box)
