"""The parts of latent diffusion as diffusers keeps them: `unet/`, and `vqvae/` or `vae/`, written and read back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape
from patchloom.autoencoders.tiny import TinyAutoencoder, TinyShape
from patchloom.errors import InputError
from patchloom.importers import diffusers_names as names
from patchloom.importers.diffusers_files import (
    ANY,
    CONFIG,
    check_config,
    read_network,
    read_part,
    shaped,
    theirs,
    write_part,
)
from patchloom.importers.latent_diffusion import LatentDiffusion
from patchloom.importers.lora import Lora, merged
from patchloom.networks.ldm_unet import LatentUNet, LatentUNetShape

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
    "addition_embed_type_num_heads": ANY,
    "dropout": ANY,
    "sample_size": ANY,
    "upcast_attention": ANY,
}
_TINY_NEUTRAL: Mapping[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "upsampling_scaling_factor": 2,
    "upsample_fn": "nearest",
    "block_out_channels": ANY,
    "latent_magnitude": ANY,  # of latents that are kept as bytes
    "latent_shift": ANY,
    "force_upcast": ANY,
}
_STAGE_NEUTRAL: Mapping[str, Any] = {
    "lookup_from_codebook": False,
    "latents_mean": None,
    "latents_std": None,
    "mid_block_add_attention": True,
    "norm_type": "group",
    "force_upcast": ANY,
    "sample_size": ANY,
}


def export_diffusers(model: LatentDiffusion, folder: Path) -> None:
    """Write `unet/` and `vqvae/` (or `vae/`). Raises InputError for sizes that diffusers cannot say."""
    export_unet(model.network, folder / "unet")
    export_stage(model.autoencoder, folder / ("vqvae" if model.autoencoder.shape.kind == "vq" else "vae"))


def export_unet(network: LatentUNet, folder: Path) -> None:
    """Write a `UNet2DConditionModel`. Raises InputError for sizes that diffusers cannot say."""
    write_part(folder, unet_config(network.shape), theirs(network, names.unet_names(network)))


def export_stage(network: FirstStage | TinyAutoencoder, folder: Path) -> None:
    """Write a `VQModel`, `AutoencoderKL` or `AutoencoderTiny`. Raises InputError for what diffusers cannot say."""
    if isinstance(network, TinyAutoencoder):
        write_part(folder, tiny_config(network.shape), theirs(network, names.tiny_names(network)))
    else:
        tensors = names.as_linear(theirs(network, names.stage_names(network)))
        write_part(folder, stage_config(network.shape), tensors)


def read_unet(folder: Path, lora: Lora | None = None) -> LatentUNet:
    """Read a `UNet2DConditionModel`, an adapter merged in. Raises MissingError, or FormatError for one not ours."""
    config = read_part(folder, "UNet2DConditionModel")
    shape = shaped(_unet_shape, config, folder)
    check_config(config, unet_config(shape), _UNET_NEUTRAL, folder / CONFIG)
    return read_network(folder, lambda: LatentUNet(shape), names.unet_names, partial(merged, lora=lora))


def read_stage(folder: Path) -> FirstStage:
    """Read a `VQModel` or an `AutoencoderKL`. Raises MissingError, or FormatError for one that is not ours."""
    config = read_part(folder, "VQModel", "AutoencoderKL")
    shape = shaped(_stage_shape, config, folder)
    check_config(config, stage_config(shape), _STAGE_NEUTRAL, folder / CONFIG)
    return read_network(folder, lambda: FirstStage(shape), names.stage_names, names.as_convolutions)


def read_tiny(folder: Path) -> TinyAutoencoder:
    """Read an `AutoencoderTiny`. Raises MissingError, or FormatError for one that is not ours."""
    config = read_part(folder, "AutoencoderTiny")
    shape = shaped(_tiny_shape, config, folder)
    check_config(config, tiny_config(shape), _TINY_NEUTRAL, folder / CONFIG)
    return read_network(folder, lambda: TinyAutoencoder(shape), names.tiny_names)


def read_autoencoder(folder: Path) -> FirstStage | TinyAutoencoder:
    """Read a `VQModel`, an `AutoencoderKL` or an `AutoencoderTiny`; raises what the three do."""
    config = read_part(folder, "VQModel", "AutoencoderKL", "AutoencoderTiny")
    return read_tiny(folder) if config["_class_name"] == "AutoencoderTiny" else read_stage(folder)


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
    mixed = {"use_quant_conv": shape.mixed, "use_post_quant_conv": shape.mixed}
    return config | {"shift_factor": shape.shift} | mixed


def tiny_config(shape: TinyShape) -> dict[str, Any]:
    """What diffusers calls a shape."""
    return {
        "_class_name": "AutoencoderTiny",
        "encoder_block_out_channels": list(shape.down),
        "decoder_block_out_channels": list(shape.up),
        "num_encoder_blocks": list(shape.down_blocks),
        "num_decoder_blocks": list(shape.up_blocks),
        "latent_channels": shape.channels,
        "act_fn": shape.activation,
        "scaling_factor": shape.scale,
        "shift_factor": shape.shift,
    }


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
        mixed=config.get("use_quant_conv", True),
    )


def _tiny_shape(config: Mapping[str, Any]) -> TinyShape:
    return TinyShape(
        channels=config["latent_channels"],
        down=tuple(config["encoder_block_out_channels"]),
        down_blocks=tuple(config["num_encoder_blocks"]),
        up=tuple(config["decoder_block_out_channels"]),
        up_blocks=tuple(config["num_decoder_blocks"]),
        activation=config["act_fn"],
        scale=config.get("scaling_factor", 1.0),
        shift=config.get("shift_factor") or 0.0,
    )
