"""The classes that configs of latent diffusion name, what their parameters are, and the shapes that they say.

What the classes are called, and what their parameters mean, stands in the public configs of latent diffusion, of the
large-image models and of ZoomLDM. A parameter that changes nothing once a model is trained is `Any`; one that is a
`Literal` is run here at those values alone, and any other value, or parameter, is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt, log2
from typing import Any, Literal, TypeAlias, TypeVar

from patchloom.autoencoders.ldm_first_stage import FirstStageShape
from patchloom.errors import InputError
from patchloom.networks.ldm_tokens import EmbedderShape
from patchloom.networks.ldm_unet import LatentUNetShape
from patchloom.networks.zoom import ZoomShape

T = TypeVar("T")
Row: TypeAlias = tuple[type[Any], Callable[[Any], T]]
"""The parameters that a class takes in a config, and the shape that is made of them."""


@dataclass(frozen=True, slots=True)
class _UNet:
    in_channels: int
    out_channels: int
    model_channels: int
    attention_resolutions: tuple[int, ...]
    num_res_blocks: int | tuple[int, ...]
    context_dim: int
    use_spatial_transformer: Literal[True]
    channel_mult: tuple[int, ...] = (1, 2, 4, 8)
    num_heads: int = -1
    num_head_channels: int = -1
    transformer_depth: int = 1
    conv_resample: Literal[True] = True
    dims: Literal[2] = 2
    use_scale_shift_norm: Literal[False] = False
    resblock_updown: Literal[False] = False
    num_classes: None = None
    n_embed: None = None
    legacy: bool = True
    image_size: Any = None
    dropout: Any = None
    use_checkpoint: Any = None
    use_fp16: Any = None
    use_new_attention_order: Any = None
    num_heads_upsample: Any = None
    ckpt_path: Any = None


@dataclass(frozen=True, slots=True)
class _Stage:
    """`ddconfig` of a first stage."""

    z_channels: int
    resolution: int
    ch: int
    num_res_blocks: int
    attn_resolutions: tuple[int, ...]
    ch_mult: tuple[int, ...] = (1, 2, 4, 8)
    double_z: bool = True
    in_channels: Literal[3] = 3
    out_ch: Literal[3] = 3
    resamp_with_conv: Literal[True] = True
    attn_type: Literal["vanilla", "vanilla-xformers"] = "vanilla"
    dropout: Any = None


@dataclass(frozen=True, slots=True)
class _VQ:
    embed_dim: int
    n_embed: int
    ddconfig: _Stage
    remap: None = None
    sane_index_shape: Any = None
    lossconfig: Any = None
    ckpt_path: Any = None
    monitor: Any = None
    image_key: Any = None


@dataclass(frozen=True, slots=True)
class _KL:
    embed_dim: int
    ddconfig: _Stage
    lossconfig: Any = None
    ckpt_path: Any = None
    monitor: Any = None
    image_key: Any = None


@dataclass(frozen=True, slots=True)
class _Patch:
    patch_embed_dim: int
    target_dim: int
    normalize_ssl: bool
    patch_ssl_key: Any = None


@dataclass(frozen=True, slots=True)
class _PatchAndRegion:
    patch_embed_dim: int
    region_embed_dim: int
    normalize_ssl: bool
    patch_ssl_key: Any = None
    region_ssl_key: Any = None


@dataclass(frozen=True, slots=True)
class _Zoom:
    hidden_channels: int
    input_channels: int = 1024
    vit_mlp_dim: int = 2048
    output_channels: int = 512
    seq_length: int = 64
    mag_levels: int = 8
    num_layers: int = 12
    num_heads: int = 8
    p_uncond: Any = None
    feat_key: Any = None
    mag_key: Any = None
    ckpt_path: Any = None
    ignore_keys: Any = None


def _unet(own: _UNet) -> LatentUNetShape:
    if own.in_channels != own.out_channels:
        raise InputError(f"the U-Net takes {own.in_channels} channels and makes {own.out_channels}; they must agree")
    blocks = (
        (own.num_res_blocks,) * len(own.channel_mult) if isinstance(own.num_res_blocks, int) else own.num_res_blocks
    )
    by_width = own.num_head_channels != -1
    return LatentUNetShape(
        channels=own.in_channels,
        width=own.model_channels,
        multipliers=own.channel_mult,
        blocks=blocks,
        attention=tuple(sorted(own.attention_resolutions)),
        heads=None if by_width else own.num_heads,
        head_width=own.num_head_channels if by_width else None,
        depth=own.transformer_depth,
        context=own.context_dim,
    )


def _vq(own: _VQ) -> FirstStageShape:
    if own.ddconfig.double_z:
        raise InputError("a VQ first stage has no posterior: double_z must be false")
    return _stage("vq", own.ddconfig, own.embed_dim, own.n_embed)


def _kl(own: _KL) -> FirstStageShape:
    if not own.ddconfig.double_z:
        raise InputError("a KL first stage has a posterior: double_z must be true")
    return _stage("kl", own.ddconfig, own.embed_dim, 0)


def _stage(kind: Literal["vq", "kl"], own: _Stage, channels: int, codes: int) -> FirstStageShape:
    factors = []
    for resolution in own.attn_resolutions:
        level = log2(own.resolution / resolution) if 0 < resolution <= own.resolution else 0.5
        if level != int(level):
            raise InputError(f"attn_resolutions {resolution} is not a level of a picture of {own.resolution}")
        factors.append(2 ** int(level))
    return FirstStageShape(
        kind=kind,
        channels=channels,
        inner=own.z_channels,
        width=own.ch,
        multipliers=own.ch_mult,
        blocks=own.num_res_blocks,
        attention=tuple(sorted(factors)),
        codes=codes,
    )


def _patch(own: _Patch) -> EmbedderShape:
    return EmbedderShape(own.patch_embed_dim, None, own.target_dim, own.normalize_ssl)


def _patch_and_region(own: _PatchAndRegion) -> EmbedderShape:
    return EmbedderShape(own.patch_embed_dim, own.region_embed_dim, 512, own.normalize_ssl)  # theirs has one width


def _zoom(own: _Zoom) -> ZoomShape:
    side = isqrt(own.seq_length)
    if side**2 != own.seq_length or own.hidden_channels != own.output_channels:
        raise InputError(
            f"grids of {own.seq_length} cells and tokens of {own.output_channels} values from {own.hidden_channels} "
            "are not run here: cells fill a square, and tokens are as wide as the network that makes them"
        )
    return ZoomShape(
        own.input_channels,
        width=own.output_channels,
        magnifications=own.mag_levels,
        depth=own.num_layers,
        heads=own.num_heads,
        hidden=own.vit_mlp_dim,
        side=side,
    )


UNETS: Mapping[str, Row[LatentUNetShape]] = {"ldm.modules.diffusionmodules.openaimodel.UNetModel": (_UNet, _unet)}
STAGES: Mapping[str, Row[FirstStageShape]] = {
    "ldm.models.autoencoder.VQModelInterface": (_VQ, _vq),
    "ldm.models.autoencoder.AutoencoderKL": (_KL, _kl),
}
EMBEDDERS: Mapping[str, Row[EmbedderShape]] = {
    "ldm.modules.encoders.modules.PatchEmbedder": (_Patch, _patch),
    "ldm.modules.encoders.modules.SSLEmbedder": (_PatchAndRegion, _patch_and_region),
    "ldm.modules.encoders.modules.EmbeddingViT2_5": (_Zoom, _zoom),
}
