"""The official layout's YAML, read strictly: every key of a class that we run is known, and so is what it must say.

A class that is not in a table of `ldm_classes` is named and refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from patchloom import records
from patchloom.autoencoders.ldm_first_stage import FirstStageShape
from patchloom.diffusion.parametrisation import NoiseLabel, Parametrisation
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.importers.ldm_classes import EMBEDDERS, STAGES, UNETS, Row
from patchloom.networks.ldm_tokens import EmbedderShape
from patchloom.networks.ldm_unet import LatentUNetShape

T = TypeVar("T")
E = TypeVar("E")

_LONGEST = 1 << 20  # bytes of a config
_LARGEST, _MOST_STEPS = 1 << 13, 1 << 20  # latents along a trained image; noise levels: beyond is a mistake, or a trap
_TOLD_OTHERWISE = ("ldm.modules.encoders.modules.ClassEmbedder", "ldm.modules.encoders.modules.FrozenCLIPEmbedder")


@dataclass(frozen=True, slots=True)
class ModelSpec(Generic[E]):
    """Everything that a config says about a model and that matters once it is trained."""

    unet: LatentUNetShape
    first_stage: FirstStageShape
    embedder: E  # the shape of what makes the tokens
    parametrisation: Parametrisation
    patch_px: int  # side of the images that it was trained on
    ema: bool  # whether averaged weights were kept
    scale_in_weights: bool = False  # latents are scaled by a number that lies among the weights


LatentDiffusionSpec: TypeAlias = ModelSpec[EmbedderShape]
"""Of a model that is told embeddings; made as `ModelSpec(...)`."""


@dataclass(frozen=True, slots=True)
class _Target:
    target: str
    params: dict[str, Any]
    base_learning_rate: float | None = None


@dataclass(frozen=True, slots=True)
class _Project:
    model: _Target
    data: Any = None
    lightning: Any = None


@dataclass(frozen=True, slots=True)
class _LatentDiffusion:
    """Parameters that change nothing once a model is trained are `Any`."""

    unet_config: _Target
    first_stage_config: _Target
    cond_stage_config: _Target
    linear_start: float = 1e-4
    linear_end: float = 2e-2
    timesteps: int = 1000
    image_size: int = 256
    channels: int = 3
    conditioning_key: Literal["crossattn"] | None = None
    use_ema: bool = True
    scale_factor: float = 1.0
    scale_by_std: bool = False
    beta_schedule: Literal["linear"] = "linear"
    parameterization: Literal["eps", "x0", "v"] = "eps"
    num_timesteps_cond: Literal[1] | None = None
    learn_logvar: bool = False
    cond_stage_trainable: Any = None
    cond_stage_key: Any = None
    first_stage_key: Any = None
    scheduler_config: Any = None
    log_every_t: Any = None
    monitor: Any = None
    fid_path: Any = None
    track_fid: Any = None
    clip_denoised: Any = None
    loss_type: Any = None
    ckpt_path: Any = None
    ignore_keys: Any = None
    load_only_unet: Any = None
    p_uncond: Any = None
    x_feat_extracted: Any = None


def read_config(path: Path) -> LatentDiffusionSpec:
    """Read `*-project.yaml`. Raises MissingError, or FormatError naming the class, key or value that is refused."""
    return read_model(path, EMBEDDERS)


def conditioning_class(path: Path) -> str:
    """The class of a config's conditioning stage as it stands there, or nothing; raises what `read_config` does."""
    stage = _project(path).model.params.get("cond_stage_config")
    return str(stage.get("target", "")) if isinstance(stage, dict) else ""


def _project(path: Path) -> _Project:
    if path.is_file() and path.stat().st_size > _LONGEST:
        raise FormatError(f"`{path}` is {path.stat().st_size} bytes long, which no config is")
    try:
        return records.read_yaml(_Project, path)
    except RecursionError:
        raise FormatError(f"`{path}` nests deeper than a config does") from None


