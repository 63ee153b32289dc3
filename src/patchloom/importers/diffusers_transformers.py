"""Transformers of diffusers: `DiTTransformer2DModel`, `PixArtTransformer2DModel`, and PixCell's, made of the last.

PixCell (Yellapragada et al. 2025) keeps its model in diffusers' layout with a class of its own: the tokens are the
embeddings of the cells of a window row by row, `caption_num_tokens` of them, to which places are added where there are
several (`y_pos_embed`), and `uncond_embedding` is what was learned for a window that is told nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from patchloom.errors import FormatError, InputError
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
from patchloom.importers.ldm_names import TRANSFORMER_BLOCK, Table, under
from patchloom.importers.lora import Lora, merged
from patchloom.networks.dit import DiT
from patchloom.networks.transformer import TransformerShape, places
from patchloom.networks.transformer_files import Transformer, build

DIT, PIXART, PIXCELL = "DiTTransformer2DModel", "PixArtTransformer2DModel", "PixCellTransformer2DModel"
_OLD = "Transformer2DModel"  # what both were called before; `norm_type` tells them apart
_PLACES = "pos_embed.pos_embed"  # older files hold what is computed
_OTHERS = ("cross_attention_dim", "attention_type", "caption_channels")  # of the old class, that DiT does not use
_NORMS = {DIT: "ada_norm_zero", PIXART: "ada_norm_single", PIXCELL: "ada_norm_single"}
_NEUTRAL: Mapping[str, Any] = {
    "norm_num_groups": ANY,
    "dropout": ANY,
    "upcast_attention": ANY,
    "double_self_attention": False,
    "only_cross_attention": False,
    "use_linear_projection": False,
    "num_vector_embeds": None,
}


def read_transformer(folder: Path, lora: Lora | None = None) -> Transformer:
    """Read a transformer, an adapter merged into it. Raises MissingError, or FormatError for what is not computed."""
    config = _settled(read_part(folder, DIT, PIXART, PIXCELL, _OLD))
    shape = shaped(_shape, config, folder)
    check_config(config, transformer_config(shape), _NEUTRAL, folder / CONFIG)

    def tidy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return _without_places(shape, folder, merged(tensors, lora))

    return read_network(folder, lambda: build(shape), transformer_names, tidy)


def export_transformer(network: Transformer, folder: Path) -> None:
    """Write a transformer as diffusers keeps it."""
    write_part(folder, transformer_config(network.shape), theirs(network, transformer_names(network)))


def transformer_config(shape: TransformerShape) -> dict[str, Any]:
    """What diffusers, or PixCell's authors, call a shape. Raises InputError for one that has no class there."""
    kind = _class(shape)
    config = {
        "_class_name": kind,
        "num_attention_heads": shape.heads,
        "attention_head_dim": shape.head_width,
        "in_channels": shape.channels,
        "out_channels": shape.channels * (2 if shape.variance else 1),
        "num_layers": shape.depth,
        "attention_bias": True,
        "sample_size": shape.side,
        "patch_size": shape.patch,
        "activation_fn": "gelu-approximate",
        "norm_type": _NORMS[kind],
        "norm_elementwise_affine": False,
        "norm_eps": shape.eps,
    }
    if kind == DIT:
        return config | {"num_embeds_ada_norm": shape.context}
    told = {
        "num_embeds_ada_norm": 1000,
        "cross_attention_dim": shape.width,
        "interpolation_scale": int(shape.spread) if shape.spread == int(shape.spread) else shape.spread,
        "use_additional_conditions": False,
        "caption_channels": shape.context,
        "attention_type": "default",
    }
    return config | told | ({"caption_num_tokens": shape.tokens} if kind == PIXCELL else {})


def transformer_names(network: Transformer) -> Table:
    """The table of a transformer."""
    table = {"patches.enter": "pos_embed.proj"}
    for number in range(network.shape.depth):
        table |= under(f"blocks.{number}", f"transformer_blocks.{number}", TRANSFORMER_BLOCK)
    return table | (_dit_names(network) if isinstance(network, DiT) else _pixart_names(network.shape))


