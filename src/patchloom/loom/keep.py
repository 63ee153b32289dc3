"""Keeping what is there: a region of an earlier canvas is made anew, the rest stays, to the bit.

Outside the region the expected clean image is the earlier one, whatever the noise, so windows beside the region see
what they would have seen on the way to it; the last update of every sampler returns that image itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import GeometryError
from patchloom.fields.field import Field
from patchloom.fields.views import around
from patchloom.geometry import OPEN, Box, Frame, Period, Window
from patchloom.loom.ring import copies


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Finished latents of a canvas that stay as they are outside a region, both counted in latents.

    Raises GeometryError where the region has no area or leaves the canvas.
    """

    latents: Field
    region: Box

    def __post_init__(self) -> None:
        frame = self.latents.frame
        if self.region.area == 0 or not frame.box.contains(self.region):
            raise GeometryError(
                f"the region {self.region} (y, x, height, width in latents) does not lie inside the canvas of "
                f"{frame.height} x {frame.width} latents"
            )

    def of(self, windows: Sequence[Window], period: Period = OPEN) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The earlier latents of windows (b, channels, h, w), and where they stand (b, 1, h, w)."""
        boxes, latents = [window.box for window in windows], around(self.latents, period)
        values = np.stack([np.asarray(latents.read(box), np.float32) for box in boxes])
        return values, np.stack([outside(box, self.region, period)[None] for box in boxes])


@dataclass(frozen=True, slots=True)
class Noised:
    """Noise (a field at the first level already) with the kept latents under it, as a field: where an edit starts."""

    noise: Field
    kept: Kept

    @property
    def frame(self) -> Frame:
        """The noise's frame."""
        return self.noise.frame

    def read(self, box: Box) -> NDArray[np.float32]:
        """Noise alone inside the region, kept latents plus noise outside."""
        under = np.where(outside(box, self.kept.region), self.kept.latents.read(box), 0)
        return np.asarray(self.noise.read(box) + under, np.float32)


@dataclass(frozen=True, slots=True)
class Patched:
    """The kept latents with a region of another field in their place, as a field."""

    patch: Field
    kept: Kept

    @property
    def frame(self) -> Frame:
        """The kept latents' frame, float32."""
        return replace(self.kept.latents.frame, dtype="float32")

    def read(self, box: Box) -> NDArray[Any]:
        """The kept latents, read from the patch inside the region alone."""
        out = np.array(self.kept.latents.read(box), np.float32)
        part = self.kept.region.meet(box)
        if part.area:
            out[:, *part.inside(box)] = self.patch.read(part)
        return out


def outside(box: Box, region: Box, period: Period = OPEN) -> NDArray[np.bool_]:
    """Which places of a box lie outside a region and its copies a period away, (height, width)."""
    found = np.ones(box.shape, bool)
    for part in copies(region, box, period):
        found[part.inside(box)] = False
    return found
