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

Pooling = Literal["class token", "pooled map"]

# What stands for the picture, by the `model_type` of config.json. The class token is taken after the last norm and
# before any pooling layer: checkpoints of DINO and Phikon hold no trained one.
POOLING: dict[str, Pooling] = {
    "vit": "class token",
    "deit": "class token",
    "dinov2": "class token",
    "dinov2_with_registers": "class token",
    "dinov3_vit": "class token",
    "convnext": "pooled map",
    "convnextv2": "pooled map",
    "resnet": "pooled map",
}
_WITH_POOLING_LAYER = ("vit", "deit")
_HEADS = ("classifier.", "pooler.", "head.")  # left over from training, not part of the embedding


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
    network = _network(folder, kind)
    pooling = POOLING[kind]

    def embed(picture: Tensor) -> Tensor:
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


def _network(folder: ModelFolder, kind: str) -> Any:
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise DependencyError(f"`{folder.name}` needs more: pip install 'patchloom[hub]' ({error})") from error
    without_pooling = {"add_pooling_layer": False} if kind in _WITH_POOLING_LAYER else {}
    try:
        with _quiet():
            network, told = AutoModel.from_pretrained(
                str(folder.path),
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **without_pooling,
            )
    except (SafetensorError, ValueError, RuntimeError, OSError, KeyError, TypeError) as error:
        raise FormatError(f"`{folder.path}` could not be loaded as a `{kind}`: {error!s:.500}") from error
    check_weights(folder, told["missing_keys"], told["unexpected_keys"])
    return network.float()


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
