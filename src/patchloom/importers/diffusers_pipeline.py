"""Whole pipelines of diffusers: `model_index.json`, a network, an autoencoder and the noise levels of a scheduler.

What is told to a network here are embeddings, so a pipeline that is told text is refused by name: its networks can be
read alone (`read_unet`, `read_transformer`). PixCell's released folders hold no weights of an autoencoder: theirs is
Stable Diffusion 3's, which its owners give out, and which is named beside the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.autoencoders.tiny import TinyAutoencoder
from patchloom.diffusion.parametrisation import Parametrisation
from patchloom.encoders.hub import snapshot
from patchloom.encoders.known import KNOWN
from patchloom.errors import FormatError, InputError, MismatchError, MissingError
from patchloom.importers.diffusers_files import CONFIG, WEIGHTS, read_mapping, write_mapping
from patchloom.importers.diffusers_folder import export_stage, export_unet, read_autoencoder, read_unet
from patchloom.importers.diffusers_scheduler import SCHEDULER, read_parametrisation, scheduler_config
from patchloom.importers.diffusers_transformers import export_transformer, read_transformer
from patchloom.importers.lora import Lora
from patchloom.networks.ldm_files import LatentDenoiser
from patchloom.networks.ldm_tokens import EmbedderShape, TokenEmbedder
from patchloom.networks.transformer_files import TransformerDenoiser

INDEX = "model_index.json"
HUB = "hub:"
PIXCELL, _UNI = "PixCellPipeline", "uni2-h"
_STAGES = ("vae", "vqvae")
_NO_INDEX = (
    "it says which parts a pipeline of diffusers has; name the folder that holds it, or fetch that whole (one part "
    "alone is read from Python, by `read_unet`, `read_transformer` or `read_autoencoder`)"
)
_PARTS = ("unet", "transformer", "scheduler", *_STAGES)
_PASSENGERS = ("safety_checker", "feature_extractor", "requires_safety_checker")
_FILES = (CONFIG, WEIGHTS, WEIGHTS.replace(".", "-*.", 1), "*.index.json")


@dataclass(frozen=True, slots=True, eq=False)
class DiffusersModel:
    """A pipeline's parts, in float32 and in evaluation."""

    parts: LatentDenoiser | TransformerDenoiser
    autoencoder: FirstStage | TinyAutoencoder
    patch_px: int  # side of the windows that it was trained on
    name: str  # what diffusers calls the pipeline
    left_out: tuple[str, ...] = ()  # components that change no picture here

    @property
    def guidance(self) -> float | None:
        """What PixCell's pipeline guides with by default, as those who use it say; None for any other."""
        return 1.5 if self.name == PIXCELL else None

    @property
    def encoder(self) -> str | None:
        """Whose embeddings it was trained on, where its class says so."""
        told = self.parts.network.shape.context
        return _UNI if self.name == PIXCELL and told == KNOWN[_UNI].dim else None


def find_folder(place: str | Path, *, autoencoder: bool = False) -> Path:
    """A folder on this machine, or that of `hub:OWNER/NAME` after its files were fetched, where they are not here yet.

    `autoencoder` asks for a repository's autoencoder alone. With HF_HUB_OFFLINE set nothing is fetched. Raises what
    `encoders.hub.snapshot` raises.
    """
    text = str(place)
    if not text.startswith(HUB):
        return Path(place)
    inside = [f"{part}/{file}" for part in (_STAGES if autoencoder else _PARTS) for file in _FILES]
    alone = [CONFIG, WEIGHTS] if autoencoder else [INDEX, SCHEDULER]
    return snapshot(text.removeprefix(HUB), [*inside, *alone], download=True)


def is_pipeline(folder: Path) -> bool:
    """Whether a folder is one of diffusers, be it whole, in part or one of its parts."""
    if any((folder / name).is_file() for name in (INDEX, f"unet/{CONFIG}", f"transformer/{CONFIG}")):
        return True
    return (folder / CONFIG).is_file() and "_class_name" in read_mapping(folder / CONFIG, "")


def import_diffusers(folder: Path, autoencoder: Path | None = None, lora: Lora | None = None) -> DiffusersModel:
    """Read a folder; `autoencoder` is that of another one, where it holds none, `lora` is merged into its network.

    Tokens are embeddings, one a window, or for PixCell one a cell; of a class-conditional DiT they are weights of its
    classes. Raises MissingError, FormatError for what is not computed here, MismatchError for another autoencoder.
    """
    index = read_mapping(folder / INDEX, _NO_INDEX)
    held = {name: value for name, value in index.items() if not name.startswith("_") and _is_there(value)}
    _check_parts(held, folder)
    parts, side = _denoiser(folder, held, read_parametrisation(folder), lora)
    stage = _stage(folder, held, autoencoder)
    if parts.network.shape.channels != stage.channels:
        raise MismatchError(
            f"`{folder}`: the network makes {parts.network.shape.channels} channels, the autoencoder reads "
            f"{stage.channels}; name the one that the network was trained with"
        )
    left_out = tuple(name for name in held if name in _PASSENGERS)
    return DiffusersModel(parts, stage, side * stage.factor, str(index.get("_class_name")), left_out)


