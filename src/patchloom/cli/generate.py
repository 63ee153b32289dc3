"""`patchloom generate`: the large image."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from patchloom.cli import options
from patchloom.cli.making import How, Source, how, source
from patchloom.cli.output import emit
from patchloom.cli.progress import counted, progress
from patchloom.cli.writing import Sharing, Writing, sharing, writing
from patchloom.geometry import Box

if TYPE_CHECKING:  # torch
    from patchloom.pipelines.request import Request


@click.command()
@click.argument("pipeline")
@source
@options.output("The image to write: .tif, .ome.tif or .png.", "image")
@how
@click.option(
    "--only",
    metavar="X,Y,WIDTH,HEIGHT",
    callback=options.parsed(Box.parse),
    help="Make this part of the image alone, in its pixels: equal to the crop of the whole.",
)
@click.option("--keep", type=options.FILE, help="An earlier image, made with --save-latents: --region is made anew.")
@writing
@sharing
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
    only: Box | None,
    keep: Path | None,
    writing: Writing,
    sharing: Sharing,
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
    from patchloom.pipelines.image_file import generate_file
    from patchloom.pipelines.request import Request

    started = time.monotonic()
    kept = source.kept(keep)
    loaded = how.drawing.pipeline(pipeline, device, dtype)
    settings = how.settings(loaded)
    with progress() as bar:
        grid = source.grid(loaded, bar("embed"))
        request = Request(loaded, grid, settings, only, None if kept is None else open_edit(*kept))
        facts = _facts(request)
        if not dry_run:
            windows = counted(bar("denoise"), request.figures.windows + request.figures.background_windows)
            rows = counted(bar("write"), request.size_px[0])
            with sharing.hire(pipeline, request, kept, how.drawing.autoguide) as crew:
                generate_file(request, output, crew=crew, windows=windows, rows=rows, **asdict(writing))
    if dry_run:
        facts |= _ahead(request)
    else:
        facts |= {"path": str(output), "seconds": round(time.monotonic() - started, 1)}
    emit(facts, as_json)


def _facts(request: Request) -> dict[str, Any]:
    """What is known of an image before any of it is made; with --only the two sizes differ."""
    cost = request.figures
    return {
        "pixel_size": str(request.pipeline.pixel_size),
        "size_px": list(request.size_px),
        "canvas_px": list(request.whole_px),
        "windows": cost.windows,
        "background_windows": cost.background_windows,
        "network_evaluations": cost.network_evaluations,
        "evaluations_per_block": cost.evaluations_per_block,
        "evaluations_per_latent": cost.evaluations_per_latent,
    }


def _ahead(request: Request) -> dict[str, Any]:
    """What only a trial of this machine can tell."""
    ahead = request.forecast()
    return {
        "decoder_passes": request.tiling.passes,
        "peak_memory_bytes": ahead.peak_memory_bytes,
        "seconds": round(ahead.seconds, 1),
    }
