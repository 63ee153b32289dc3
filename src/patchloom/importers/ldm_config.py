"""The official layout's YAML, read strictly: every key of a class that we run is known, and so is what it must say.

What the classes are called, and what their parameters mean, stands in the public configs of latent diffusion and of the
large-image models; a class that is not in a table here is named and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt, log2
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from patchloom import records
from patchloom.autoencoders.ldm_first_stage import FirstStageShape
from patchloom.diffusion.parametrisation import NoiseLabel, Parametrisation
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.networks.ldm_tokens import EmbedderShape
from patchloom.networks.ldm_unet import LatentUNetShape
from patchloom.networks.zoom import ZoomShape

T = TypeVar("T")
E = TypeVar("E")
Row: TypeAlias = tuple[type[Any], Callable[[Any], T]]
"""The parameters that a class takes in a config, and the shape that is made of them."""

_LONGEST = 1 << 20  # bytes of a config


@dataclass(frozen=True, slots=True)
class ModelSpec(Generic[E]):
    """Everything that a config says about a model and that matters once it is trained."""

    unet: LatentUNetShape
    first_stage: FirstStageShape
    embedder: E  # the shape of what makes the tokens
    parametrisation: Parametrisation
    patch_px: int  # side of the images that it was trained on
    ema: bool  # whether averaged weights were kept
    scale_in_weights: bool = False  # latents are scaled by a number that lies among the weights


LatentDiffusionSpec: TypeAlias = ModelSpec[EmbedderShape]
"""Of a model that is told embeddings; made as `ModelSpec(...)`."""


@dataclass(frozen=True, slots=True)
class _Target:
    target: str
    params: dict[str, Any]
    base_learning_rate: float | None = None


@dataclass(frozen=True, slots=True)
class _Project:
    model: _Target
    data: Any = None
    lightning: Any = None


@dataclass(frozen=True, slots=True)
class _LatentDiffusion:
    """Parameters that change nothing once a model is trained are `Any`."""

    unet_config: _Target
    first_stage_config: _Target
    cond_stage_config: _Target
    linear_start: float = 1e-4
    linear_end: float = 2e-2
    timesteps: int = 1000
    image_size: int = 256
    channels: int = 3
    conditioning_key: Literal["crossattn"] | None = None
    use_ema: bool = True
    scale_factor: float = 1.0
    scale_by_std: bool = False
    beta_schedule: Literal["linear"] = "linear"
    parameterization: Literal["eps", "x0", "v"] = "eps"
    num_timesteps_cond: Literal[1] | None = None
    learn_logvar: bool = False
    cond_stage_trainable: Any = None
    cond_stage_key: Any = None
    first_stage_key: Any = None
    scheduler_config: Any = None
    log_every_t: Any = None
    monitor: Any = None
    fid_path: Any = None
    track_fid: Any = None
    clip_denoised: Any = None
    loss_type: Any = None
    ckpt_path: Any = None
    ignore_keys: Any = None
    load_only_unet: Any = None
    p_uncond: Any = None
    x_feat_extracted: Any = None


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


def read_config(path: Path) -> LatentDiffusionSpec:
    """Read `*-project.yaml`. Raises MissingError, or FormatError naming the class, key or value that is refused."""
    return read_model(path, _EMBEDDERS)


def conditioning_class(path: Path) -> str:
    """The class of a config's conditioning stage as it stands there, or nothing; raises what `read_config` does."""
    stage = _project(path).model.params.get("cond_stage_config")
    return str(stage.get("target", "")) if isinstance(stage, dict) else ""


def _project(path: Path) -> _Project:
    if path.is_file() and path.stat().st_size > _LONGEST:
        raise FormatError(f"`{path}` is {path.stat().st_size} bytes long, which no config is")
    try:
        return records.read_yaml(_Project, path)
    except RecursionError:
        raise FormatError(f"`{path}` nests deeper than a config does") from None


def read_model(path: Path, told: Mapping[str, Row[E]]) -> ModelSpec[E]:
    """Read `*-project.yaml` of a model whose conditioning stage is one of the classes `told`; raises the same."""
    project = _project(path)
    try:
        return _spec(project.model, told, str(path))
    except FormatError:
        raise
    except InputError as error:
        raise FormatError(f"`{path}`: {error}") from None


