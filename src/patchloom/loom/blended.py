"""Decoding as the official large-image code does it: overlapping tiles, each decoded alone, blended under a bell.

Foreign decoders normalise over their whole tile, so tiles differ where they meet; here every pixel is a mean of up to
(window / stride)² of them. Slower by that number than decoding each pixel once.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from numpy.typing import NDArray

from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.fields.field import Field
from patchloom.geometry import Box, Frame, PixelSize
from patchloom.loom.plan import average

_SPREAD = 0.8  # of the bell, where half a tile is 1


class BlendedDecode:
    """The pixels of a field of latents, uint8 and truncated as officially; made where they are read.

    The tiles of two rows of windows are kept, so that a reader who goes down the picture decodes each tile once.
    """

    def __init__(
        self,
        latents: Field,
        autoencoder: FirstStage,
        window: int = 64,
        stride: int = 16,
        pixel_size: PixelSize | None = None,
    ) -> None:
        source, factor = latents.frame, autoencoder.factor
        self.frame = Frame(source.height * factor, source.width * factor, 3, "uint8", pixel_size)
        self._latents, self._autoencoder = latents, autoencoder
        self._lattice = average((source.height, source.width), window, stride)
        self._tiles: OrderedDict[int, NDArray[np.float32]] = OrderedDict()
        self._kept = len(self._lattice.cols) * (-(-window // stride) + 1)

    def read(self, box: Box) -> NDArray[np.uint8]:
        """uint8 (3, box.height, box.width)."""
        return np.asarray(255 * np.clip((self.blended(box) + 1) / 2, 0, 1), np.uint8)

    def blended(self, box: Box) -> NDArray[np.float32]:
        """Float32 (3, box.height, box.width), about [-1, 1]."""
        box.inside(self.frame.box)
        factor = self._autoencoder.factor
        total = np.zeros((3, box.height, box.width), np.float32)
        weight = np.zeros(box.shape, np.float32)
        for window in self._lattice:
            tile = window.box.times(factor)
            part = tile.meet(box)
            if part.area:
                share = bell(tile.height, tile.width)[part.inside(tile)]
                total[:, *part.inside(box)] += share * self._tile(window.index)[:, *part.inside(tile)]
                weight[part.inside(box)] += share
        return total / weight

    def _tile(self, index: int) -> NDArray[np.float32]:
        if index not in self._tiles:
            self._tiles[index] = self._decoded(self._lattice.window(index).box)
            if len(self._tiles) > self._kept:
                self._tiles.popitem(last=False)
        return self._tiles[index]

    def _decoded(self, box: Box) -> NDArray[np.float32]:
        device = next(self._autoencoder.parameters()).device
        with torch.no_grad():
            latents = torch.from_numpy(self._latents.read(box)[None]).to(device)
            pixels = self._autoencoder.pixels(latents)[0].float().cpu()
        return pixels.numpy()


def bell(height: int, width: int) -> NDArray[np.float32]:
    """Weights of a tile's pixels: exp(-(u² + v²) / 0.8²) for u and v from -1 to 1, the largest of them 1."""
    y, x = (np.exp(-((np.linspace(-1, 1, n) / _SPREAD) ** 2)) for n in (height, width))
    weights: NDArray[np.float64] = y[:, None] * x[None, :]
    return np.asarray(weights / weights.max(), np.float32)
