"""Encoders that the field uses: what they are called, what they are, and where their weights are had.

Width, transform and licence are as the models' cards, papers and code state them. Where a repository's own files say
how pictures are prepared, those are read; an entry supplies what they do not hold. An entry with a `network` is run by
our own `ViT`, `Swin` or `Inception` from a file of weights; the others are read as transformers keeps them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from patchloom.encoders.inception import DIM as INCEPTION_DIM
from patchloom.encoders.inception import INPUT_PX as INCEPTION_PX
from patchloom.encoders.inception import InceptionShape
from patchloom.encoders.pixels import Filter
from patchloom.encoders.vit import ViTShape
from patchloom.encoders.vit_swin import SwinShape

Pool = Literal["class token", "class token and mean of patches", "mean"]
Side = Literal["student", "teacher"]
Shape: TypeAlias = ViTShape | SwinShape | InceptionShape

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_HIBOU = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))
_OF_128 = ((128 / 255,) * 3, (128 / 255,) * 3)  # (byte - 128) / 128, as the FID's network was fed from the start
_H_OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))

WEIGHTS = "PATCHLOOM_WEIGHTS"
"""The environment variable that names a folder of weights."""

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


@dataclass(frozen=True, slots=True)
class KnownEncoder:
    """A pretrained encoder: on the Hugging Face hub, or in a file that its authors give."""

    hub_id: str | None
    dim: int
    licence: str
    gated: bool = False  # ask on its page before it can be downloaded
    pixel_size: str | None = None  # what it was trained on mostly; None for photographs
    input_px: int = 224
    mean_std: tuple[tuple[float, float, float], tuple[float, float, float]] = IMAGENET
    filter: Filter = "bicubic"
    pool: Pool = "class token"
    network: Shape | None = None
    side: Side = "teacher"  # of a training run's checkpoint, the network that was released
    file: str | None = None  # what its authors call the file
    other_file: str | None = None  # what others call the same one
    source: str = ""  # where the file is had, where that is not the hub


_VITS = ViTShape(384, 12, 6, 1536)
_VITB = replace(_VITS, width=768, heads=12, hidden=3072)
_VITL = ViTShape(1024, 24, 16, 4096, scaled=True)
_DINOV2 = replace(_VITL, patch_px=14, grid=37, offset=0.1)
_VIRCHOW = ViTShape(1280, 32, 16, 3416, patch_px=14, grid=16, gated=True, scaled=True)
_UNI2 = replace(_VIRCHOW, width=1536, depth=24, heads=24, hidden=4096, registers=8, placed=0)
_HIBOU_B = replace(_VIRCHOW, width=768, depth=12, heads=12, hidden=2048, registers=4, antialias=True)
_BOTH: Pool = "class token and mean of patches"
_INCEPTION = KnownEncoder(
    None,
    INCEPTION_DIM,
    "Apache-2.0",
    input_px=INCEPTION_PX,
    mean_std=_OF_128,
    filter="bicubic-unclipped",
    pool="mean",
    network=InceptionShape(),
    file="pt_inception-2015-12-05-6726825d.pth",
    other_file="weights-inception-2015-12-05-6726825d.pth",
    source="the releases of mseitzer/pytorch-fid and toshas/torch-fidelity on GitHub hold it",
)
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_DINO = "facebookresearch/dino on GitHub lists it"

KNOWN: dict[str, KnownEncoder] = {
    "inception-v3": _INCEPTION,  # as clean-fid brings pictures to its size
    "inception-v3-tf1": replace(_INCEPTION, filter="bilinear-tf1"),  # as torch-fidelity does, and the first FID did
    "clip-vit-b32": KnownEncoder("openai/clip-vit-base-patch32", 512, "MIT", mean_std=_CLIP),
    "clip-vit-l14-336": KnownEncoder("openai/clip-vit-large-patch14-336", 768, "MIT", input_px=336, mean_std=_CLIP),
    "hipt-vit256": KnownEncoder(
        None,
        384,
        "Apache-2.0 with Commons Clause, academic use",
        pixel_size="0.5um",
        input_px=256,
        mean_std=_HALF,
        network=replace(_VITS, offset=0.1),
        file="vit256_small_dino.pth",
        source="mahmoodlab/HIPT on GitHub holds it in HIPT_4K/Checkpoints",
    ),
    "ibot-pancan": KnownEncoder(
        None,
        768,
        "Owkin non-commercial",
        pixel_size="0.5um",
        network=replace(_VITB, offset=0.1),
        side="student",
        file="ibot_vit_base_pancan.pth",
        source="owkin/HistoSSLscaling on GitHub links it; Phikon, on the hub, is of the same training",
    ),
    "ctranspath": KnownEncoder(
        None,
        768,
        "GPL-3.0",
        pixel_size="0.5um",
        filter="bilinear",
        pool="mean",
        network=SwinShape(),
        file="ctranspath.pth",
        source="Xiyue-Wang/TransPath on GitHub links it",
    ),
    "dino-vits16": KnownEncoder(
        "facebook/dino-vits16",
        384,
        "Apache-2.0",
        network=replace(_VITS, offset=0.1),
        file="dino_deitsmall16_pretrain.pth",
        source=_DINO,
    ),
    "dino-vitb16": KnownEncoder(
        "facebook/dino-vitb16",
        768,
        "Apache-2.0",
        network=replace(_VITB, offset=0.1),
        file="dino_vitbase16_pretrain.pth",
        source=_DINO,
    ),
    "dinov2-small": KnownEncoder(
        "facebook/dinov2-small",
        384,
        "Apache-2.0",
        network=replace(_DINOV2, width=384, depth=12, heads=6, hidden=1536),
        file="dinov2_vits14_pretrain.pth",
    ),
    "dinov2-base": KnownEncoder(
        "facebook/dinov2-base",
        768,
        "Apache-2.0",
        network=replace(_DINOV2, width=768, depth=12, heads=12, hidden=3072),
        file="dinov2_vitb14_pretrain.pth",
    ),
    "dinov2-large": KnownEncoder(
        "facebook/dinov2-large",
        1024,
        "Apache-2.0",
        network=_DINOV2,
        file="dinov2_vitl14_pretrain.pth",
    ),
    "dinov2-large-registers": KnownEncoder(
        "facebook/dinov2-with-registers-large",
        1024,
        "Apache-2.0",
        network=replace(_DINOV2, offset=0.0, registers=4, antialias=True),
        file="dinov2_vitl14_reg4_pretrain.pth",
    ),
    "phikon": KnownEncoder("owkin/phikon", 768, "Owkin non-commercial", pixel_size="0.5um", network=_VITB),
    "phikon-v2": KnownEncoder("owkin/phikon-v2", 1024, "Owkin non-commercial", pixel_size="0.5um"),
    "hibou-b": KnownEncoder(
        "histai/hibou-b",
        768,
        "Apache-2.0",
        mean_std=_HIBOU,
        pixel_size="0.5um",
        network=_HIBOU_B,
    ),
    "hibou-l": KnownEncoder(
        "histai/hibou-L",
        1024,
        "Apache-2.0",
        gated=True,
        mean_std=_HIBOU,
        pixel_size="0.5um",
        network=replace(_HIBOU_B, width=1024, depth=24, heads=16, hidden=2736),
    ),
    "uni": KnownEncoder(
        "MahmoodLab/UNI", 1024, "CC-BY-NC-ND-4.0", gated=True, pixel_size="0.5um", filter="bilinear", network=_VITL
    ),
    "uni2-h": KnownEncoder(
        "MahmoodLab/UNI2-h",
        1536,
        "CC-BY-NC-ND-4.0",
        gated=True,
        pixel_size="0.5um",
        filter="bilinear",
        network=_UNI2,
    ),
    "virchow": KnownEncoder(
        "paige-ai/Virchow", 2560, "Apache-2.0", gated=True, pixel_size="0.5um", pool=_BOTH, network=_VIRCHOW
    ),
    "virchow2": KnownEncoder(
        "paige-ai/Virchow2",
        2560,
        "CC-BY-NC-ND-4.0",
        gated=True,
        pixel_size="0.5um",
        pool=_BOTH,
        network=replace(_VIRCHOW, registers=4, placed=5),
    ),
    "h-optimus-0": KnownEncoder(
        "bioptimus/H-optimus-0",
        1536,
        "Apache-2.0",
        gated=True,
        pixel_size="0.5um",
        mean_std=_H_OPTIMUS,
        network=replace(_UNI2, depth=40, registers=4),
    ),
}


def known_by_hub_id(hub_id: str) -> KnownEncoder | None:
    """The entry of a repository; the hub does not tell capitals apart."""
    return next((entry for entry in KNOWN.values() if (entry.hub_id or "").lower() == hub_id.lower()), None)


def spec_name(name: str) -> str:
    """What grids and pipelines call an encoder that goes by several names: `hub:OWNER/NAME` where it is on the hub."""
    entry = KNOWN.get(name)
    return name if entry is None or entry.hub_id is None else f"hub:{entry.hub_id}"


def weights_folder() -> Path | None:
    """The user's folder of weights: what `PATCHLOOM_WEIGHTS` names."""
    named = os.environ.get(WEIGHTS)
    return Path(named).expanduser() if named else None


def kept_weights(name: str) -> Path | None:
    """The file of an encoder in the user's folder: as its authors call it, or NAME and a suffix of weights."""
    folder, entry = weights_folder(), KNOWN[name]
    if folder is None or entry.network is None:
        return None
    names = [*filter(None, (entry.file, entry.other_file)), *(f"{name}{suffix}" for suffix in _SUFFIXES)]
    return next((folder / each for each in names if (folder / each).is_file()), None)


def how_to_get(name: str) -> str:
    """Where the weights of a known encoder are had, and how they are named here; for messages."""
    entry = KNOWN[name]
    places = [f"`{entry.file}`: {entry.source}"] if entry.source else []
    if entry.hub_id:
        ask = "gated, ask on its page and `hf auth login`, then " if entry.gated else ""
        places.append(f"on the hub as {entry.hub_id}: {ask}`hf download {entry.hub_id}`")
    if entry.network is None:
        return "; or ".join(places)
    return f"{'; or '.join(places)}. A file that you have: `{name}:FILE`, or keep it in the folder {WEIGHTS} names"
