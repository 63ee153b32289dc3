"""Encoders by name: our own, timm's, the hub's, or a folder on disk."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from patchloom.encoders.coloured import SUFFIX, coloured
from patchloom.encoders.efficientnet import efficientnet_lite0
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.hub import ModelFolder, hub_folder, local_folder
from patchloom.encoders.huggingface import POOLING, huggingface_encoder
from patchloom.encoders.known import KNOWN, KnownEncoder
from patchloom.encoders.known_weights import how_to_get, kept_weights
from patchloom.encoders.pixels import Transform
from patchloom.encoders.preprocessor import transform_of
from patchloom.encoders.timm_models import folder_encoder, timm_encoder, timm_transform
from patchloom.encoders.trained import is_trained, trained_encoder
from patchloom.encoders.vit_models import file_encoder, vit_encoder
from patchloom.errors import FormatError, InputError, MissingError

DEFAULT = "efficientnet-lite0"

ENCODERS: dict[str, Callable[[torch.device | str, torch.dtype], Encoder]] = {
    DEFAULT: efficientnet_lite0,
    f"{DEFAULT}-128": partial(efficientnet_lite0, input_px=128),
}


def load_encoder(
    name: str = DEFAULT,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    download: bool = False,
) -> Encoder:
    """The encoder called `name`, its network on `device`, computing in `dtype` (float32, bfloat16 or float16).

    A name is one of `ENCODERS`; one of `KNOWN`, such as `uni`; one of them and a file of its weights, `uni:FILE`;
    `timm:NAME`; `hub:OWNER/NAME`; or a folder: one that `patchloom train` wrote, or one with a config.json of
    transformers or timm beside weights. Any of them and `+colour` is that encoder which also says colours. The weights
    of a known encoder are looked for in the folder that PATCHLOOM_WEIGHTS names, then in the hub's cache. Nothing is
    fetched without `download`, and code that comes with weights is never run. Embeddings are float32 whatever the
    dtype. Raises InputError for a name that nobody has, DependencyError for a package that is not installed,
    MissingError for weights that are not on this machine, and FormatError for a folder whose parts do not fit.
    """
    if name.endswith(SUFFIX):
        return coloured(load_encoder(name.removesuffix(SUFFIX), device, dtype, download=download))
    if name in ENCODERS:
        return ENCODERS[name](device, dtype)
    return _found(name, device, dtype, download)


def _found(name: str, device: torch.device | str, dtype: torch.dtype, download: bool) -> Encoder:
    """An encoder that does not come with Patchloom."""
    kind, _, rest = name.partition(":")
    if kind == "timm" and rest:
        return timm_encoder(rest, device, dtype, download=download)
    if kind in KNOWN and (rest or kept_weights(kind)):
        return file_encoder(kind, Path(rest or kept_weights(kind) or "").expanduser(), device, dtype)
    if name in KNOWN:
        kind, rest = "hub", KNOWN[name].hub_id or ""
        if not rest:
            raise MissingError(f"the weights of `{name}` are not on this machine: {how_to_get(name)}")
    if kind == "hub" and rest:
        return _from_folder(hub_folder(rest, download=download), device, dtype)
    if is_trained(Path(name)):
        return trained_encoder(Path(name), device, dtype)
    if Path(name).is_dir():
        return _from_folder(local_folder(Path(name)), device, dtype)
    raise InputError(_unknown(name))


def _from_folder(folder: ModelFolder, device: torch.device | str, dtype: torch.dtype) -> Encoder:
    known = folder.known
    if known is not None and known.network is not None and not _of_transformers(folder):
        return vit_encoder(folder.name, folder.weights, known, _transform(folder, known), device, dtype)
    if "architecture" in folder.config:
        return folder_encoder(folder, device, dtype)
    if "model_type" in folder.config:
        return huggingface_encoder(folder, device, dtype)
    raise FormatError(
        f"`{folder.path / 'config.json'}` names neither a `model_type` (transformers) nor an `architecture` (timm)"
    )


def _of_transformers(folder: ModelFolder) -> bool:
    """Whether transformers itself has the class; code of a repository's own may only resemble the type that it says."""
    return folder.config.get("model_type") in POOLING and "auto_map" not in folder.config


def _transform(folder: ModelFolder, known: KnownEncoder) -> Transform:
    """As the folder's own files say, as far as they do."""
    if "architecture" in folder.config:
        return timm_transform(folder, folder.config.get("pretrained_cfg", folder.config))
    if (folder.path / "preprocessor_config.json").is_file():
        return transform_of(folder.json("preprocessor_config.json"), f"`{folder.path}`")
    return known.transform


def _unknown(name: str) -> str:
    if name in ("text", "class"):
        return f"a pipeline of encoder `{name}` is told in words, not by pictures; make a grid by `patchloom describe`"
    names = [*ENCODERS, *KNOWN]
    near = difflib.get_close_matches(name, names, n=1)
    forms = "NAME:FILE, timm:NAME, hub:OWNER/NAME"
    hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(names)}, {forms}"
    return f"there is no encoder `{name}`, and no such folder; {hint}"
