"""Encoders that the field uses: what they are called, what they are, and where their weights are had. One table.

Network, width, transform and licence are as the models' cards, papers and code state them. An entry with a `network`
is run by our own `ViT`, `Swin` or `Inception` from a file of weights; the others are read as transformers keeps them.
Where a repository's own files say how pictures are prepared, those are read; an entry says what they do not hold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from patchloom.encoders.inception import DIM as INCEPTION_DIM
from patchloom.encoders.inception import INPUT_PX as INCEPTION_PX
from patchloom.encoders.inception import InceptionShape
from patchloom.encoders.pixels import Filter, Transform
from patchloom.encoders.vit import ViTShape
from patchloom.encoders.vit_swin import SwinShape

Pool = Literal["class token", "class token and mean of patches", "mean"]
Side = Literal["student", "teacher"]
Shape: TypeAlias = ViTShape | SwinShape | InceptionShape
Colours: TypeAlias = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation of R, G and B from 0 to 1."""

IMAGENET: Colours = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF: Colours = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_HIBOU: Colours = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))
_H_OPTIMUS: Colours = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
_CLIP: Colours = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_OF_128: Colours = ((128 / 255,) * 3, (128 / 255,) * 3)  # (byte - 128) / 128, as the FID's network always was fed


def _seen(px: int = 224, colours: Colours = IMAGENET, filter: Filter = "bicubic") -> Transform:
    """The whole picture brought to `px` on a side."""
    return Transform(px, px, *colours, filter)


_USUAL = _seen()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEncoder:
    """A pretrained encoder: on the Hugging Face hub, or in a file that its authors give."""

    dim: int  # values of an embedding
    network: Shape | None = None
    transform: Transform = _USUAL
    pool: Pool = "class token"
    pixel_size: str | None = None  # what it was trained on mostly; None for photographs
    licence: str
    gated: bool = False  # ask on its page before it can be downloaded
    hub_id: str | None = None
    file: str | None = None  # what its authors call the file
    other_file: str | None = None  # what others call the same one
    source: str = ""  # where the file is had, where that is not the hub
    side: Side = "teacher"  # of a training run's checkpoint, the network that was released


_BOTH: Pool = "class token and mean of patches"
_TISSUE = "0.5um"

# Sizes that several share: width, blocks, heads, values within a block. Then what sets a family apart.
_S16 = ViTShape(384, 12, 6, 1536, offset=0.1)
_B16 = ViTShape(768, 12, 12, 3072)
_L16 = ViTShape(1024, 24, 16, 4096, scaled=True)
_L14 = replace(_L16, patch_px=14, grid=37, offset=0.1)
_H14 = ViTShape(1280, 32, 16, 3416, patch_px=14, grid=16, gated=True, scaled=True)
_UNI2 = replace(_H14, width=1536, depth=24, heads=24, hidden=4096, registers=8, placed=0)
_HIBOU_B = replace(_H14, width=768, depth=12, heads=12, hidden=2048, registers=4, antialias=True)

_OWKIN, _NOT_COMMERCIAL = "Owkin non-commercial", "CC-BY-NC-ND-4.0"
_DINO = "facebookresearch/dino on GitHub lists it"
_INCEPTION = KnownEncoder(
    dim=INCEPTION_DIM,
    network=InceptionShape(),
    transform=_seen(INCEPTION_PX, _OF_128, "bicubic-unclipped"),
    pool="mean",
    licence="Apache-2.0",
    file="pt_inception-2015-12-05-6726825d.pth",
    other_file="weights-inception-2015-12-05-6726825d.pth",
    source="the releases of mseitzer/pytorch-fid and toshas/torch-fidelity on GitHub hold it",
)

