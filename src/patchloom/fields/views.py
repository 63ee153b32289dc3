"""Fields that look at another field: some of its channels, or its values times a number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import GeometryError
from patchloom.fields.field import Field
from patchloom.geometry import Box, Frame


@dataclass(frozen=True, slots=True)
class Channels:
    """The first `count` channels of another field: the image, of a state that holds more."""

    source: Field
    count: int

    def __post_init__(self) -> None:
        if not 0 < self.count <= self.source.frame.channels:
            raise GeometryError(f"{self.count} channels were asked of a field that has {self.source.frame.channels}")

    @property
    def frame(self) -> Frame:
        """The source's frame with `count` channels."""
        return replace(self.source.frame, channels=self.count)

    def read(self, box: Box) -> NDArray[Any]:
        """The first channels of the source's answer."""
        return self.source.read(box)[: self.count]


@dataclass(frozen=True, slots=True)
class Scaled:
    """Another field times a number, as float32: noise at the level that a sampler starts from."""

    source: Field
    factor: float

    @property
    def frame(self) -> Frame:
        """The source's frame, float32."""
        return replace(self.source.frame, dtype="float32")

    def read(self, box: Box) -> NDArray[np.float32]:
        """The source's answer times the factor, rounded once."""
        return self.source.read(box).astype(np.float32, copy=False) * np.float32(self.factor)
