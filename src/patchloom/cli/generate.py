"""`patchloom generate`: the large image."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from patchloom.cli import options
from patchloom.cli.output import emit, note
from patchloom.cli.progress import Advance, counted, progress
from patchloom.geometry import Box, PixelSize

if TYPE_CHECKING:  # torch
    from patchloom.grids.grid import EmbeddingGrid
    from patchloom.loom.figures import Figures
    from patchloom.pipelines.grids import Told
    from patchloom.pipelines.pipeline import Pipeline


@click.command()
@click.argument("pipeline")
@click.option("--grid", "grid_path", type=options.FILE, help="The embedding grid, or feature file, to follow.")
@click.option("--reference", type=options.FILE, help="A slide to embed and follow, in place of a grid.")
@options.region
@options.slide_pixel_size
@options.feature_file
@click.option("--stride", "stride_px", type=click.IntRange(1), help="With --reference: between cells, in px.")
@options.output("The image to write: .tif, .ome.tif or .png.", "image")
@options.seed
@options.steps
@options.sampler
@options.guidance
@click.option(
    "--null-every",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="With guidance: ask the network without its condition at every N-th step alone, and guide alike in between.",
)
@options.similarity_guidance
@click.option(
    "--plan",
    type=click.Choice(["halo", "shift", "average"]),
    help="How windows lie: cores with a halo on a moving lattice (the default), without one, or the paper's averages.",
)
@click.option(
    "--recipe",
    type=click.Choice(["official"]),
    help="Make it as the code of the CVPR 2024 paper does, faults included; for imported models of the paper.",
)
@click.option("--window", type=click.IntRange(1), help="Side of a window in latents; default: by the canvas.")
@click.option("--core", type=click.IntRange(1), help="Side of what is kept of a window; the stride of average.")
@click.option("--sync", type=click.IntRange(1), default=1, show_default=True, help="Steps between two meetings.")
@click.option(
    "--wrap",
    type=click.Choice(["x", "y", "both"]),
    help="Join the left edge to the right one (x), the upper to the lower (y): a picture that tiles without a seam.",
)
@click.option(
    "--norms",
    type=click.Choice(["frozen", "exact", "own"]),
    help="What an imported decoder's norms measure: a sample of the picture (frozen, the default), all of it, layer by "
    "layer (exact, for small ones), or each tile by itself (own).",
)
@click.option("--batch", type=click.IntRange(1), help="Windows denoised at once; default: 65,536 latents of them.")
@click.option("--compression", type=click.Choice(["jpeg", "deflate"]), help="Of TIFF; deflate keeps every pixel.")
@click.option("--quality", type=click.IntRange(1, 100), default=90, show_default=True, help="Of JPEG.")
@click.option(
    "--only",
    metavar="X,Y,WIDTH,HEIGHT",
    callback=options.parsed(Box.parse),
    help="Make this part of the image alone, in its pixels: equal to the crop of the whole.",
)
@click.option("--keep", type=options.FILE, help="An earlier image, made with --save-latents: --region is made anew.")
@click.option("--save-latents", is_flag=True, help="Keep what a later --keep needs, as NAME.latents beside the output.")
@click.option("--workers", type=click.IntRange(1), help="Processes that share the work; default: this one alone.")
@click.option("--cluster", metavar="ADDRESS", help="A dask scheduler whose workers share the work; extra `cluster`.")
@click.option("--work", type=options.FILE, help="Folder for the state of the run; default: beside the output.")
@click.option("--dry-run", is_flag=True, help="Print what the run will cost, and make nothing.")
@options.device
@options.dtype
@options.as_json
def generate(
    pipeline: str,
    *,
    grid_path: Path | None,
    reference: Path | None,
    region: Box | None,
    slide_pixel_size: PixelSize | None,
    grid_encoder: str | None,
    grid_patch: int | None,
    grid_tolerance: float | None,
    stride_px: int | None,
    output: Path,
    seed: int,
    steps: int | None,
    sampler: str | None,
    guidance: float | None,
    null_every: int,
    similarity: float,
    plan: Literal["halo", "shift", "average"] | None,
    recipe: Literal["official"] | None,
    window: int | None,
    core: int | None,
    sync: int,
    wrap: Literal["x", "y", "both"] | None,
    norms: Literal["frozen", "exact", "own"] | None,
    batch: int | None,
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
    from patchloom.pipelines.grids import Told
    from patchloom.pipelines.image_file import calibrate, decoder_passes, estimate, generate_file
    from patchloom.pipelines.settings import Settings, settled
    from patchloom.pipelines.workers import hire

    started = time.monotonic()
    _check_sources(grid_path, reference, region, keep)
    loaded = _load(pipeline, device, dtype)
    how = Settings(seed, sampler, steps, guidance, null_every=null_every, similarity=similarity, recipe=recipe)
    settings = replace(how, plan=plan, window=window, core=core, sync=sync, batch=batch, wrap=wrap, norms=norms)
    if norms is not None and settled(loaded, settings).norms is None:
        note(("--norms has no effect: this pipeline's decoder has no norms over the plane",))
    with progress() as bar:
        told = Told(grid_encoder, slide_pixel_size, grid_patch, grid_tolerance)
        grid = _grid(loaded, grid_path, reference, region, told, stride_px, bar("embed"))
        kept = (keep, region) if keep is not None and region is not None else None
        edit = open_edit(*kept) if kept is not None else None
        cost = estimate(loaded, grid, settings, only=only, edit=edit)
        height, width = size_of(loaded, grid, only)
        if not dry_run:
            with hire(workers, pipeline, loaded, grid, settings, keep=kept, cluster=cluster) as crew:
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
    facts = {"pixel_size": str(loaded.pixel_size), "size_px": [height, width], **_counts(cost)}
    if dry_run:
        ahead = calibrate(loaded, grid, settings, only=only, edit=edit)
        facts |= {"decoder_passes": decoder_passes(loaded, grid, settings)}
        facts |= {"peak_memory_bytes": ahead.peak_memory_bytes, "seconds": round(ahead.seconds, 1)}
    made = {} if dry_run else {"path": str(output), "seconds": round(time.monotonic() - started, 1)}
    emit({**facts, **made}, as_json)


def _check_sources(grid: Path | None, reference: Path | None, region: Box | None, keep: Path | None) -> None:
    if keep is not None and (grid is None or region is None):
        raise click.UsageError("--keep needs --grid and --region, the part of the image that is made anew")
    if keep is None and grid is not None and (reference, region) != (None, None):
        raise click.UsageError("--reference and --region take the place of --grid; give one or the other")


def _load(name: str, device: str, dtype: str) -> Pipeline:
    from patchloom.machine import choose_device, choose_dtype
    from patchloom.pipelines.pipeline import load_pipeline

    place = choose_device(device)
    loaded = load_pipeline(name, place, choose_dtype(dtype, place))
    note(loaded.doubts)
    return loaded


def _counts(cost: Figures) -> dict[str, float]:
    return {
        "windows": cost.windows,
        "background_windows": cost.background_windows,
        "network_evaluations": cost.network_evaluations,
        "evaluations_per_block": cost.evaluations_per_block,
        "evaluations_per_latent": cost.evaluations_per_latent,
    }


def _grid(
    pipeline: Pipeline,
    path: Path | None,
    reference: Path | None,
    region: Box | None,
    told: Told,
    stride_px: int | None,
    advance: Advance,
) -> EmbeddingGrid:
    from patchloom.pipelines.grids import doubts, open_grid
    from patchloom.pipelines.reference import embed_reference
    from patchloom.rasters.describe import doubts as unstated

    if path is not None:
        grid = open_grid(pipeline, path, told)
        note(doubts(pipeline, path, told))
        return grid
    if reference is None:
        raise click.UsageError("say what the image should show: either --grid or --reference")
    note(() if told.slide_pixel_size else unstated(reference))
    return embed_reference(
        pipeline.record,
        pipeline.encoder(),
        reference,
        stride_px=stride_px,
        slide_pixel_size=told.slide_pixel_size,
        region=region,
        progress=advance,
    )
