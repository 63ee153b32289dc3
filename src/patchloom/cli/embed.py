"""`patchloom embed`: a slide to its embedding grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from patchloom.cli import options
from patchloom.cli.output import emit, note
from patchloom.cli.progress import progress
from patchloom.geometry import Box, PixelSize
from patchloom.rasters.cells import Mode
from patchloom.rasters.describe import doubts

if TYPE_CHECKING:  # torch
    import torch

    from patchloom.encoders.encoder import Encoder

CELL_PX = 256


@dataclass(frozen=True, slots=True)
class Cells:
    """Which cells are cut, and who encodes them: told one by one, or by a pipeline."""

    pipeline: str | None
    pixel_size: PixelSize | None
    cell_px: int | None
    stride_px: int | None
    encoder: str | None

    def settled(self) -> Cells:
        """With what the pipeline needs; a usage error where another option says the same thing otherwise."""
        from patchloom.pipelines.pipeline import read_record
        from patchloom.pipelines.presets import find_pipeline

        if self.pipeline is None:
            return self
        if (self.pixel_size, self.cell_px, self.encoder) != (None, None, None):
            raise click.UsageError(
                "--pipeline says which pixel size, patch and encoder to take; leave out --pixel-size, --patch and "
                "--encoder. How long the slide's own pixels are is told by --slide-pixel-size"
            )
        record = read_record(find_pipeline(self.pipeline))
        return replace(
            self,
            pixel_size=PixelSize.parse(record.pixel_size),
            cell_px=record.condition.cell_px,
            stride_px=self.stride_px or min(record.condition.strides_px),
        )

    def network(self, device: torch.device, dtype: torch.dtype) -> Encoder:
        """The encoder, loaded."""
        from patchloom.encoders.registry import DEFAULT, load_encoder
        from patchloom.pipelines.pipeline import read_record
        from patchloom.pipelines.presets import find_pipeline
        from patchloom.pipelines.reference import encoder_of

        if self.pipeline is None:
            return load_encoder(self.encoder or DEFAULT, device, dtype)
        folder = find_pipeline(self.pipeline)
        return encoder_of(read_record(folder), folder, device, dtype)


cells = options.gathered(
    Cells,
    "cells",
    click.option(
        "--pipeline",
        metavar="NAME",
        help="Cut cells as this pipeline, a folder or one that comes with Patchloom, needs them: its patch, pixel size "
        "and encoder.",
    ),
    options.pixel_size(
        "The pixel size at which cells are cut, as in 0.5um, 0.3m or 20x (an objective power); default: the slide's "
        "own."
    ),
    click.option(
        "--patch", "cell_px", metavar="PX", type=options.Whole(1), help=f"Side of a cell in px; default: {CELL_PX}."
    ),
    click.option(
        "--stride",
        "stride_px",
        metavar="PX",
        type=options.Whole(1),
        help="From one cell to the next in px; default: a patch, or the pipeline's own.",
    ),
    click.option(
        "--encoder",
        metavar="NAME|FOLDER",
        help="The encoder: a name, as `patchloom doctor` lists them, or a folder; with +colour behind it it also says "
        "colours; default: efficientnet-lite0.",
    ),
)


@click.command()
@click.argument("slide", type=options.FILE)
@options.output("The grid to write, such as slide.grid.")
@cells
@options.slide_pixel_size
@options.region
@click.option(
    "--valid",
    "mode",
    type=click.Choice(["auto", "tissue", "data", "all"]),
    default="auto",
    show_default=True,
    help="Which cells to embed: those with tissue, with data, or all; auto takes data for maps, tissue for slides.",
)
@click.option(
    "--min-valid", type=options.Number(0, 1), default=0.3, show_default=True, help="The least valid share of a cell."
)
@click.option("--batch", type=options.Whole(1), default=32, show_default=True, help="Cells encoded at once.")
@options.device
@options.dtype
@options.as_json
def embed(
    slide: Path,
    *,
    output: Path,
    cells: Cells,
    slide_pixel_size: PixelSize | None,
    region: Box | None,
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

    \b
    patchloom embed section.svs -o section.grid --pipeline he-foundation
    patchloom embed town.tif -o town.grid --pixel-size 0.3m --encoder dinov2-base --stride 128
    """
    from patchloom.encoders.slide import embed_slide
    from patchloom.grids.file import describe, write_grid
    from patchloom.machine import choose_device, choose_dtype

    place = choose_device(device)
    cells = cells.settled()
    network = cells.network(place, choose_dtype(dtype, place))
    note(() if slide_pixel_size else doubts(slide))
    with progress() as bar:
        grid = embed_slide(
            slide,
            network,
            pixel_size=cells.pixel_size,
            slide_pixel_size=slide_pixel_size,
            cell_px=cells.cell_px or CELL_PX,
            stride_px=cells.stride_px,
            region=region,
            mode=mode,
            min_valid=min_valid,
            batch=batch,
            progress=bar("embed"),
        )
    write_grid(grid, output)
    emit({"path": str(output), **describe(output)}, as_json)
