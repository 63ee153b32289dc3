"""A small encoder with real convolutions, and fields that remember what was read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from patchloom.encoders.encoder import EncoderSpec
from patchloom.encoders.network import NetworkEncoder
from patchloom.encoders.pixels import Transform
from patchloom.fields.field import Field
from patchloom.geometry import Box, Frame

HALF = (0.5, 0.5, 0.5)


def tiny_encoder(dim: int = 6, input_px: int = 16, dtype: torch.dtype = torch.float32) -> NetworkEncoder:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, dim, 3))
    spec = EncoderSpec("tiny", dim, input_px, HALF, HALF, "CC0-1.0", "sha256:" + "0" * 64)

    def embed(picture: Tensor) -> Tensor:
        features: Tensor = network(picture)
        return features.mean((2, 3))

    return NetworkEncoder(spec, network, Transform(input_px, input_px, HALF, HALF), embed, dtype=dtype)


@dataclass
class Watched:
    """A field that lists the boxes that were read."""

    source: Field
    boxes: list[Box] = field(default_factory=list)

    @property
    def frame(self) -> Frame:
        return self.source.frame

    def read(self, box: Box) -> NDArray[Any]:
        self.boxes.append(box)
        return self.source.read(box)