def export_pipeline(model: DiffusersModel, folder: Path) -> None:
    """Write a folder that `import_diffusers` reads, and diffusers part by part; the index comes last.

    Raises InputError for what diffusers cannot say, such as the layers that make tokens of embeddings.
    """
    parts, stage = model.parts, model.autoencoder
    place = "vqvae" if isinstance(stage, FirstStage) and stage.shape.kind == "vq" else "vae"
    if isinstance(parts, TransformerDenoiser):
        export_transformer(parts.network, folder / "transformer")
    else:
        if not _is_plain(parts.embedder):
            raise InputError("diffusers has no class for the layers that make tokens; write the U-Net alone")
        export_unet(parts.network, folder / "unet")
    export_stage(stage, folder / place)
    write_mapping(folder / SCHEDULER, scheduler_config(parts.parametrisation))
    network = "transformer" if isinstance(parts, TransformerDenoiser) else "unet"
    classes = {part: _class_of(folder / part) for part in (network, place)}
    listed = {part: ["diffusers", name] for part, name in {**classes, "scheduler": "DDIMScheduler"}.items()}
    write_mapping(folder / INDEX, {"_class_name": model.name, **listed})


def _is_there(value: Any) -> bool:
    return value not in (None, False) and value != [None, None]


def _check_parts(held: Mapping[str, Any], folder: Path) -> None:
    odd = [name for name in held if name not in (*_PARTS, *_PASSENGERS)]
    if any("text" in name or "token" in name for name in odd):
        raise FormatError(
            f"`{folder / INDEX}`: this pipeline is told text ({', '.join(odd)}), and pipelines here are told "
            "embeddings; its networks can be read alone, by `read_unet`, `read_transformer` and `read_autoencoder`"
        )
    if odd or ("unet" in held) == ("transformer" in held):
        raise FormatError(
            f"`{folder / INDEX}`: components {', '.join(held)} are not run here; known are a unet or a transformer, "
            "an autoencoder and a scheduler"
        )


def _denoiser(
    folder: Path, held: Mapping[str, Any], parametrisation: Parametrisation, lora: Lora | None
) -> tuple[LatentDenoiser | TransformerDenoiser, int]:
    """The network as it is told, and the latents along the windows that it was trained on."""
    if "transformer" in held:
        network = read_transformer(folder / "transformer", lora)
        return TransformerDenoiser(network, parametrisation), network.shape.side
    unet = read_unet(folder / "unet", lora)
    side = read_mapping(folder / "unet" / CONFIG, "").get("sample_size")
    if not isinstance(side, int) or side < 1 or side % unet.shape.multiple:
        raise FormatError(f"`{folder / 'unet' / CONFIG}`: `sample_size` {side!r} is no side of windows for this U-Net")
    return LatentDenoiser(unet, _plain(unet.shape.context), parametrisation), side


def _plain(width: int) -> TokenEmbedder:
    """Embeddings that are tokens already; nothing said is zeros."""
    embedder = TokenEmbedder(EmbedderShape(width, None, width, normalise=False))
    with torch.no_grad():
        embedder.patch.weight.copy_(torch.eye(width))
        embedder.patch.bias.zero_()
    return embedder.eval().requires_grad_(False)


def _is_plain(embedder: TokenEmbedder) -> bool:
    shape = embedder.shape
    if shape.region is not None or shape.normalise or shape.patch != shape.width:
        return False
    return torch.equal(embedder.patch.weight, torch.eye(shape.width)) and not embedder.patch.bias.any()


def _stage(folder: Path, held: Mapping[str, Any], given: Path | None) -> FirstStage | TinyAutoencoder:
    own = next((folder / name for name in _STAGES if name in held or (folder / name).is_dir()), folder / "vae")
    if given is None:
        try:
            return read_autoencoder(own)
        except MissingError:
            raise MissingError(
                f"`{folder}` holds no whole autoencoder (`{own.name}`); name the one that it was trained with by "
                "--autoencoder (PixCell's is that of hub:stabilityai/stable-diffusion-3.5-large, to be asked for on "
                "its page)"
            ) from None
    inside = next((given / name for name in _STAGES if (given / name / CONFIG).is_file()), given)
    stage = read_autoencoder(inside)
    if (own / CONFIG).is_file():
        _check_same(read_mapping(own / CONFIG, ""), read_mapping(inside / CONFIG, ""), own, inside)
    return stage


def _check_same(own: Mapping[str, Any], given: Mapping[str, Any], place: Path, other: Path) -> None:
    """A folder that says how its autoencoder scales latents is given no other one."""
    for key in ("latent_channels", "scaling_factor", "shift_factor"):
        if own.get(key) != given.get(key):
            raise MismatchError(
                f"`{place / CONFIG}` says `{key}` {own.get(key)}, but that of `{other}` is {given.get(key)}: the "
                "network was trained with another autoencoder"
            )


def _class_of(folder: Path) -> str:
    return str(read_mapping(folder / CONFIG, "")["_class_name"])
