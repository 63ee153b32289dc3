"""Foreign decoders made exact: what looks at the whole plane is measured over all of it, layer by layer.

GroupNorm and attention see the plane that they are given. Here a canvas is swept once for each such layer, in tiles
with a halo of what the convolutions reach, until that layer; its statistics, or its keys and values, are gathered over
the tiles' cores, and stay. Then every tile decodes to what the canvas in one piece gives, up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.autoencoders.ldm_layers import PlaneAttention
from patchloom.errors import InputError
from patchloom.fields.field import Field
from patchloom.fields.views import around
from patchloom.geometry import Box, Lattice, Window
from patchloom.loom.frozen import Frozen, Seen, normalised, replaced

_PROBE = Window(0, Box(0, 0, 4, 4), Box(0, 0, 4, 4))  # shown to a decoder to learn in which order its layers come
LIMIT = 1 << 16  # latents of a canvas: attention's time grows with the square of them


class Measured(Exception):  # noqa: N818 - the way out of a pass that has seen enough
    """The layer that is being measured has seen its tile."""


class SweptNorm(nn.Module):
    """A GroupNorm that adds up what it sees until it is settled."""

    sums: Tensor  # of each group: how many values, their sum, and that of their squares

    def __init__(self, norm: nn.GroupNorm, seen: Seen) -> None:
        super().__init__()
        self.norm, self.seen = norm, seen
        self.settled = False
        self.register_buffer("sums", torch.zeros(3, norm.num_groups, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) to the same; raises Measured while it is not settled."""
        if not self.settled:
            part = self.seen.cores(x).reshape(self.norm.num_groups, -1).double()
            count = torch.full_like(self.sums[0], part.shape[1])
            self.sums += torch.stack([count, part.sum(1), part.square().sum(1)])
            raise Measured
        mean = self.sums[1] / self.sums[0]
        return normalised(x, self.norm, mean, self.sums[2] / self.sums[0] - mean**2)


class SweptAttention(nn.Module):
    """Attention that gathers the keys and values of a canvas until it is settled, and then looks at all of them."""

    def __init__(self, own: PlaneAttention, seen: Seen) -> None:
        super().__init__()
        self.own, self.seen = own, seen
        self.settled = False
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to the same; raises Measured while it is not settled."""
        h = self.own.norm(x)
        if not self.settled:
            self.keys.append(self.seen.cores(self.own.key(h)).T[None])
            self.values.append(self.seen.cores(self.own.value(h)).T[None])
            raise Measured
        keys, values = (torch.cat(parts, 1).expand(len(x), -1, -1) for parts in (self.keys, self.values))
        query = _rows(self.own.query(h))
        mixed = F.scaled_dot_product_attention(query[:, None], keys[:, None], values[:, None])[:, 0]
        return x + self.own.out(mixed.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]


Swept: TypeAlias = SweptNorm | SweptAttention


def sweep_exactly(
    autoencoder: Autoencoder,
    latents: Field,
    lattice: Lattice,
    margin: int,
    *,
    device: torch.device | None = None,
    report: Callable[[int], None] | None = None,
) -> Frozen:
    """An autoencoder whose decoder treats the tiles of a lattice as one canvas; `report` hears of swept tiles.

    Raises InputError for a canvas of more than LIMIT latents, or a decoder that cannot be swept.
    """
    check_size(latents.frame.box)
    if not isinstance(autoencoder, nn.Module):
        raise InputError("exact norms are for decoders that are torch modules; this one is not")
    tiled, seen = copy.deepcopy(autoencoder), Seen([_PROBE])
    source, place = around(latents, lattice.period), device or torch.device("cpu")
    for layer in in_order(tiled, _swept(tiled, seen), place):
        for window in lattice:
            seen.windows = [window]
            _until_measured(tiled, torch.from_numpy(np.array(source.read(window.box), np.float32)[None]).to(place))
            if report is not None:
                report(1)
        layer.settled = True
    return Frozen(autoencoder, tiled, margin)


def check_size(canvas: Box) -> None:
    """Raise InputError for a canvas of more than LIMIT latents."""
    if canvas.area > LIMIT:
        raise InputError(
            f"exact norms are for canvases of up to {LIMIT:,} latents; this one has {canvas.area:,}. Leave --norms "
            "out: statistics are then frozen from a sample"
        )


def layers_of(autoencoder: Autoencoder) -> int:
    """How many sweeps `sweep_exactly` makes: layers of the decoder that look at the whole plane."""
    if not isinstance(autoencoder, nn.Module):
        return 0
    tiled = copy.deepcopy(autoencoder)
    return len(in_order(tiled, _swept(tiled, Seen([_PROBE])), next(tiled.parameters()).device))


def in_order(decoder: Autoencoder, layers: Sequence[Swept], device: torch.device) -> list[Swept]:
    """Those of the layers that decoding uses, in the order in which it does; all are left unsettled."""
    found: list[Swept] = []
    while True:
        before = {id(layer): _state(layer) for layer in layers}
        _until_measured(decoder, torch.zeros(1, decoder.channels, *_PROBE.box.shape, device=device))
        now = next((layer for layer in layers if _state(layer) != before[id(layer)]), None)
        if now is None:
            break
        now.settled = True
        found.append(now)
    for layer in found:
        _forget(layer)
    return found


def _state(layer: Swept) -> float:
    return float(layer.sums[0].sum()) if isinstance(layer, SweptNorm) else float(len(layer.keys))


def _forget(layer: Swept) -> None:
    layer.settled = False
    if isinstance(layer, SweptNorm):
        layer.sums.zero_()
    else:
        layer.keys, layer.values = [], []


def _until_measured(decoder: Autoencoder, latents: Tensor) -> None:
    with torch.no_grad():
        try:
            decoder.decode(latents)
        except Measured:
            return


def _swept(module: nn.Module, seen: Seen) -> list[Swept]:
    """Put swept layers in place of a module's own; all of them."""
    attention = replaced(module, PlaneAttention, lambda own: SweptAttention(own, seen))
    return [*attention, *replaced(module, nn.GroupNorm, lambda own: SweptNorm(own, seen))]


def _rows(plane: Tensor) -> Tensor:
    return plane.flatten(2).transpose(1, 2)
