"""timm's models: by timm's own name, or from a folder whose config names a timm architecture.

Those that `known` describes as plain vision transformers (UNI, Virchow, ...) need no timm: `vit_models` runs them.
"""

from __future__ import annotations

import difflib
import math
from typing import Any

import torch
from torch import Tensor

from patchloom.encoders.encoder import EncoderSpec
from patchloom.encoders.hub import ModelFolder, hub_folder
from patchloom.encoders.huggingface import check_weights
from patchloom.encoders.network import NetworkEncoder, width
from patchloom.encoders.pixels import Filter, Transform
from patchloom.encoders.weights import files_digest, read_state
from patchloom.errors import DependencyError, FormatError, InputError

_FILTERS: dict[str, Filter] = {"bilinear": "bilinear", "bicubic": "bicubic"}


def timm_encoder(name: str, device: torch.device | str, dtype: torch.dtype, *, download: bool) -> NetworkEncoder:
    """The pretrained model that timm calls `name`, such as `vit_small_patch14_dinov2.lvd142m`.

    Raises DependencyError without timm and torchvision, InputError for a name that timm does not have weights for,
    MissingError as `hub_folder` does.
    """
    timm = _timm(f"timm:{name}")
    config = timm.get_pretrained_cfg(name, allow_unregistered=True) if timm.is_model(name.partition(".")[0]) else None
    if config is None or not config.hf_hub_id:
        near = difflib.get_close_matches(name, timm.list_models(pretrained=True), n=3)
        raise InputError(
            f"timm {timm.__version__} has no pretrained `{name}`; "
            f"{'did you mean ' + ' or '.join(f'`{n}`' for n in near) + '?' if near else 'see timm.list_models()'}"
        )
    folder = hub_folder(config.hf_hub_id, download=download)
    return folder_encoder(folder, device, dtype, name=f"timm:{name}")


def folder_encoder(
    folder: ModelFolder, device: torch.device | str, dtype: torch.dtype, *, name: str | None = None
) -> NetworkEncoder:
    """The encoder of a folder with `architecture` in its config. Raises DependencyError, InputError or FormatError."""
    name = name or folder.name
    network, pretrained = _network(folder, name)
    transform = timm_transform(folder, pretrained)

    def embed(picture: Tensor) -> Tensor:
        output: Tensor = network(picture)
        return output

    dim = width(network, embed, transform.crop_px, name)
    spec = EncoderSpec(
        name, dim, transform.crop_px, transform.mean, transform.std, folder.licence, files_digest(folder.weights)
    )
    return NetworkEncoder(spec, network, transform, embed, device=device, dtype=dtype)


def _timm(name: str) -> Any:
    try:
        import timm
    except Exception as error:  # a torchvision built for another torch fails with other kinds than ImportError
        raise DependencyError(
            f"encoder `{name}` needs timm, and timm needs a torchvision built for torch {torch.__version__}: "
            f"pip install 'patchloom[timm]' ({error})"
        ) from error
    return timm


def _network(folder: ModelFolder, name: str) -> tuple[Any, dict[str, Any]]:
    timm = _timm(name)
    architecture = str(folder.config["architecture"])
    if not timm.is_model(architecture):
        raise InputError(f"`{name}` is a `{architecture}`, which timm {timm.__version__} does not know; update timm")
    pretrained = folder.config.get("pretrained_cfg", folder.config)
    arguments = {key: value for key, value in (folder.config.get("model_args") or {}).items() if key != "num_classes"}
    try:
        network = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
        found = network.load_state_dict(read_state(folder.weights), strict=False)
    except (RuntimeError, TypeError, ValueError) as error:
        raise FormatError(f"`{folder.path}` could not be loaded as a `{architecture}`: {error!s:.500}") from error
    heads = pretrained.get("classifier") or "head"
    names = (heads,) if isinstance(heads, str) else tuple(heads)
    check_weights(folder, found.missing_keys, found.unexpected_keys, tuple(f"{head}." for head in names))
    return network, pretrained


def timm_transform(folder: ModelFolder, pretrained: dict[str, Any]) -> Transform:
    """What `pretrained_cfg`, or the entry, says is done to pictures. Raises FormatError where both are silent."""
    try:
        crop = int(pretrained["input_size"][1])
        mean, std = (tuple(float(part) for part in pretrained[key]) for key in ("mean", "std"))
        share = float(pretrained.get("crop_pct") or 1.0)
        interpolation = str(pretrained.get("interpolation", "bicubic"))
        if len(mean) != 3 or len(std) != 3 or not 0 < share <= 1:
            raise ValueError
    except (KeyError, TypeError, ValueError, IndexError):
        if folder.known is None:
            raise FormatError(
                f"`{folder.path / 'config.json'}` does not say the model's input_size, mean and std"
            ) from None
        return folder.known.transform
    if interpolation not in _FILTERS:
        raise FormatError(f"`{folder.path}`: interpolation `{interpolation}` is none of {', '.join(_FILTERS)}")
    return Transform(math.floor(crop / share), crop, mean, std, _FILTERS[interpolation])