KNOWN: dict[str, KnownEncoder] = {
    # What images are judged in: photographs. `inception-v3` is as clean-fid has it, `-tf1` as torch-fidelity has it.
    "inception-v3": _INCEPTION,
    "inception-v3-tf1": replace(_INCEPTION, transform=_seen(INCEPTION_PX, _OF_128, "bilinear-tf1")),
    "clip-vit-b32": KnownEncoder(
        dim=512,
        transform=_seen(colours=_CLIP),
        licence="MIT",
        hub_id="openai/clip-vit-base-patch32",
    ),
    "clip-vit-l14-336": KnownEncoder(
        dim=768,
        transform=_seen(336, _CLIP),
        licence="MIT",
        hub_id="openai/clip-vit-large-patch14-336",
    ),
    # Photographs, without labels.
    "dino-vits16": KnownEncoder(
        dim=384,
        network=_S16,
        licence="Apache-2.0",
        hub_id="facebook/dino-vits16",
        file="dino_deitsmall16_pretrain.pth",
        source=_DINO,
    ),
    "dino-vitb16": KnownEncoder(
        dim=768,
        network=replace(_B16, offset=0.1),
        licence="Apache-2.0",
        hub_id="facebook/dino-vitb16",
        file="dino_vitbase16_pretrain.pth",
        source=_DINO,
    ),
    "dinov2-small": KnownEncoder(
        dim=384,
        network=replace(_L14, width=384, depth=12, heads=6, hidden=1536),
        licence="Apache-2.0",
        hub_id="facebook/dinov2-small",
        file="dinov2_vits14_pretrain.pth",
    ),
    "dinov2-base": KnownEncoder(
        dim=768,
        network=replace(_L14, width=768, depth=12, heads=12, hidden=3072),
        licence="Apache-2.0",
        hub_id="facebook/dinov2-base",
        file="dinov2_vitb14_pretrain.pth",
    ),
    "dinov2-large": KnownEncoder(
        dim=1024,
        network=_L14,
        licence="Apache-2.0",
        hub_id="facebook/dinov2-large",
        file="dinov2_vitl14_pretrain.pth",
    ),
    "dinov2-large-registers": KnownEncoder(
        dim=1024,
        network=replace(_L14, offset=0.0, registers=4, antialias=True),
        licence="Apache-2.0",
        hub_id="facebook/dinov2-with-registers-large",
        file="dinov2_vitl14_reg4_pretrain.pth",
    ),
    # Tissue, that released models of this method were trained with.
    "hipt-vit256": KnownEncoder(
        dim=384,
        network=_S16,
        transform=_seen(256, _HALF),
        pixel_size=_TISSUE,
        licence="Apache-2.0 with Commons Clause, academic use",
        file="vit256_small_dino.pth",
        source="mahmoodlab/HIPT on GitHub holds it in HIPT_4K/Checkpoints",
    ),
    "ibot-pancan": KnownEncoder(
        dim=768,
        network=replace(_B16, offset=0.1),
        pixel_size=_TISSUE,
        licence=_OWKIN,
        file="ibot_vit_base_pancan.pth",
        source="owkin/HistoSSLscaling on GitHub links it; Phikon, on the hub, is of the same training",
        side="student",
    ),
    "ctranspath": KnownEncoder(
        dim=768,
        network=SwinShape(),
        transform=_seen(filter="bilinear"),
        pool="mean",
        pixel_size=_TISSUE,
        licence="GPL-3.0",
        file="ctranspath.pth",
        source="Xiyue-Wang/TransPath on GitHub links it",
    ),
    "uni": KnownEncoder(
        dim=1024,
        network=_L16,
        transform=_seen(filter="bilinear"),
        pixel_size=_TISSUE,
        licence=_NOT_COMMERCIAL,
        gated=True,
        hub_id="MahmoodLab/UNI",
    ),
    "uni2-h": KnownEncoder(
        dim=1536,
        network=_UNI2,
        transform=_seen(filter="bilinear"),
        pixel_size=_TISSUE,
        licence=_NOT_COMMERCIAL,
        gated=True,
        hub_id="MahmoodLab/UNI2-h",
    ),
    # Tissue, others.
    "phikon": KnownEncoder(dim=768, network=_B16, pixel_size=_TISSUE, licence=_OWKIN, hub_id="owkin/phikon"),
    "phikon-v2": KnownEncoder(dim=1024, pixel_size=_TISSUE, licence=_OWKIN, hub_id="owkin/phikon-v2"),
    "hibou-b": KnownEncoder(
        dim=768,
        network=_HIBOU_B,
        transform=_seen(colours=_HIBOU),
        pixel_size=_TISSUE,
        licence="Apache-2.0",
        hub_id="histai/hibou-b",
    ),
    "hibou-l": KnownEncoder(
        dim=1024,
        network=replace(_HIBOU_B, width=1024, depth=24, heads=16, hidden=2736),
        transform=_seen(colours=_HIBOU),
        pixel_size=_TISSUE,
        licence="Apache-2.0",
        gated=True,
        hub_id="histai/hibou-L",
    ),
    "virchow": KnownEncoder(
        dim=2560,
        network=_H14,
        pool=_BOTH,
        pixel_size=_TISSUE,
        licence="Apache-2.0",
        gated=True,
        hub_id="paige-ai/Virchow",
    ),
    "virchow2": KnownEncoder(
        dim=2560,
        network=replace(_H14, registers=4, placed=5),
        pool=_BOTH,
        pixel_size=_TISSUE,
        licence=_NOT_COMMERCIAL,
        gated=True,
        hub_id="paige-ai/Virchow2",
    ),
    "h-optimus-0": KnownEncoder(
        dim=1536,
        network=replace(_UNI2, depth=40, registers=4),
        transform=_seen(colours=_H_OPTIMUS),
        pixel_size=_TISSUE,
        licence="Apache-2.0",
        gated=True,
        hub_id="bioptimus/H-optimus-0",
    ),
}


def known_by_hub_id(hub_id: str) -> KnownEncoder | None:
    """The entry of a repository; the hub does not tell capitals apart."""
    return next((entry for entry in KNOWN.values() if (entry.hub_id or "").lower() == hub_id.lower()), None)


def spec_name(name: str) -> str:
    """What grids and pipelines call an encoder that goes by several names: `hub:OWNER/NAME` where it is on the hub."""
    entry = KNOWN.get(name)
    return name if entry is None or entry.hub_id is None else f"hub:{entry.hub_id}"
