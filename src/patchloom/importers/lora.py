"""Low-rank adapters (LoRA, Hu et al. 2022) as peft and diffusers keep them, merged into the weights that they change.

An adapter of a layer is two thin matrices, and the layer's weight becomes W + alpha / rank * B A. Files differ in what
stands before a layer's name (`transformer.`, `unet.`, `base_model.model.`) and in what the matrices are called
(`lora_A` and `lora_B`, `lora.down` and `lora.up`). Some hold the whole network beside them, as PixCell's virtual stains
do (`base_layer`): its weights are then those of the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from patchloom.errors import FormatError, InputError, MissingError
from patchloom.importers.checkpoint import listed, read_checkpoint
from patchloom.importers.diffusers_files import read_mapping
from patchloom.weights import digest

_BEFORE = re.compile(r"^(?:base_model\.model\.)?(?:(?:transformer|unet)\.)?")
_HALF = re.compile(r"^(.+?)\.(?:lora_(A|B)(?:\.[^.]+)?|lora[._](down|up))\.weight$")
_CONFIG, _METADATA = "adapter_config.json", "lora_adapter_metadata"
_OTHER = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias")  # not computed where they say so
_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True, slots=True, eq=False)
class Lora:
    """An adapter: for each layer its two matrices and what their product is multiplied by; and weights beside them.

    A strength of 1 is as it was trained, 0 leaves the layers as they are.
    """

    path: Path
    strength: float
    layers: Mapping[str, tuple[Tensor, Tensor, float]]  # B (out, rank), A (rank, in), alpha / rank
    beside: Mapping[str, Tensor]

    @property
    def told(self) -> str:
        """Which one it is: the file's name and digest, and the strength."""
        return f"{self.path.name} {digest(self.path)} at {self.strength:g}"


def read_lora(path: Path, strength: float = 1.0) -> Lora:
    """Read an adapter's file, or the folder that holds one.

    Raises MissingError or FormatError, and InputError for a strength that is no number.
    """
    if not abs(strength) < float("inf"):
        raise InputError(f"an adapter's strength is a number, 1 as it was trained, not {strength}")
    file = _file(path)
    tensors = {_BEFORE.sub("", name): value for name, value in read_checkpoint(file).tensors.items()}
    halves: dict[str, dict[bool, Tensor]] = {}
    alphas: dict[str, float] = {}
    beside: dict[str, Tensor] = {}
    for name, value in tensors.items():
        half = _HALF.match(name)
        if half is not None:
            halves.setdefault(half[1], {})[half[2] == "A" or half[3] == "down"] = value
        elif name.endswith(".alpha") and value.numel() == 1:
            alphas[name.removesuffix(".alpha")] = float(value)
        else:
            beside[name.replace(".base_layer.", ".")] = value
    if not halves:
        raise FormatError(f"`{file}` is no LoRA adapter: it names no `lora_A` and `lora_B`, nor `lora.down` and `.up`")
    told = _told(file)
    pairs = {layer: _pair(file, layer, both, alphas, told) for layer, both in halves.items()}
    return Lora(file, strength, pairs, beside)


def merged(tensors: Mapping[str, Tensor], lora: Lora | None) -> dict[str, Tensor]:
    """A network's tensors, by diffusers' names, with the adapter in them.

    Raises FormatError for an adapter of layers that the network has not, or has in other sizes.
    """
    if lora is None:
        return dict(tensors)
    found = {**tensors, **lora.beside}
    absent = [layer for layer in lora.layers if f"{layer}.weight" not in found]
    odd = [name for name in lora.beside if name not in tensors]
    if absent or odd:
        raise FormatError(f"`{lora.path}` adapts another network: this one has no {listed([*absent, *odd])}")
    for layer, (up, down, scale) in lora.layers.items():
        weight = found[f"{layer}.weight"]
        change = up.float().flatten(1) @ down.float().flatten(1)
        if change.numel() != weight.numel() or len(up) != len(weight):
            raise FormatError(
                f"`{lora.path}`: the adapter of `{layer}` is {tuple(up.shape)} by {tuple(down.shape)}, but its weight "
                f"is {tuple(weight.shape)}"
            )
        found[f"{layer}.weight"] = weight.float() + lora.strength * scale * change.reshape(weight.shape)
    return found


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    found = next((path / name for name in _FILES if (path / name).is_file()), None)
    if found is None:
        raise MissingError(f"there is no adapter `{path}` (a file, or a folder with {', '.join(_FILES)})")
    return found


def _told(file: Path) -> Mapping[str, Any]:
    """What is said of the adapter beside its weights: peft's config, or what diffusers writes into the file."""
    config = file.with_name(_CONFIG)
    if config.is_file():
        told = read_mapping(config, "")
    else:
        told = {key.rpartition(".")[2]: value for key, value in _metadata(file).items()}
    odd = [key for key in _OTHER if told.get(key)] + (["bias"] if told.get("bias", "none") != "none" else [])
    if odd:
        raise FormatError(f"`{file}`: an adapter with {', '.join(odd)} is not merged here")
    return told


def _metadata(file: Path) -> Mapping[str, Any]:
    if file.suffix != ".safetensors":
        return {}
    with safe_open(file, "pt") as held:
        text = (held.metadata() or {}).get(_METADATA, "{}")
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise FormatError(f"`{file}`: its `{_METADATA}` is no JSON mapping")
    return told


def _pair(
    file: Path, layer: str, both: Mapping[bool, Tensor], alphas: Mapping[str, float], told: Mapping[str, Any]
) -> tuple[Tensor, Tensor, float]:
    """Up, down and scale; an alpha that nobody states is the rank, as diffusers takes it."""
    down, up = both.get(True), both.get(False)
    if down is None or up is None or min(down.ndim, up.ndim) < 2 or len(down) != up.shape[1]:
        raise FormatError(f"`{file}`: the two matrices of `{layer}` are not there or do not fit one another")
    rank = len(down)
    alpha = alphas.get(layer, told.get("lora_alpha", rank))
    if not isinstance(alpha, int | float):
        raise FormatError(f"`{file}`: `lora_alpha` {alpha!r:.40} is no number")
    return up, down, float(alpha) / (sqrt(rank) if told.get("use_rslora") else rank)
