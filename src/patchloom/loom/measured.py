"""A canvas told by a scene, and by a coarser picture of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.diffusion.condition import Condition
from patchloom.diffusion.measured import MeasuredCondition, Measurement, block_means
from patchloom.diffusion.windows import Scene
from patchloom.errors import GeometryError
from patchloom.fields.field import Field
from patchloom.geometry import Box

C = TypeVar("C", bound=Condition)


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredScene(Generic[C]):
    """What another scene says, and for each window the means of `factor` x `factor` blocks that lie wholly in it.

    `coarse` holds one value a block: of the canvas' latents, or of its pixels where `per_latent` (pixels along a
    latent) is told. Raises GeometryError where it is not the canvas (height, width), `factor` times smaller.
    """

    told: Scene[C]
    coarse: Field
    canvas: tuple[int, int]  # height and width in latents
    factor: int
    per_latent: int = 1

    def __post_init__(self) -> None:
        height, width = (side * self.per_latent for side in self.canvas)
        frame, factor = self.coarse.frame, self.factor
        if factor < 1 or (frame.height * factor, frame.width * factor) != (height, width):
            raise GeometryError(
                f"a coarser picture of {frame.width} x {frame.height} does not show a canvas of {width} x {height} "
                f"(width x height) {factor} times smaller"
            )

    def condition(self, boxes: Sequence[Box]) -> MeasuredCondition[C]:
        """What each window is told, and the means that are known of it."""
        per = self.per_latent
        height, width = boxes[0].height * per, boxes[0].width * per
        rows = block_means([box.y * per for box in boxes], height, self.factor)
        cols = block_means([box.x * per for box in boxes], width, self.factor)
        shape = rows.shape[1], cols.shape[1]
        values = torch.from_numpy(np.stack([self._values(box, shape) for box in boxes]))
        return MeasuredCondition(self.told.condition(boxes), Measurement(rows, cols, values, self.factor))

    def _values(self, box: Box, shape: tuple[int, int]) -> NDArray[np.float32]:
        """The means of a window's whole blocks; zeros stand where it holds one fewer."""
        (top, bottom), (left, right) = (
            (-(-start * self.per_latent // self.factor), (start + length) * self.per_latent // self.factor)
            for start, length in ((box.y, box.height), (box.x, box.width))
        )
        out = np.zeros((self.coarse.frame.channels, *shape), np.float32)
        if bottom > top and right > left:
            out[:, : bottom - top, : right - left] = self.coarse.read(Box(top, left, bottom - top, right - left))
        return out
