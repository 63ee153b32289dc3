"""Folders of diffusers: `unet/` and `vqvae/` or `vae/`, written so that diffusers loads them, and read back.

A folder's config must say what our networks do: a key that we do not know, or a value that we do not compute, is
refused by name. No code of diffusers is needed here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from patchloom import weights
from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.importers import diffusers_names as names
from patchloom.importers.checkpoint import read_checkpoint
from patchloom.importers.latent_diffusion import LatentDiffusion
from patchloom.importers.ldm_names import Table, to_ours, to_theirs
from patchloom.networks.ldm_unet import LatentUNet, LatentUNetShape

N = TypeVar("N", bound=nn.Module)
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
_ANY = object()

# What a config may say beside its sizes without changing what is computed.
_UNET_NEUTRAL: Mapping[str, Any] = {
    "reverse_transformer_layers_per_block": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "num_attention_heads": None,
    "class_embed_type": None,
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
    "num_class_embeds": None,
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "projection_class_embeddings_input_dim": None,
    "mid_block_only_cross_attention": None,
    "cross_attention_norm": None,
    "only_cross_attention": False,
    "dual_cross_attention": False,
    "use_linear_projection": False,
    "center_input_sample": False,
    "class_embeddings_concat": False,
    "resnet_skip_time_act": False,
    "mid_block_scale_factor": 1,
    "resnet_out_scale_factor": 1.0,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "attention_type": "default",
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "addition_embed_type_num_heads": _ANY,
    "dropout": _ANY,
    "sample_size": _ANY,
    "upcast_attention": _ANY,
}
_STAGE_NEUTRAL: Mapping[str, Any] = {
    "lookup_from_codebook": False,
    "latents_mean": None,
    "latents_std": None,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
    "norm_type": "group",
    "force_upcast": _ANY,
    "sample_size": _ANY,
}


def export_diffusers(model: LatentDiffusion, folder: Path) -> None:
    """Write `unet/` and `vqvae/` (or `vae/`). Raises InputError for sizes that diffusers cannot say."""
    unet, stage = model.network, model.autoencoder
    place = folder / ("vqvae" if stage.shape.kind == "vq" else "vae")
    _write(folder / "unet", unet_config(unet.shape), to_theirs(unet, names.unet_names(unet), "x"))
    _write(place, stage_config(stage.shape), names.as_linear(to_theirs(stage, names.stage_names(stage), "x")))


def read_unet(folder: Path) -> LatentUNet:
    """Read a `UNet2DConditionModel`. Raises MissingError, or FormatError for one that is not ours."""
    config = _config(folder, "UNet2DConditionModel")
    shape = _shape(_unet_shape, config, folder)
    _check(config, unet_config(shape), _UNET_NEUTRAL, folder)
    with torch.device("meta"):
        network = LatentUNet(shape)
    return _filled(network, names.unet_names(network), folder)


def read_stage(folder: Path) -> FirstStage:
    """Read a `VQModel` or an `AutoencoderKL`. Raises MissingError, or FormatError for one that is not ours."""
    config = _config(folder, "VQModel", "AutoencoderKL")
    shape = _shape(_stage_shape, config, folder)
    _check(config, stage_config(shape), _STAGE_NEUTRAL, folder)
    with torch.device("meta"):
        network = FirstStage(shape)
    return _filled(network, names.stage_names(network), folder)


def unet_config(shape: LatentUNetShape) -> dict[str, Any]:
    """What diffusers calls a shape. Its `attention_head_dim` counts heads."""
    if shape.multipliers[0] != 1:
        raise InputError("diffusers' U-Net enters at the width of its finest level: multipliers must begin with 1")
    down, up = names.unet_types(shape)
    return {
        "_class_name": "UNet2DConditionModel",
        "in_channels": shape.channels,
        "out_channels": shape.channels,
        "block_out_channels": list(shape.widths),
        "layers_per_block": list(shape.blocks),
        "down_block_types": down,
        "up_block_types": up,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "cross_attention_dim": shape.context,
        "attention_head_dim": [shape.heads or width // (shape.head_width or 1) for width in shape.widths],
        "transformer_layers_per_block": shape.depth,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "downsample_padding": 1,
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
        "act_fn": "silu",
    }


def stage_config(shape: FirstStageShape) -> dict[str, Any]:
    """What diffusers calls a shape."""
    down, up = names.stage_types(shape)
    config: dict[str, Any] = {
        "_class_name": "VQModel" if shape.kind == "vq" else "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": [shape.width * multiplier for multiplier in shape.multipliers],
        "layers_per_block": shape.blocks,
        "latent_channels": shape.inner,
        "norm_num_groups": 32,
        "act_fn": "silu",
        "scaling_factor": shape.scale,
    }
    if shape.multipliers[0] != 1:
        raise InputError("diffusers' first stages enter at the width of their finest level: multipliers begin with 1")
    if shape.kind == "vq":
        return config | {"num_vq_embeddings": shape.codes, "vq_embed_dim": shape.channels}
    if shape.inner != shape.channels:
        raise InputError(f"diffusers' AutoencoderKL has one number of channels, not {shape.inner} and {shape.channels}")
    return config | {"shift_factor": shape.shift}


def _unet_shape(config: Mapping[str, Any]) -> LatentUNetShape:
    widths, layers, heads = config["block_out_channels"], config["layers_per_block"], config["attention_head_dim"]
    ratios = {width / count for width, count in zip(widths, heads, strict=True)} if isinstance(heads, list) else set()
    alike = not isinstance(heads, list) or len(set(heads)) == 1
    if not alike and len(ratios) > 1:
        raise InputError(f"heads {heads} are neither of one number nor of one width")
    return LatentUNetShape(
        channels=config["in_channels"],
        width=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        blocks=tuple(layers) if isinstance(layers, list) else (layers,) * len(widths),
        attention=tuple(2**level for level, kind in enumerate(config["down_block_types"]) if kind.startswith("Cross")),
        heads=(heads[0] if isinstance(heads, list) else heads) if alike else None,
        head_width=None if alike else int(ratios.pop()),
        depth=config.get("transformer_layers_per_block", 1),
        context=config["cross_attention_dim"],
    )


def _stage_shape(config: Mapping[str, Any]) -> FirstStageShape:
    widths, inner = config["block_out_channels"], config["latent_channels"]
    vq = config["_class_name"] == "VQModel"
    return FirstStageShape(
        kind="vq" if vq else "kl",
        channels=(config.get("vq_embed_dim") or inner) if vq else inner,
        inner=inner,
        width=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        blocks=config["layers_per_block"],
        attention=tuple(2**level for level, kind in enumerate(config["down_block_types"]) if kind.startswith("Attn")),
        codes=config["num_vq_embeddings"] if vq else 0,
        scale=config.get("scaling_factor", 1.0),
        shift=config.get("shift_factor") or 0.0,
    )


def _config(folder: Path, *classes: str) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise MissingError(f"there is no `{path}`: a folder of diffusers has one in each of its parts")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"`{path}` is not JSON: {error}") from None
    if not isinstance(config, dict) or config.get("_class_name") not in classes:
        told = config.get("_class_name") if isinstance(config, dict) else config
        raise FormatError(f"`{path}`: class `{told!s:.80}` is not run here; known are {', '.join(classes)}")
    return config


def _shape(make: Any, config: Mapping[str, Any], folder: Path) -> Any:
    try:
        return make(config)
    except KeyError as error:
        raise FormatError(f"`{folder / CONFIG}` does not say {error}") from None
    except (InputError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise FormatError(f"`{folder / CONFIG}`: {error}") from None


def _check(config: Mapping[str, Any], wanted: Mapping[str, Any], neutral: Mapping[str, Any], folder: Path) -> None:
    """Every key of a config must be one that we compute, with the value that we compute it for."""
    known = {**neutral, **wanted}
    for key, value in config.items():
        if key.startswith("_") and key != "_class_name":
            continue
        if key not in known:
            raise FormatError(f"`{folder / CONFIG}`: `{key}` is not known here, so what it changes is not computed")
        expected = known[key]
        each = isinstance(expected, list) and not isinstance(value, list)  # one number stands for every level
        same = all(value == one for one in expected) if each else value == expected
        unsaid = value is None and key in ("shift_factor", "vq_embed_dim")
        if expected is not _ANY and not (same or unsaid):
            raise FormatError(f"`{folder / CONFIG}`: `{key}` is {value!r:.80}; only {expected!r:.80} is computed here")


def _filled(network: N, table: Table, folder: Path) -> N:
    path = folder / WEIGHTS
    index = folder / f"{WEIGHTS}.index.json"
    tensors = read_checkpoint(index if index.is_file() else path).tensors
    if isinstance(network, FirstStage):
        tensors = names.as_convolutions(tensors)
    ours = to_ours(tensors, table)
    weights.load_exactly(network, {name: value.to("meta") for name, value in ours.items()}, f"`{path}`")
    weights.load_exactly(network.to_empty(device="cpu"), ours, f"`{path}`")
    return network.eval().requires_grad_(False)


def _write(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_tensors({name.removeprefix("x."): value for name, value in tensors.items()}, folder / WEIGHTS)
    part = folder / f".{CONFIG}.part"
    part.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / CONFIG)
