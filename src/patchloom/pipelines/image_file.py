"""From a grid to an image file; an interrupted run goes on by the same call."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from patchloom.errors import InputError
from patchloom.fields.directory import DirectoryStore, delete_store
from patchloom.fields.weave import Crew
from patchloom.loom.memory import Sparing
from patchloom.pipelines.edit import latents_beside
from patchloom.pipelines.generate import Advance, Image, generate, write
from patchloom.pipelines.request import Request
from patchloom.pyramids.tiles import Compression


def generate_file(
    request: Request,
    path: Path,
    *,
    save_latents: bool = False,
    work: Path | None = None,
    crew: Crew | None = None,
    compression: Compression | None = None,
    quality: int = 90,
    windows: Advance | None = None,
    rows: Advance | None = None,
) -> Image:
    """Make the image of a request and write it by the suffix of `path`.

    The state of the run lies in the folder `work` (`.NAME.work` beside `path`, where None) until the file is whole:
    the same call goes on where an interrupted one ended. `windows` and `rows` hear of finished windows and rows.
    `save_latents` keeps what a later edit needs as `NAME.latents` beside `path`.
    Raises what `generate` and `write` raise; InputError where latents of a part are to be kept, MismatchError where
    `work` holds a run with other settings.
    """
    crew = crew or Sparing()
    if request.only is not None and save_latents:
        raise InputError("latents are kept of whole images: leave out either the part to make alone, or keeping them")
    folder = work or path.with_name(f".{path.name}.work")
    making = partial(generate, request, save=latents_beside(path) if save_latents else None, crew=crew)
    writing = partial(write, path=path, compression=compression, quality=quality)
    with DirectoryStore(folder, request.provenance()) as store:
        image = making(store=store, progress=windows)
        writing(image, progress=rows)
        if image.provenance.get("batch_portion") != crew.portion:  # memory ran out while the picture was written
            image = making(store=store)
            writing(image)
    delete_store(folder)
    return image
