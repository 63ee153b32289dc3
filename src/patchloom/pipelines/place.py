"""Where a pipeline may be written: never over what is not one. No torch, so that it is asked before any work."""

from __future__ import annotations

import os
from pathlib import Path

from patchloom.errors import InputError
from patchloom.pipelines.record import AUTOENCODER, DENOISER, ENCODER, RECORD, TOLD

_SAID = 4  # names that a message lists
_STOPPED = {AUTOENCODER, DENOISER, ENCODER, TOLD, "README.md", ".DS_Store"}  # what a writing that was stopped leaves


def check_place(folder: Path) -> None:
    """Raise InputError unless `folder` is new, empty, or a pipeline, which is then replaced, and may be written."""
    if folder.is_dir():
        held = {path.name for path in folder.iterdir()}
        if RECORD not in held and not (held <= _STOPPED and held != {"README.md"}):
            listed = ", ".join(sorted(held)[:_SAID]) + (", ..." if len(held) > _SAID else "")
            raise InputError(f"`{folder}` holds other things than a pipeline ({listed}); name a new folder")
    elif folder.exists():
        raise InputError(f"`{folder}` is a file; name a folder to write into")
    above = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not above.is_dir():
        raise InputError(f"`{folder}` cannot be made: `{above}` is a file; name another folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"`{folder}` cannot be written: you may not write into `{above}`; name another folder")
