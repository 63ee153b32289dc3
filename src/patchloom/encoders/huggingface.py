"""Vision models in the format of Hugging Face transformers, without any code from the repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from patchloom.encoders.encoder import EncoderSpec
from patchloom.encoders.hub import ModelFolder
from patchloom.encoders.network import NetworkEncoder, width
from patchloom.encoders.preprocessor import transform_of
from patchloom.encoders.weights import files_digest
from patchloom.errors import DependencyError, FormatError, InputError

Pooling = Literal["class token", "pooled map", "image embedding"]

# What stands for the picture, by the `model_type` of config.json. The class token is taken after the last norm and
# before any pooling layer: checkpoints of DINO and Phikon hold no trained one. Of CLIP it is what is held against text,
# not scaled to length 1; of a vision tower without that projection, the class token after the last norm.
POOLING: dict[str, Pooling] = {
    "vit": "class token",
    "deit": "class token",
    "dinov2": "class token",
    "dinov2_with_registers": "class token",
    "dinov3_vit": "class token",
    "convnext": "pooled map",
    "convnextv2": "pooled map",
    "resnet": "pooled map",
    "clip": "image embedding",
    "clip_vision_model": "image embedding",
}
_WITH_POOLING_LAYER = ("vit", "deit")
_HEADS = ("classifier.", "pooler.", "head.")  # left over from training, not part of the embedding
_OF_TEXT = ("text_model.", "text_projection.", "logit_scale", "vision_model.embeddings.position_ids")
_PROJECTION = "visual_projection.weight"


def huggingface_encoder(folder: ModelFolder, device: torch.device | str, dtype: torch.dtype) -> NetworkEncoder:
    """The encoder of a folder with `model_type` in its config. Raises DependencyError, InputError or FormatError."""
    kind = str(folder.config.get("model_type"))
    if kind not in POOLING:
        own = " It brings code of its own, which Patchloom never runs." if "auto_map" in folder.config else ""
        raise InputError(
            f"`{folder.name}` is a model of type `{kind}`; known are {', '.join(POOLING)}.{own} "
            "If timm knows the model, use it as `timm:NAME`"
        )
    name = "preprocessor_config.json"
    transform = transform_of(folder.json(name), f"`{folder.path / name}`")
    pooling = POOLING[kind]
    network, projected = _network(folder, kind)

    def embed(picture: Tensor) -> Tensor:
        if pooling == "image embedding":
            seen: Tensor = network.vision_model(pixel_values=picture).pooler_output
            return network.visual_projection(seen) if projected else seen
        output = network(pixel_values=picture)
        chosen: Tensor = output.last_hidden_state[:, 0] if pooling == "class token" else output.pooler_output.flatten(1)
        return chosen

    dim = width(network, embed, transform.crop_px, folder.name)
    spec = EncoderSpec(
        folder.name,
        dim,
        transform.crop_px,
        transform.mean,
        transform.std,
        folder.licence,
        files_digest(folder.weights),
    )
    return NetworkEncoder(spec, network, transform, embed, device=device, dtype=dtype)


def _network(folder: ModelFolder, kind: str) -> tuple[Any, bool]:
    """The network, and, of CLIP, whether the folder holds the projection into the space that text shares."""
    try:
        from transformers import AutoModel, CLIPVisionModelWithProjection
    except ImportError as error:
        raise DependencyError(f"`{folder.name}` needs more: pip install 'patchloom[hub]' ({error})") from error
    clip = POOLING[kind] == "image embedding"
    how: dict[str, Any] = {"add_pooling_layer": False} if kind in _WITH_POOLING_LAYER else {}
    try:
        with _quiet():
            if kind == "clip":
                how["config"] = _of_pictures(folder)
            network, told = (CLIPVisionModelWithProjection if clip else AutoModel).from_pretrained(
                str(folder.path),
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **how,
            )
    except (SafetensorError, ValueError, RuntimeError, OSError, KeyError, TypeError) as error:
        raise FormatError(f"`{folder.path}` could not be loaded as a `{kind}`: {error!s:.500}") from error
    tower_alone = kind == "clip_vision_model" and _PROJECTION in told["missing_keys"]
    missing = set(told["missing_keys"]) - ({_PROJECTION} if tower_alone else set())
    check_weights(folder, missing, told["unexpected_keys"], _OF_TEXT if clip else _HEADS)
    return network.float(), not tower_alone


def _of_pictures(folder: ModelFolder) -> Any:
    """The config of a whole CLIP's vision tower; the width that it shares with text stands beside both."""
    from transformers import CLIPConfig

    whole = CLIPConfig.from_pretrained(str(folder.path), local_files_only=True)
    whole.vision_config.projection_dim = whole.projection_dim
    return whole.vision_config


def check_weights(folder: ModelFolder, missing: Any, unexpected: Any, heads: tuple[str, ...] = _HEADS) -> None:
    """FormatError that lists weights which the network lacks, or which belong to another one; heads do not count."""
    absent = sorted(key for key in missing if not key.startswith(heads))
    surplus = sorted(key for key in unexpected if not key.startswith(heads))
    for keys, what in ((absent, "lacks"), (surplus, "holds, though its config has no place for them,")):
        if keys:
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            raise FormatError(f"`{folder.path}` {what} {', '.join(keys[:5])}{more}: config and weights do not fit")


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and reports on stderr: what they say, `check_weights` says."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
