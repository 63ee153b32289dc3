"""`patchloom generate`: the large image."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from patchloom.cli import options
from patchloom.cli.making import How, Source, how, source
from patchloom.cli.output import emit
from patchloom.cli.progress import counted, progress
from patchloom.geometry import Box

if TYPE_CHECKING:  # torch
    from patchloom.loom.figures import Figures


@click.command()
@click.argument("pipeline")
@source
@options.output("The image to write: .tif, .ome.tif or .png.", "image")
@how
@click.option("--compression", type=click.Choice(["jpeg", "deflate"]), help="Of TIFF; deflate keeps every pixel.")
@click.option("--quality", type=options.Whole(1, 100), default=90, show_default=True, help="Of JPEG.")
@click.option(
    "--only",
    metavar="X,Y,WIDTH,HEIGHT",
    callback=options.parsed(Box.parse),
    help="Make this part of the image alone, in its pixels: equal to the crop of the whole.",
)
@click.option("--keep", type=options.FILE, help="An earlier image, made with --save-latents: --region is made anew.")
@click.option("--save-latents", is_flag=True, help="Keep what a later --keep needs, as NAME.latents beside the output.")
@click.option("--workers", type=options.Whole(1), help="Processes that share the work; default: this one alone.")
@click.option("--cluster", metavar="ADDRESS", help="A dask scheduler whose workers share the work; extra `cluster`.")
@click.option("--work", type=options.FILE, help="Folder for the state of the run; default: beside the output.")
@click.option("--dry-run", is_flag=True, help="Print what the run will cost, and make nothing.")
@options.device
@options.dtype
@options.as_json
def generate(
    pipeline: str,
    *,
    source: Source,
    output: Path,
    how: How,
    compression: Literal["jpeg", "deflate"] | None,
    quality: int,
    only: Box | None,
    keep: Path | None,
    save_latents: bool,
    workers: int | None,
    cluster: str | None,
    work: Path | None,
    dry_run: bool,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Make the large image that a grid, or a reference slide, describes.

    PIPELINE is a folder, or the name of a pipeline that comes with Patchloom. A georeferenced reference makes a
    GeoTIFF. The same command goes on with an image that was interrupted.
    """
    from patchloom.pipelines.edit import open_edit
    from patchloom.pipelines.generate import size_of
    from patchloom.pipelines.image_file import calibrate, decoder_passes, estimate, generate_file
    from patchloom.pipelines.workers import hire

    started = time.monotonic()
    source.check(keep)
    loaded = how.drawing.pipeline(pipeline, device, dtype)
    settings = how.settings(loaded)
    with progress() as bar:
        grid = source.grid(loaded, bar("embed"))
        kept = (keep, source.region) if keep is not None and source.region is not None else None
        edit = open_edit(*kept) if kept is not None else None
        cost = estimate(loaded, grid, settings, only=only, edit=edit)
        height, width = size_of(loaded, grid, only)
        if not dry_run:
            with hire(
                workers, pipeline, loaded, grid, settings, keep=kept, autoguide=how.drawing.autoguide, cluster=cluster
            ) as crew:
                generate_file(
                    loaded,
                    grid,
                    output,
                    settings,
                    only=only,
                    edit=edit,
                    save_latents=save_latents,
                    work=work,
                    crew=crew,
                    compression=compression,
                    quality=quality,
                    windows=counted(bar("denoise"), cost.windows + cost.background_windows),
                    rows=counted(bar("write"), height),
                )
    sizes = {"size_px": [height, width], "canvas_px": list(size_of(loaded, grid))}  # with --only they differ
    facts = {"pixel_size": str(loaded.pixel_size), **sizes, **_counts(cost)}
    if dry_run:
        ahead = calibrate(loaded, grid, settings, only=only, edit=edit)
        facts |= {"decoder_passes": decoder_passes(loaded, grid, settings)}
        facts |= {"peak_memory_bytes": ahead.peak_memory_bytes, "seconds": round(ahead.seconds, 1)}
    made = {} if dry_run else {"path": str(output), "seconds": round(time.monotonic() - started, 1)}
    emit({**facts, **made}, as_json)


def _counts(cost: Figures) -> dict[str, float]:
    return {
        "windows": cost.windows,
        "background_windows": cost.background_windows,
        "network_evaluations": cost.network_evaluations,
        "evaluations_per_block": cost.evaluations_per_block,
        "evaluations_per_latent": cost.evaluations_per_latent,
    }
