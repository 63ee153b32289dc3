"""Latents to pixels in tiles, each pixel once: a weave too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import pi, sin
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.diffusion.mirrored import mirrored
from patchloom.fields.cores import Cores
from patchloom.fields.field import Field
from patchloom.fields.stores import MemoryStore, Store
from patchloom.fields.views import Mirrored
from patchloom.fields.weave import Crew, Weave, alone, weave
from patchloom.geometry import OPEN, Box, Frame, Lattice, Period, PixelSize, Window
from patchloom.loom import plan
from patchloom.loom.frozen import Frozen, taught
from patchloom.loom.ring import FLAT, Wrap, copies, periods

TILE = 64  # latents on a side
BATCH = 4  # tiles decoded at once
KEY = "pixels"  # of the decoded field among the works of a run
_LOUD = 1000  # times a latent: what of it is left over by rounding then shows in pixels of 256 levels


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a canvas is decoded: its tiles, how often each is, and what latents that takes wherever the pixels lie."""

    lattice: Lattice
    passes: int = 1
    always: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Decode:
    """The autoencoder's decoder as the work of a weave: float latents to uint8 pixels."""

    autoencoder: Autoencoder
    batch: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    pixel_size: PixelSize | None = None

    def frame(self, source: Frame) -> Frame:
        """`factor` times the extent, three channels."""
        factor = self.autoencoder.factor
        return Frame(source.height * factor, source.width * factor, 3, "uint8", self.pixel_size)

    def idle(self, window: Window) -> bool:
        """Never: every tile is decoded."""
        return False

    def __call__(self, windows: Sequence[Window], arrays: NDArray[Any]) -> NDArray[np.uint8]:
        """Pixels (batch, 3, h * factor, w * factor) of latents (batch, channels, h, w)."""
        with torch.no_grad():
            latents = torch.from_numpy(arrays).to(self.device, self.dtype)
            pixels: NDArray[np.uint8] = self.autoencoder.decode(latents).cpu().numpy()
        return pixels

    @property
    def lesson(self) -> bytes | None:
        """What was measured on the canvas, for those who have the decoder as it was; None where nothing was."""
        return self.autoencoder.lesson if isinstance(self.autoencoder, Frozen) else None

    def taught(self, lesson: bytes) -> Decode:
        """The same work by a decoder with these statistics."""
        return replace(self, autoencoder=taught(self.autoencoder, lesson))


def decode_windows(latents: Tensor, autoencoder: Autoencoder) -> Tensor:
    """Pictures (batch, 3, h * factor, w * factor), uint8, of generated latents (batch, channels, h, w), each by itself.

    As `decode_field` with `mirror` decodes a canvas of one window: beyond the edges latents go on mirrored.
    """
    reach = autoencoder.receptive_field
    if reach is None:
        return autoencoder.decode(latents)
    pixels = autoencoder.decode(mirrored(mirrored(latents, -2, reach, reach), -1, reach, reach))
    inside = Box(reach, reach, latents.shape[-2], latents.shape[-1]).times(autoencoder.factor)
    return pixels[..., inside.y : inside.stop_y, inside.x : inside.stop_x]


def decode_field(
    latents: Field,
    autoencoder: Autoencoder,
    *,
    store: Store | None = None,
    tile: int = TILE,
    margin: int | None = None,
    batch: int = BATCH,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    pixel_size: PixelSize | None = None,
    crew: Crew = alone,
    wrap: Wrap = FLAT,
    mirror: bool = False,
) -> Weave:
    """The pixels of a field of latents, decoded when they are read, in tiles of `tile` latents.

    A tile is decoded with `margin` latents around it, the decoder's receptive field unless given, so a pixel does not
    depend on the tile that it lies in. Where there is neither, tiles overlap and fade into one another; see `tiles`.
    With `mirror`, latents go on mirrored beyond the canvas in such a halo: zeros there, which convolutions put around
    what they see, are a colour of their own to a decoder, and would frame the picture.
    Without a store, the rows of tiles that a reader on its way down the picture comes back to are kept: every tile is
    decoded once.
    """
    work = Decode(autoencoder, batch, device or torch.device("cpu"), dtype, pixel_size)
    reach = autoencoder.receptive_field if margin is None else margin
    lattice = tiles((latents.frame.height, latents.frame.width), reach, tile, wrap, mirror=mirror)
    kept = store or MemoryStore(limit_bytes=_room(lattice, autoencoder.factor))
    seen = Mirrored(latents) if mirror and reach is not None else latents
    return weave(seen, lattice, work, kept, KEY, crew=crew)


