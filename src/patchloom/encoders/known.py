"""Encoders that the field uses: what they are called, and what their repositories' own files leave out.

Width, transform and licence are as the models' cards and papers state them; loading reads them again from the files,
and an entry here only supplies what those do not hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Pool = Literal["class token", "class token and mean of patches"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HIBOU = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))
_H_OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))

Number = int | float | bool | str


@dataclass(frozen=True, slots=True)
class KnownEncoder:
    """A pretrained encoder on the Hugging Face hub."""

    hub_id: str
    dim: int
    licence: str
    gated: bool = False  # ask on its page before it can be downloaded
    pixel_size: str | None = None  # what it was trained on mostly; None for photographs
    input_px: int = 224
    mean_std: tuple[tuple[float, float, float], tuple[float, float, float]] = IMAGENET
    pool: Pool = "class token"
    registers: int = 0
    # For timm, where the repository's config does not hold them; names of layers are resolved in `timm_models`.
    arguments: dict[str, Number] = field(default_factory=dict)


_SWIGLU: dict[str, Number] = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
_VIRCHOW = _SWIGLU | {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375, "global_pool": ""}
_UNI: dict[str, Number] = {"img_size": 224, "patch_size": 16, "init_values": 1e-5, "dynamic_img_size": True}
_UNI2 = _SWIGLU | {
    "img_size": 224,
    "patch_size": 14,
    "depth": 24,
    "num_heads": 24,
    "init_values": 1e-5,
    "embed_dim": 1536,
    "mlp_ratio": 2.66667 * 2,
    "no_embed_class": True,
    "reg_tokens": 8,
    "dynamic_img_size": True,
}
_BOTH: Pool = "class token and mean of patches"

KNOWN: dict[str, KnownEncoder] = {
    "dino-vits16": KnownEncoder("facebook/dino-vits16", 384, "Apache-2.0"),
    "dino-vitb16": KnownEncoder("facebook/dino-vitb16", 768, "Apache-2.0"),
    "dinov2-small": KnownEncoder("facebook/dinov2-small", 384, "Apache-2.0"),
    "dinov2-base": KnownEncoder("facebook/dinov2-base", 768, "Apache-2.0"),
    "dinov2-large": KnownEncoder("facebook/dinov2-large", 1024, "Apache-2.0"),
    "phikon": KnownEncoder("owkin/phikon", 768, "Owkin non-commercial", pixel_size="0.5um"),
    "phikon-v2": KnownEncoder("owkin/phikon-v2", 1024, "Owkin non-commercial", pixel_size="0.5um"),
    "hibou-b": KnownEncoder("histai/hibou-b", 768, "Apache-2.0", mean_std=_HIBOU, pixel_size="0.5um", registers=4),
    "hibou-l": KnownEncoder(
        "histai/hibou-L", 1024, "Apache-2.0", gated=True, mean_std=_HIBOU, pixel_size="0.5um", registers=4
    ),
    "uni": KnownEncoder("MahmoodLab/UNI", 1024, "CC-BY-NC-ND-4.0", gated=True, pixel_size="0.5um", arguments=_UNI),
    "uni2-h": KnownEncoder(
        "MahmoodLab/UNI2-h", 1536, "CC-BY-NC-ND-4.0", gated=True, pixel_size="0.5um", registers=8, arguments=_UNI2
    ),
    "virchow": KnownEncoder(
        "paige-ai/Virchow", 2560, "Apache-2.0", gated=True, pixel_size="0.5um", pool=_BOTH, arguments=_VIRCHOW
    ),
    "virchow2": KnownEncoder(
        "paige-ai/Virchow2",
        2560,
        "CC-BY-NC-ND-4.0",
        gated=True,
        pixel_size="0.5um",
        pool=_BOTH,
        registers=4,
        arguments=_VIRCHOW | {"reg_tokens": 4},
    ),
    "h-optimus-0": KnownEncoder(
        "bioptimus/H-optimus-0",
        1536,
        "Apache-2.0",
        gated=True,
        pixel_size="0.5um",
        mean_std=_H_OPTIMUS,
        registers=4,
        arguments={"init_values": 1e-5, "dynamic_img_size": False},
    ),
}


def known_by_hub_id(hub_id: str) -> KnownEncoder | None:
    """The entry of a repository; the hub does not tell capitals apart."""
    return next((entry for entry in KNOWN.values() if entry.hub_id.lower() == hub_id.lower()), None)