def find_config(folder: Path) -> Path:
    """The one config of a checkpoint's folder. Raises MissingError, or FormatError naming all where there are more."""
    places = (folder / "configs", folder)
    patterns = ("*-project.yaml", "*.yaml")
    for place, pattern in ((place, pattern) for place in places for pattern in patterns):
        found = sorted(path for path in place.glob(pattern) if not path.name.endswith("-lightning.yaml"))
        if len(found) > 1:
            listed = " and ".join(f"`{path}`" for path in found)
            raise FormatError(f"there are {len(found)} configs, {listed}; say which one with --config")
        if found:
            return found[0]
    raise MissingError(f"there is no config in `{folder}` (configs/*-project.yaml, or *.yaml); name it with --config")


def _spec(model: _Target, told: Mapping[str, Row[E]], where: str) -> ModelSpec[E]:
    place = f"{where}: model"
    kind = _class(model, {"ldm.models.diffusion.ddpm.LatentDiffusion": _LatentDiffusion}, place)
    own = records.load(kind, model.params, f"{place}.params")
    unet = _built(own.unet_config, _UNETS, f"{place}.params.unet_config")
    stage = _built(own.first_stage_config, _STAGES, f"{place}.params.first_stage_config")
    stage = records.load(FirstStageShape, records.dump(stage) | {"scale": own.scale_factor}, where)
    embedder = _built(own.cond_stage_config, told, f"{place}.params.cond_stage_config")
    _check(own, unet, stage, embedder)
    label = NoiseLabel("ddpm", own.timesteps, own.linear_start, own.linear_end)
    factor = 2 ** (len(stage.multipliers) - 1)
    return ModelSpec(
        unet=unet,
        first_stage=stage,
        embedder=embedder,
        parametrisation=Parametrisation(own.parameterization, label=label),
        patch_px=own.image_size * factor,
        ema=own.use_ema,
        scale_in_weights=own.scale_by_std,
    )


def _check(own: _LatentDiffusion, unet: LatentUNetShape, stage: FirstStageShape, embedder: Any) -> None:
    if not unet.channels == stage.channels == own.channels:
        raise InputError(
            f"the U-Net makes {unet.channels} channels, the first stage has {stage.channels}, the model says "
            f"{own.channels}; they must agree"
        )
    if unet.context != embedder.width:
        raise InputError(
            f"the U-Net reads tokens of {unet.context} values, its conditioning stage makes {embedder.width}"
        )
    if own.timesteps < 2 or not 0 < own.linear_start < own.linear_end < 1:
        raise InputError(f"no beta table has {own.timesteps} steps from {own.linear_start} to {own.linear_end}")


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


_UNETS: Mapping[str, Row[LatentUNetShape]] = {"ldm.modules.diffusionmodules.openaimodel.UNetModel": (_UNet, _unet)}
_STAGES: Mapping[str, Row[FirstStageShape]] = {
    "ldm.models.autoencoder.VQModelInterface": (_VQ, _vq),
    "ldm.models.autoencoder.AutoencoderKL": (_KL, _kl),
}
_EMBEDDERS: Mapping[str, Row[EmbedderShape]] = {
    "ldm.modules.encoders.modules.PatchEmbedder": (_Patch, _patch),
    "ldm.modules.encoders.modules.SSLEmbedder": (_PatchAndRegion, _patch_and_region),
    "ldm.modules.encoders.modules.EmbeddingViT2_5": (_Zoom, _zoom),
}


_TOLD_OTHERWISE = ("ldm.modules.encoders.modules.ClassEmbedder", "ldm.modules.encoders.modules.FrozenCLIPEmbedder")


def _class(target: _Target, known: Mapping[str, T], where: str) -> T:
    if target.target in _TOLD_OTHERWISE and target.target not in known:
        raise FormatError(
            f"{where}: class `{target.target}` makes a model that is told a class or a text; no grid describes its "
            "images, so it is no pipeline: run it from Python, `patchloom.importers.path_ldm.import_told`"
        )
    if target.target not in known:
        raise FormatError(f"{where}: class `{target.target}` is not run here; known are {', '.join(known)}")
    return known[target.target]


def _built(target: _Target, known: Mapping[str, Row[T]], where: str) -> T:
    kind, make = _class(target, known, where)
    return make(records.load(kind, target.params, f"{where}.params"))
