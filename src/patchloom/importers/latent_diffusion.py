"""The official layout of latent diffusion, `checkpoints/last.ckpt` and `configs/*-project.yaml`: in and out.

The config says the shapes, and the weights must fit them exactly: a name too many or too few is an error that lists it.
Networks are first laid out without memory, so a config that asks for more than the file holds is refused before
anything is allocated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from patchloom import weights
from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.diffusion.levels import ddpm_betas
from patchloom.diffusion.parametrisation import Preconditioned
from patchloom.errors import FormatError, MissingError
from patchloom.importers.checkpoint import Checkpoint, check_fit, listed, read_checkpoint
from patchloom.importers.ldm_config import LatentDiffusionSpec, ModelSpec, find_config, read_config
from patchloom.importers.ldm_names import Table, embedder_names, stage_names, to_ours, to_theirs, unet_names
from patchloom.networks.ldm_files import LatentDenoiser, make_embedder
from patchloom.networks.ldm_tokens import TokenCondition, TokenEmbedder
from patchloom.networks.ldm_unet import LatentUNet

E = TypeVar("E")
UNET, STAGE, EMBEDDER, EMA = "model.diffusion_model", "first_stage_model", "cond_stage_model", "model_ema"
_PASSENGERS = ("inception.", "loss.", f"{STAGE}.loss.", f"{EMA}.")
_NUMBERS = ".position_ids"  # 0, 1, 2, ..., as transformers once kept them
_TABLE = {  # what the beta table was made into, once, for speed
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "lvlb_weights",
    "logvar",
}


@dataclass(frozen=True, slots=True, eq=False)
class LatentDiffusion:
    """A model of the official layout: three networks, in float32 and in evaluation."""

    spec: LatentDiffusionSpec
    network: LatentUNet
    autoencoder: FirstStage
    embedder: TokenEmbedder
    passengers: tuple[str, ...] = ()  # what the checkpoint held beside; a prefix of names ends in a dot

    @property
    def denoiser(self) -> Preconditioned[TokenCondition]:
        """Expected clean latents, as everything here speaks of them."""
        return Preconditioned(self.network, self.spec.parametrisation)

    @property
    def parts(self) -> LatentDenoiser:
        """What a folder of ours keeps together."""
        return LatentDenoiser(self.network, self.embedder, self.spec.parametrisation)


def import_checkpoint(path: Path, config: Path | None = None, *, ema: bool | None = None) -> LatentDiffusion:
    """Read a folder of the official layout, or a checkpoint file and its config.

    `ema` chooses the averaged weights (True) or those last trained (False); by default the averaged, where the config
    says that they were kept. Raises MissingError or FormatError; nothing that a file says is executed.
    """
    file = find_checkpoint(path)
    return assemble(read_config(config or config_of(path)), read_checkpoint(file), ema=ema)


def config_of(path: Path) -> Path:
    """The config that belongs to a folder, or to a checkpoint file by its place; raises what `find_config` raises."""
    file = find_checkpoint(path)
    folder = path if path.is_dir() else file.parent.parent if file.parent.name == "checkpoints" else file.parent
    return find_config(folder)


def of_parts(
    parts: LatentDenoiser, stage: FirstStage, patch_px: int, *, averaged: bool = False, passengers: tuple[str, ...] = ()
) -> LatentDiffusion:
    """The model of a folder of ours again, to be exported: parts of `pipelines.imported.load_imported`."""
    spec = ModelSpec(
        unet=parts.network.shape,
        first_stage=stage.shape,
        embedder=parts.embedder.shape,
        parametrisation=parts.parametrisation,
        patch_px=patch_px,
        ema=averaged,
    )
    return LatentDiffusion(spec, parts.network, stage, parts.embedder, passengers)


def find_checkpoint(path: Path) -> Path:
    """The weights in a folder, or the file itself. Raises MissingError, or FormatError naming several."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise MissingError(f"there is no checkpoint `{path}`")
    last = path / "checkpoints" / "last.ckpt"
    if last.is_file():
        return last
    kinds = ("*.ckpt", "*.safetensors.index.json", "*.safetensors", "*.pt", "*.pth")
    for place, kind in ((place, kind) for place in (path / "checkpoints", path) for kind in kinds):
        found = sorted(place.glob(kind))
        if len(found) > 1:
            raise FormatError(
                f"there are {len(found)} checkpoints in `{place}`: {listed([p.name for p in found])}; name the file"
            )
        if found:
            return found[0]
    raise MissingError(
        f"there is no checkpoint in `{path}`: neither checkpoints/last.ckpt, *.ckpt, *.safetensors, *.pt nor *.pth, "
        "and no model_index.json of a folder of diffusers"
    )


def assemble(spec: LatentDiffusionSpec, checkpoint: Checkpoint, *, ema: bool | None = None) -> LatentDiffusion:
    """A model of a spec with a checkpoint's weights; its own spec says which of them, `ema` or the last.

    Raises FormatError where they do not fit one another.
    """
    with torch.device("meta"):
        embedder = make_embedder(spec.embedder)
    fitted = fit(spec, embedder, embedder_names(embedder), checkpoint, ema=ema)
    return LatentDiffusion(fitted.spec, fitted.network, fitted.autoencoder, embedder, fitted.passengers)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted(Generic[E]):
    """The networks of a checkpoint, filled, and what it held beside them."""

    spec: ModelSpec[E]
    network: LatentUNet
    autoencoder: FirstStage
    passengers: tuple[str, ...]