def read_model(path: Path, told: Mapping[str, Row[E]]) -> ModelSpec[E]:
    """Read `*-project.yaml` of a model whose conditioning stage is one of the classes `told`; raises the same."""
    project = _project(path)
    try:
        return _spec(project.model, told, str(path))
    except FormatError:
        raise
    except InputError as error:
        raise FormatError(f"`{path}`: {error}") from None


def find_config(folder: Path) -> Path:
    """The one config of a checkpoint's folder. Raises MissingError, or FormatError naming all where there are more."""
    places = (folder / "configs", folder)
    patterns = ("*-project.yaml", "*.yaml")
    for place, pattern in ((place, pattern) for place in places for pattern in patterns):
        found = sorted(path for path in place.glob(pattern) if not path.name.endswith("-lightning.yaml"))
        if len(found) > 1:
            listed = " and ".join(f"`{path}`" for path in found)
            raise FormatError(f"there are {len(found)} configs, {listed}; say which one with --config")
        if found:
            return found[0]
    raise MissingError(f"there is no config in `{folder}` (configs/*-project.yaml, or *.yaml); name it with --config")


def _spec(model: _Target, told: Mapping[str, Row[E]], where: str) -> ModelSpec[E]:
    place = f"{where}: model"
    kind = _class(model, {"ldm.models.diffusion.ddpm.LatentDiffusion": _LatentDiffusion}, place)
    own = records.load(kind, model.params, f"{place}.params")
    unet = _built(own.unet_config, UNETS, f"{place}.params.unet_config")
    stage = _built(own.first_stage_config, STAGES, f"{place}.params.first_stage_config")
    stage = records.load(FirstStageShape, records.dump(stage) | {"scale": own.scale_factor}, where)
    embedder = _built(own.cond_stage_config, told, f"{place}.params.cond_stage_config")
    _check(own, unet, stage, embedder)
    label = NoiseLabel("ddpm", own.timesteps, own.linear_start, own.linear_end)
    factor = 2 ** (len(stage.multipliers) - 1)
    return ModelSpec(
        unet=unet,
        first_stage=stage,
        embedder=embedder,
        parametrisation=Parametrisation(own.parameterization, label=label),
        patch_px=own.image_size * factor,
        ema=own.use_ema,
        scale_in_weights=own.scale_by_std,
    )


def _check(own: _LatentDiffusion, unet: LatentUNetShape, stage: FirstStageShape, embedder: Any) -> None:
    if not unet.channels == stage.channels == own.channels:
        raise InputError(
            f"the U-Net makes {unet.channels} channels, the first stage has {stage.channels}, the model says "
            f"{own.channels}; they must agree"
        )
    if unet.context != embedder.width:
        raise InputError(
            f"the U-Net reads tokens of {unet.context} values, its conditioning stage makes {embedder.width}"
        )
    if not 0 < own.image_size <= _LARGEST or own.image_size % unet.multiple:
        raise InputError(
            f"images of {own.image_size} latents (`image_size`) are no windows for this U-Net: their sides are "
            f"multiples of {unet.multiple}, up to {_LARGEST}"
        )
    if not 2 <= own.timesteps <= _MOST_STEPS or not 0 < own.linear_start < own.linear_end < 1:
        raise InputError(f"no beta table has {own.timesteps} steps from {own.linear_start} to {own.linear_end}")


def _class(target: _Target, known: Mapping[str, T], where: str) -> T:
    if target.target in _TOLD_OTHERWISE and target.target not in known:
        raise FormatError(
            f"{where}: class `{target.target}` makes a model that is told a class or a text, not embeddings: read it "
            "by `patchloom.importers.path_ldm.import_told`, or make a pipeline of it by `patchloom import`"
        )
    if target.target not in known:
        raise FormatError(f"{where}: class `{target.target}` is not run here; known are {', '.join(known)}")
    return known[target.target]


def _built(target: _Target, known: Mapping[str, Row[T]], where: str) -> T:
    kind, make = _class(target, known, where)
    return make(records.load(kind, target.params, f"{where}.params"))
