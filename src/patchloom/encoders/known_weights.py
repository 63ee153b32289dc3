"""Where the weights of known encoders lie on this machine, and where they are had."""

from __future__ import annotations

import os
from pathlib import Path

from patchloom.encoders.known import KNOWN

WEIGHTS = "PATCHLOOM_WEIGHTS"
"""The environment variable that names a folder of weights."""

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


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
