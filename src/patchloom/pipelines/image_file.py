"""From a grid to an image file; an interrupted run goes on by the same call."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from patchloom.errors import InputError
from patchloom.fields.directory import DirectoryStore, delete_store
from patchloom.fields.weave import Crew
from patchloom.geometry import Box
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.figures import Figures
from patchloom.loom.forecast import Forecast, forecast
from patchloom.loom.memory import Sparing
from patchloom.pipelines.decoding import tiling_of
from patchloom.pipelines.edit import Edit, latents_beside
from patchloom.pipelines.generate import (
    Advance,
    Image,
    canvas,
    figures_of,
    generate,
    part_of,
    plan_run,
    provenance,
    write,
)
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.settings import Settings
from patchloom.pyramids.tiles import Compression


def generate_file(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    path: Path,
    settings: Settings | None = None,
    *,
    only: Box | None = None,
    edit: Edit | None = None,
    save_latents: bool = False,
    work: Path | None = None,
    crew: Crew | None = None,
    compression: Compression | None = None,
    quality: int = 90,
    windows: Advance | None = None,
    rows: Advance | None = None,
) -> Image:
    """Make the image of a grid and write it by the suffix of `path`.

    The state of the run lies in the folder `work` (`.NAME.work` beside `path`, where None) until the file is whole:
    the same call goes on where an interrupted one ended. `windows` and `rows` hear of finished windows and rows.
    `only` makes a box of the image's pixels, `edit` makes a region of an earlier one anew, and `save_latents` keeps
    what a later edit needs as `NAME.latents` beside `path`.
    Raises what `generate` and `write` raise; InputError where latents of a part are to be kept, MismatchError where
    `work` holds a run with other settings.
    """
    settings, crew = settings or Settings(), crew or Sparing()
    if only is not None and save_latents:
        raise InputError("latents are kept of whole images: leave out either the part to make alone, or keeping them")
    folder = work or path.with_name(f".{path.name}.work")
    cost = estimate(pipeline, grid, settings, only=only, edit=edit)
    making = partial(generate, pipeline, grid, settings, only=only, edit=edit, crew=crew)
    saved = latents_beside(path) if save_latents else None
    with DirectoryStore(folder, provenance(pipeline, grid, settings, cost, only, edit)) as store:
        image = making(save=saved, store=store, progress=windows)
        write(image, path, compression=compression, quality=quality, progress=rows)
        if image.provenance.get("batch_portion") != crew.portion:  # memory ran out while the picture was written
            image = making(save=saved, store=store)
            write(image, path, compression=compression, quality=quality)
    delete_store(folder)
    return image


def estimate(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    settings: Settings,
    *,
    only: Box | None = None,
    edit: Edit | None = None,
) -> Figures:
    """What a run will cost, without running it; of a part or an edit, what that costs."""
    run = plan_run(pipeline, grid, settings, edit)
    return figures_of(pipeline, run, settings, part_of(pipeline, run, settings, only, edit))


def calibrate(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    settings: Settings,
    *,
    only: Box | None = None,
    edit: Edit | None = None,
) -> Forecast:
    """How long a run will take and how much memory, from a batch of each kind."""
    run = plan_run(pipeline, grid, settings, edit)
    part, tiling = part_of(pipeline, run, settings, only, edit), tiling_of(pipeline, settings, run.shape)
    return forecast(run, pipeline.autoencoder, part, tiling=tiling)


def decoder_passes(pipeline: Pipeline, grid: EmbeddingGrid, settings: Settings) -> int:
    """How often every tile goes through the decoder: more than once where exact norms are measured, and less deep."""
    frame = canvas(pipeline, grid)
    return tiling_of(pipeline, settings, (frame.height, frame.width)).passes