def tiles(
    shape: tuple[int, int], reach: int | None, tile: int = TILE, wrap: Wrap = FLAT, *, mirror: bool = False
) -> Lattice:
    """How a canvas (height, width) of latents is cut for a decoder that sees `reach` latents around one.

    Where the reach is None, no halo makes tiles exact: the decoder's norms or attention are over all that it sees, and
    every tile has a tint of its own. Such tiles lie half a tile apart and are blended, so that tints have no border.
    """
    if reach is None:
        return replace(plan.average(shape, tile, max(tile // 2, 1), wrap=wrap), profile=fading(tile))
    if mirror:  # tiles go over the edges as they go over a joined border
        return replace(plan.halo(shape, tile + 2 * reach, tile, wrap=(True, True)), period=periods(shape, wrap))
    return plan.halo(shape, tile + 2 * reach, tile, wrap=wrap)


def fading(tile: int) -> tuple[float, ...]:
    """Weights of a tile's rows or columns: Hann's window, which falls to nothing and half a tile apart sums to 1."""
    return tuple(sin(pi * (k + 0.5) / tile) ** 2 for k in range(tile))


@dataclass(frozen=True, slots=True)
class Near:
    """Latents of a box alone, and zeros around it: for tiles of which no pixel is asked that depends on the rest."""

    source: Field
    box: Box
    period: Period = OPEN

    @property
    def frame(self) -> Frame:
        """The source's: every box is answered, and the source is asked for its part of this one alone."""
        return self.source.frame

    def read(self, box: Box) -> NDArray[Any]:
        """The source's answer where the two boxes meet, zeros elsewhere."""
        answer = np.zeros((self.frame.channels, *box.shape), self.frame.dtype)
        for part in copies(self.box, box, self.period):
            answer[:, *part.inside(box)] = self.source.read(part)
        return answer


def latents_under(lattice: Lattice, pixels: Box, factor: int, reach: int | None = None) -> Box:
    """The smallest box of latents that decoding a box of pixels needs.

    That is every tile that the pixels lie in, or, with `reach`, so many latents around them: what else those tiles see
    may then be anything (`Near`). On a canvas that wraps the box may go over a joined border.
    """
    y, x = pixels.y // factor, pixels.x // factor
    box = Box(y, x, -(-pixels.stop_y // factor) - y, -(-pixels.stop_x // factor) - x)
    found = box.grown(reach) if reach is not None else _hull(window.box for window in Cores(lattice).touching(box))
    inside, (down, across) = found.meet(lattice.box), lattice.period
    rows, cols = inside if down is None else found, inside if across is None else found
    return Box(rows.y, cols.x, rows.height, cols.width)


def is_local(autoencoder: Autoencoder, lattice: Lattice, device: torch.device) -> bool:
    """Whether far latents leave the bits of a tile's pixels alone, by trying it on one batch of a lattice's tiles.

    A convolution that adds up what its kernel covers does so. One by fast transforms (Winograd, Fourier) mixes
    neighbours and takes them out again, up to rounding, so a latent beyond the decoder's reach may turn a pixel's
    last bit. Never where the reach is None.
    """
    reach, (height, width) = autoencoder.receptive_field, lattice.window(0).box.shape
    if reach is None:
        return False
    tile, middle = Box(0, 0, height, width), Box(height // 3, width // 3, -(-height // 3), -(-width // 3))
    near = middle.grown(reach).meet(tile).inside(tile)
    draw = np.random.default_rng(0).standard_normal((2, BATCH, autoencoder.channels, height, width), np.float32)
    draw[1] *= _LOUD
    draw[1, ..., *near] = draw[0, ..., *near]
    one, other = (Decode(autoencoder, BATCH, device)((), arrays) for arrays in draw)
    seen = middle.times(autoencoder.factor).inside(tile.times(autoencoder.factor))
    return bool((one[..., *seen] == other[..., *seen]).all())


def _hull(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all of some."""
    some = list(boxes)
    top, left = min(one.y for one in some), min(one.x for one in some)
    return Box(top, left, max(one.stop_y for one in some) - top, max(one.stop_x for one in some) - left)


def _room(lattice: Lattice, factor: int) -> int:
    """Bytes of the rows of tiles that meet in one row of pixels, and of one more."""
    rows = lattice.rows
    deep = max(sum(one.core_start <= row.core_start < one.core_stop for one in rows) for row in rows)
    height = max(span.core_stop - span.core_start for span in rows)
    width = sum(span.core_stop - span.core_start for span in lattice.cols)
    return 3 * height * width * factor**2 * (deep + 1)
