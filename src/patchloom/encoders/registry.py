"""Encoders by name: our own, timm's, the hub's, or a folder on disk."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from patchloom.encoders.efficientnet import efficientnet_lite0
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.hub import ModelFolder, hub_folder, local_folder
from patchloom.encoders.huggingface import huggingface_encoder
from patchloom.encoders.known import KNOWN
from patchloom.encoders.timm_models import folder_encoder, timm_encoder
from patchloom.errors import FormatError, InputError

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

    A name is one of `ENCODERS`; one of `KNOWN`, such as `uni`; `timm:NAME`; `hub:OWNER/NAME`; or a folder that holds
    a config.json of transformers or timm beside weights. Nothing is fetched without `download`, and code that comes
    with weights is never run. Embeddings are float32 whatever the dtype. Raises InputError for a name that nobody has,
    DependencyError for a package that is not installed, MissingError for weights that are not on this machine, and
    FormatError for a folder whose parts do not fit.
    """
    if name in ENCODERS:
        return ENCODERS[name](device, dtype)
    kind, _, rest = name.partition(":")
    if kind == "timm" and rest:
        return timm_encoder(rest, device, dtype, download=download)
    if name in KNOWN:
        kind, rest = "hub", KNOWN[name].hub_id
    if kind == "hub" and rest:
        return _from_folder(hub_folder(rest, download=download), device, dtype)
    if Path(name).is_dir():
        return _from_folder(local_folder(Path(name)), device, dtype)
    raise InputError(_unknown(name))


def _from_folder(folder: ModelFolder, device: torch.device | str, dtype: torch.dtype) -> Encoder:
    if "architecture" in folder.config:
        return folder_encoder(folder, device, dtype)
    if "model_type" in folder.config:
        return huggingface_encoder(folder, device, dtype)
    raise FormatError(
        f"`{folder.path / 'config.json'}` names neither a `model_type` (transformers) nor an `architecture` (timm)"
    )


def _unknown(name: str) -> str:
    names = [*ENCODERS, *KNOWN]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(names)}, timm:NAME, hub:OWNER/NAME"
    return f"there is no encoder `{name}`, and no such folder; {hint}"
