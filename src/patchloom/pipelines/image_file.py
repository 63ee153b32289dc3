"""From a grid to an image file; an interrupted run goes on by the same call."""

from __future__ import annotations

from pathlib import Path

from patchloom.errors import MismatchError
from patchloom.fields.directory import DirectoryStore, delete_store
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.figures import Figures
from patchloom.loom.run import figures
from patchloom.pipelines.generate import Advance, Image, Settings, generate, plan_run, provenance, write
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pyramids.tiles import Compression


def generate_file(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    path: Path,
    settings: Settings | None = None,
    *,
    work: Path | None = None,
    compression: Compression | None = None,
    quality: int = 90,
    windows: Advance | None = None,
    rows: Advance | None = None,
) -> Image:
    """Make the image of a grid and write it by the suffix of `path`.

    The state of the run lies in the folder `work` (`.NAME.work` beside `path`, where None) until the file is whole:
    the same call goes on where an interrupted one ended. `windows` and `rows` hear of finished windows and rows.
    Raises what `generate` and `write` raise; MismatchError where `work` holds a run with other settings.
    """
    settings = settings or Settings()
    folder = work or path.with_name(f".{path.name}.work")
    manifest = provenance(pipeline, grid, settings, estimate(pipeline, grid, settings))
    with _store(folder, manifest) as store:
        image = generate(pipeline, grid, settings, store=store, progress=windows)
        write(image, path, compression=compression, quality=quality, progress=rows)
    delete_store(folder)
    return image


def estimate(pipeline: Pipeline, grid: EmbeddingGrid, settings: Settings) -> Figures:
    """What a run will cost, without running it."""
    return figures(plan_run(pipeline, grid, settings), pipeline.record.factor)


def _store(folder: Path, manifest: dict[str, object]) -> DirectoryStore:
    try:
        return DirectoryStore(folder, manifest)
    except MismatchError as error:
        raise MismatchError(
            f"{error}. The folder keeps an image that was not finished: repeat that command to finish it, "
            f"or delete `{folder}`"
        ) from None
