"""PathLDM (Yellapragada et al. 2024): the official layout of latent diffusion, told a class or a text.

Its U-Net and first stage are those of the large-image models. A canvas larger than a patch is told the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.diffusion.parametrisation import Preconditioned
from patchloom.errors import InputError
from patchloom.geometry import Box
from patchloom.importers.checkpoint import read_checkpoint
from patchloom.importers.latent_diffusion import config_of, find_checkpoint, fit
from patchloom.importers.ldm_classes import Row
from patchloom.importers.ldm_config import ModelSpec, conditioning_class, read_model
from patchloom.importers.ldm_names import Table, under
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.ldm_unet import LatentUNet
from patchloom.networks.path_told import ClassShape, ClassTold, TextShape, TextTold

Told: TypeAlias = ClassTold | TextTold
ToldShape: TypeAlias = ClassShape | TextShape

_VIT_B_32 = TextShape()
VERSIONS: dict[str, TextShape] = {
    "openai/clip-vit-base-patch32": _VIT_B_32,
    "vinid/plip": _VIT_B_32,
    "openai/clip-vit-base-patch16": _VIT_B_32,
    "openai/clip-vit-large-patch14": TextShape(width=768, heads=12, hidden=3072),
}
"""Text encoders that configs name, and what they are."""

_TEXT = {
    "words": "embeddings.token_embedding",
    "places": "embeddings.position_embedding",
    "norm": "final_layer_norm",
}
_TEXT_BLOCK = {
    "norm": "layer_norm1",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "feed_norm": "layer_norm2",
    "feed_in": "mlp.fc1",
    "feed_out": "mlp.fc2",
}


@dataclass(frozen=True, slots=True)
class _Class:
    embed_dim: int
    n_classes: int = 1000
    key: Any = None


@dataclass(frozen=True, slots=True)
class _Text:
    version: str = "openai/clip-vit-large-patch14"
    max_length: int = 77
    device: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class ToldDiffusion:
    """A model that is told a class or a text: networks in float32 and in evaluation."""

    spec: ModelSpec[ToldShape]
    network: LatentUNet
    autoencoder: FirstStage
    told: Told
    passengers: tuple[str, ...] = ()  # what the checkpoint held beside; a prefix of names ends in a dot

    @property
    def denoiser(self) -> Preconditioned[TokenCondition]:
        """Expected clean latents, as everything here speaks of them."""
        return Preconditioned(self.network, self.spec.parametrisation)


@dataclass(frozen=True, slots=True, eq=False)
class Everywhere:
    """The scene of a canvas that is told the same in all its windows."""

    condition_of_one: TokenCondition

    def condition(self, boxes: Sequence[Box]) -> TokenCondition:
        """The same tokens for each window."""
        one = self.condition_of_one
        return TokenCondition(*(part[:1].expand(len(boxes), -1, -1) for part in (one.tokens, one.nothing)))


def import_told(path: Path, config: Path | None = None, *, ema: bool | None = None) -> ToldDiffusion:
    """Read a folder of the official layout whose model is told a class or a text, or a checkpoint and its config.

    Raises MissingError or FormatError; nothing that a file says is executed.
    """
    file = find_checkpoint(path)
    spec = read_model(config or config_of(path), TOLD)
    with torch.device("meta"):
        told = ClassTold(spec.embedder) if isinstance(spec.embedder, ClassShape) else TextTold(spec.embedder)
    fitted = fit(spec, told, told_names(told), read_checkpoint(file), ema=ema)
    return ToldDiffusion(fitted.spec, fitted.network, fitted.autoencoder, told, fitted.passengers)


def is_told(path: Path, config: Path | None = None) -> bool:
    """Whether a checkpoint's config says that the model is told a class or a text; raises what `import_told` does."""
    return conditioning_class(config or config_of(path)) in TOLD


def told_names(network: Told) -> Table:
    """The table of the conditioning stage (theirs below `cond_stage_model.`)."""
    if isinstance(network, ClassTold):
        return {"tokens": "embedding"}
    table = dict(_TEXT)
    for number in range(len(network.blocks)):
        table |= under(f"blocks.{number}", f"encoder.layers.{number}", _TEXT_BLOCK)
    return {own: f"transformer.text_model.{theirs}" for own, theirs in table.items()}


def _class(own: _Class) -> ClassShape:
    return ClassShape(own.n_classes, own.embed_dim)


def _text(own: _Text) -> TextShape:
    shape = VERSIONS.get(own.version)
    if shape is None:
        raise InputError(f"text encoder `{own.version}` is not run here; known are {', '.join(VERSIONS)}")
    parts = -(-own.max_length // shape.length)
    return TextShape(shape.vocabulary, shape.width, shape.depth, shape.heads, shape.hidden, shape.length, parts)


TOLD: Mapping[str, Row[ToldShape]] = {
    "ldm.modules.encoders.modules.ClassEmbedder": (_Class, _class),
    "ldm.modules.encoders.modules.FrozenCLIPEmbedder": (_Text, _text),
}
"""The conditioning stages that are told a class or a text, by their names in configs."""