def fit(
    spec: ModelSpec[E], told: nn.Module, names: Table, checkpoint: Checkpoint, *, ema: bool | None = None
) -> Fitted[E]:
    """The networks of a spec with a checkpoint's weights; `told`, laid out without memory, is filled beside them.

    Raises FormatError where spec and weights do not fit one another.
    """
    tensors, path = dict(checkpoint.tensors), checkpoint.path
    _check_table(spec, tensors.get("betas"), path)
    spec = _scaled(spec, tensors, path)
    network, stage = lay_out(spec)
    tables = unet_names(network), stage_names(stage), names
    spec = replace(spec, ema=spec.ema if ema is None else ema)
    parts = list(zip((network, stage, told), tables, (UNET, STAGE, EMBEDDER), strict=True))
    expected = {name: value for part in parts for name, value in to_theirs(*part).items()}
    passengers = [name for name in tensors if name not in expected and _is_passenger(name)]
    held = {name: value for name, value in tensors.items() if name not in passengers}
    unet = to_theirs(network, tables[0], UNET)
    if not spec.ema or not unet.keys().isdisjoint(held):  # a file may hold the averaged ones alone
        check_fit(expected, held, path)
    if spec.ema:
        held |= _averaged(unet, tensors, path)
        check_fit(expected, held, path)
    for part, table, prefix in parts:
        own = {name: held[f"{prefix}.{name}"] for name in _below(prefix, expected)}
        weights.fill(part, to_ours(own, table), f"`{path}`")
    return Fitted(spec, network, stage, (*checkpoint.passengers, *_by_prefix(passengers)))


def lay_out(spec: ModelSpec[Any]) -> tuple[LatentUNet, FirstStage]:
    """The networks of a spec without memory for their weights."""
    with torch.device("meta"):
        return LatentUNet(spec.unet), FirstStage(spec.first_stage)


def export_state(model: LatentDiffusion) -> dict[str, Tensor]:
    """The model's tensors under the official names and the betas: what a checkpoint holds as its `state_dict`."""
    label = model.spec.parametrisation.label
    parts = (
        (model.network, unet_names(model.network), UNET),
        (model.autoencoder, stage_names(model.autoencoder), STAGE),
        (model.embedder, embedder_names(model.embedder), EMBEDDER),
    )
    betas = torch.from_numpy(ddpm_betas(label.steps, label.beta_first, label.beta_last)).float()
    beside = {"betas": betas}
    if model.spec.scale_in_weights:
        beside["scale_factor"] = torch.tensor(model.spec.first_stage.scale)
    return beside | {name: value for part in parts for name, value in to_theirs(*part).items()}


def _averaged(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The averaged weights under the names of those that they replace; theirs are kept with all dots taken out."""
    places = {f"{EMA}.{name.removeprefix('model.').replace('.', '')}": name for name in expected}
    missing = [place for place in places if place not in tensors]
    if missing:
        lacking = "none" if len(missing) == len(places) else f"not {listed(missing)}"
        raise FormatError(
            f"`{path}` should hold averaged weights (`{EMA}.`) but holds {lacking}; import those last trained with "
            "`--weights raw` if that is what you want"
        )
    return {name: tensors[place] for place, name in places.items()}


def _check_table(spec: ModelSpec[Any], betas: Tensor | None, path: Path) -> None:
    label = spec.parametrisation.label
    wanted = torch.from_numpy(ddpm_betas(label.steps, label.beta_first, label.beta_last))
    if betas is not None and (betas.shape != wanted.shape or not torch.allclose(betas.double(), wanted, rtol=1e-3)):
        raise FormatError(
            f"`{path}` was trained with another beta table than its config says ({label.steps} steps from "
            f"{label.beta_first} to {label.beta_last}); the config belongs to another checkpoint"
        )


def _scaled(spec: ModelSpec[E], tensors: dict[str, Tensor], path: Path) -> ModelSpec[E]:
    """The spec with the scale of latents that lies among the weights, where its config says so."""
    if not spec.scale_in_weights:
        return spec
    held = tensors.pop("scale_factor", None)
    if held is None or held.numel() != 1:
        raise FormatError(f"`{path}` lacks `scale_factor`, which its config says was measured in training")
    return replace(spec, first_stage=replace(spec.first_stage, scale=float(held)))


def _is_passenger(name: str) -> bool:
    return name in _TABLE or name.startswith(_PASSENGERS) or name.endswith(_NUMBERS)


def _by_prefix(names: list[str]) -> list[str]:
    """One name for those that are of a kind."""
    ends = {name: name.rpartition(".")[2] for name in names if name.endswith(_NUMBERS)}
    found = (next((p for p in _PASSENGERS if name.startswith(p)), ends.get(name, "beta table")) for name in names)
    return list(dict.fromkeys(found))


def _below(prefix: str, names: Mapping[str, Tensor]) -> list[str]:
    return [name.removeprefix(f"{prefix}.") for name in names if name.startswith(f"{prefix}.")]
