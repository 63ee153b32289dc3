"""`patchloom embed`: a slide to its embedding grid."""

from __future__ import annotations

from pathlib import Path

import click

from patchloom.cli import options
from patchloom.cli.output import emit
from patchloom.cli.progress import progress
from patchloom.geometry import Box, PixelSize
from patchloom.rasters import describe as describe_raster
from patchloom.rasters.cells import Mode


@click.command()
@click.argument("slide", type=options.FILE)
@options.output("The grid to write, such as slide.grid.")
@options.pixel_size
@options.slide_pixel_size
@options.region
@click.option(
    "--patch", "cell_px", type=click.IntRange(1), default=256, show_default=True, help="Side of a cell in px."
)
@click.option(
    "--stride", "stride_px", type=click.IntRange(1), help="From one cell to the next in px; default: a patch."
)
@click.option("--encoder", default="efficientnet-lite0", show_default=True, help="The encoder's name.")
@click.option(
    "--valid",
    "mode",
    type=click.Choice(["auto", "tissue", "data", "all"]),
    default="auto",
    show_default=True,
    help="Which cells to embed: those with tissue, with data, or all; auto takes data for maps, tissue for slides.",
)
@click.option(
    "--min-valid", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="The least valid share of a cell."
)
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Cells encoded at once.")
@options.device
@options.dtype
@options.as_json
def embed(
    slide: Path,
    *,
    output: Path,
    pixel_size: PixelSize | None,
    slide_pixel_size: PixelSize | None,
    region: Box | None,
    cell_px: int,
    stride_px: int | None,
    encoder: str,
    mode: Mode,
    min_valid: float,
    batch: int,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Write the embedding grid of a slide, GeoTIFF or picture.

    The slide is read by region and may be of any size. Cells with tissue, or with data, are cut at the pixel size
    asked for and encoded.
    """
    from patchloom.encoders.registry import load_encoder
    from patchloom.encoders.slide import embed_slide
    from patchloom.grids.file import describe, write_grid
    from patchloom.machine import choose_device, choose_dtype

    place = choose_device(device)
    network = load_encoder(encoder, place, choose_dtype(dtype, place))
    with progress("embed") as advance:
        grid = embed_slide(
            slide,
            network,
            pixel_size=pixel_size,
            source_pixel_size=slide_pixel_size or _unstated(slide, pixel_size),
            region=region,
            cell_px=cell_px,
            stride_px=stride_px,
            mode=mode,
            min_valid=min_valid,
            batch=batch,
            progress=advance,
        )
    write_grid(grid, output)
    emit({"path": str(output), **describe(output)}, as_json)


def _unstated(slide: Path, pixel_size: PixelSize | None) -> PixelSize | None:
    """The size asked for, as the slide's own, where the slide does not state one."""
    return pixel_size if describe_raster(slide)["pixel_size_m"] is None else None