def _dit_names(network: DiT) -> Table:
    table = {"patches.leave": "proj_out_2", "last": "proj_out_1"}
    for number in range(network.shape.depth):
        own, norm = f"told.{number}", f"transformer_blocks.{number}.norm1"
        table |= under(f"{own}.noise", f"{norm}.emb.timestep_embedder", {"first": "linear_1", "second": "linear_2"})
        table |= {f"{own}.classes": f"{norm}.emb.class_embedder.embedding_table", f"{own}.modulation": f"{norm}.linear"}
    return table


def _pixart_names(shape: TransformerShape) -> Table:
    both = {"first": "linear_1", "second": "linear_2"}
    return {
        "patches.leave": "proj_out",
        "modulation": "adaln_single.linear",
        "last_table": "scale_shift_table",
        "captions.places": "y_pos_embed.y_pos_embed",
        "captions.null": "caption_projection.uncond_embedding",
        **under("noise", "adaln_single.emb.timestep_embedder", both),
        **under("captions", "caption_projection", both),
        **{f"tables.{number}": f"transformer_blocks.{number}.scale_shift_table" for number in range(shape.depth)},
    }


def _class(shape: TransformerShape) -> str:
    if shape.told == "class":
        if shape.spread != 1:
            raise InputError(f"diffusers' DiT has places at whole numbers, not divided by {shape.spread}")
        return DIT
    if shape.tokens > 1 and not shape.null:
        raise InputError("a model told several tokens has no class in diffusers unless it has a learned null")
    return PIXCELL if shape.null else PIXART


def _settled(config: dict[str, Any]) -> dict[str, Any]:
    """The config with what diffusers puts in the place of a value that is not said, and today's name of its class."""
    kind, side = config["_class_name"], config.get("sample_size")
    if kind == _OLD:
        kind = next((name for name, norm in _NORMS.items() if norm == config.get("norm_type")), DIT)
        config = {"norm_eps": 1e-5} | config | {"_class_name": kind}
        if kind == DIT:
            config = {key: value for key, value in config.items() if key not in _OTHERS}
    if kind == DIT or not isinstance(side, int):
        return config
    settled = dict(config)
    if settled.get("interpolation_scale") is None:
        settled["interpolation_scale"] = max(side // 64, 1)
    if settled.get("use_additional_conditions") is None:
        settled["use_additional_conditions"] = side == 128
    return settled


def _shape(config: Mapping[str, Any]) -> TransformerShape:
    kind, channels = config["_class_name"], config["in_channels"]
    answers = channels if config.get("out_channels") is None else config["out_channels"]
    if answers not in (channels, 2 * channels):
        raise InputError(f"{answers} channels come out of {channels}; only as many, or twice as many, are known here")
    dit, pixcell = kind == DIT, kind == PIXCELL
    return TransformerShape(
        told="class" if dit else "tokens",
        context=config["num_embeds_ada_norm"] if dit else config["caption_channels"],
        channels=channels,
        heads=config["num_attention_heads"],
        head_width=config["attention_head_dim"],
        depth=config["num_layers"],
        patch=config["patch_size"],
        side=config["sample_size"],
        spread=1.0 if dit else float(config["interpolation_scale"]),
        variance=answers != channels,
        tokens=config["caption_num_tokens"] if pixcell else 1,
        null=pixcell,
        eps=config.get("norm_eps", 1e-5 if dit else 1e-6),
    )


def _without_places(shape: TransformerShape, folder: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights alone; places that are held beside them must be those that are computed."""
    held = tensors.get(_PLACES)
    if held is not None and not _are_ours(shape, held):
        raise FormatError(f"`{folder}` holds other places than its config says (`{_PLACES}`), which are not known here")
    return {name: value for name, value in tensors.items() if name != _PLACES}


def _are_ours(shape: TransformerShape, held: Tensor) -> bool:
    side = shape.side // shape.patch
    if held.shape != (1, side**2, shape.width):  # before anything as large as that is made
        return False
    return torch.allclose(held.float(), places((side, side), shape.width, side, shape.spread)[None], atol=1e-2)
