"""The names that others gave to the weights of a vision transformer, and ours.

Three families are known: timm's, DINO's, iBOT's and DINOv2's own, which differ little; ViT of transformers; and DINOv2
of transformers, with registers or without. A checkpoint of a training run holds a student and a teacher.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from patchloom.errors import FormatError

_WRAPPERS = ("module.", "backbone.", "vit.", "dinov2.", "model.")  # what trainers put around a network
_NOT_OURS = ("head.", "mask_token", "masked_embed", "embeddings.mask_token", "pooler.", "classifier.", "fc_norm.")
_WHOLE = {
    "cls_token": "class_token",
    "reg_token": "registers",
    "register_tokens": "registers",
    "pos_embed": "positions",
    "patch_embed.proj": "patches",
    "norm": "norm",
    "embeddings.cls_token": "class_token",
    "embeddings.register_tokens": "registers",
    "embeddings.position_embeddings": "positions",
    "embeddings.patch_embeddings.projection": "patches",
    "layernorm": "norm",
}
_IN_BLOCK = {
    "norm1": "norm",
    "attn.qkv": "joint",
    "attn.proj": "out",
    "ls1.gamma": "scale",
    "norm2": "feed_norm",
    "mlp.fc1": "feed_in",
    "mlp.fc2": "feed_out",
    "mlp.w12": "feed_in",
    "mlp.w3": "feed_out",
    "mlp.weights_in": "feed_in",
    "mlp.weights_out": "feed_out",
    "ls2.gamma": "feed_scale",
    "layernorm_before": "norm",
    "attention.attention.query": "joint.0",
    "attention.attention.key": "joint.1",
    "attention.attention.value": "joint.2",
    "attention.output.dense": "out",
    "layer_scale1.lambda1": "scale",
    "layernorm_after": "feed_norm",
    "intermediate.dense": "feed_in",
    "output.dense": "feed_out",
    "layer_scale2.lambda1": "feed_scale",
}
_BLOCK = re.compile(r"(?:blocks|encoder\.layer)\.(\d+)\.(.+)")
_SIDES = ("weight", "bias")


def network_of(held: Mapping[str, Any], side: str | None) -> dict[str, Tensor]:
    """The tensors of one network: of `side` (student, teacher) where the file is of a training run.

    Raises FormatError where nothing there is a network.
    """
    for entry in (side, "model", "state_dict"):
        if entry is not None and isinstance(held.get(entry), Mapping):
            held = held[entry]
            break
    tensors = {name: value for name, value in held.items() if isinstance(value, Tensor)}
    if not tensors:
        found = ", ".join(list(map(str, held))[:8]) or "nothing"
        raise FormatError(f"it holds no weights by name, but {found}")
    return tensors


def to_ours(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under our names, heads and tokens of masked training left out; an unknown name stays as it is."""
    renamed = {_renamed(_bare(name)): value for name, value in tensors.items() if not _bare(name).startswith(_NOT_OURS)}
    return _joined(renamed)


def _bare(name: str) -> str:
    while (found := next((prefix for prefix in _WRAPPERS if name.startswith(prefix)), None)) is not None:
        name = name.removeprefix(found)
    return name


def _renamed(name: str) -> str:
    block = _BLOCK.fullmatch(name)
    if block is None:
        return _by(_WHOLE, name)
    return f"blocks.{block[1]}.{_by(_IN_BLOCK, block[2])}"


def _by(table: Mapping[str, str], name: str) -> str:
    layer, _, last = name.rpartition(".")
    if last in _SIDES and layer in table:
        return f"{table[layer]}.{last}"
    return table.get(name, name)


def _joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values that came apart, put into one layer."""
    joined: dict[str, Tensor] = {}
    for name, value in tensors.items():
        apart = re.fullmatch(r"(.+\.joint)\.([012])\.(weight|bias)", name)
        if apart is None:
            joined[name] = value
            continue
        parts = [f"{apart[1]}.{number}.{apart[3]}" for number in range(3)]
        if apart[2] == "0" and all(part in tensors for part in parts):
            joined[f"{apart[1]}.{apart[3]}"] = torch.cat([tensors[part] for part in parts])
    return joined
