"""Which encoder made an embedding: the identity that a grid carries and a pipeline checks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """The facts of an encoder. Two grids are comparable where `name` and `digest` are equal."""

    name: str  # such as `efficientnet-lite0`, `timm:vit_small_patch14_dinov2`, `hub:owner/name`
    dim: int  # length of an embedding
    input_px: int  # side of the square that the network sees; pictures are resized to it
    mean: tuple[float, float, float]  # of pixels scaled to [0, 1]
    std: tuple[float, float, float]
    licence: str  # of the weights, as an SPDX name where there is one
    digest: str  # sha256 of the weights, `sha256:` and 64 hex digits
