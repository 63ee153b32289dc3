"""`patchloom mosaic`: small pictures joined into one that can be embedded."""

from __future__ import annotations

from pathlib import Path

import click

from patchloom.cli import options
from patchloom.cli.output import emit
from patchloom.geometry import PixelSize


@click.command()
@click.argument("pictures", type=options.FILE, nargs=-1, required=True)
@options.output("The mosaic to write, a .tif or .png; lossless.", "image")
@click.option(
    "--columns",
    metavar="N",
    type=options.Whole(1),
    help="Pictures in a row; default: as nearly square as their number allows.",
)
@click.option(
    "--side",
    "side_px",
    metavar="PX",
    type=options.Whole(1),
    default=256,
    show_default=True,
    help="Side of the square that is taken from the middle of each, in px of the mosaic.",
)
@options.pixel_size("The pixel size of the mosaic, as in 0.3m; default: that of the first picture.")
@options.slide_pixel_size
@options.as_json
def mosaic(
    pictures: tuple[Path, ...],
    *,
    output: Path,
    columns: int | None,
    side_px: int,
    pixel_size: PixelSize | None,
    slide_pixel_size: PixelSize | None,
    as_json: bool,
) -> None:
    """Join small pictures into one that can be embedded.

    They lie in rows, in the order given: a town here, a wood there. Embed the mosaic with a stride equal to the
    pipeline's cell, so that each cell lies in one picture, and generate from its grid: the result flows from picture
    to picture where the mosaic jumps.

    \b
    patchloom mosaic tiles/*.png -o town.tif --columns 8 --slide-pixel-size 0.3m
    """
    from patchloom.pyramids.image import write_image
    from patchloom.rasters.mosaic import mosaic as join

    field = join(list(pictures), columns=columns, side_px=side_px, pixel_size=pixel_size, own=slide_pixel_size)
    write_image(
        field,
        output,
        compression=None if output.suffix.lower() == ".png" else "deflate",
        provenance={
            "synthetic": False,
            "mosaic_of": [path.name for path in pictures],
        },
    )
    frame = field.frame
    emit(
        {
            "path": str(output),
            "size_px": [frame.height, frame.width],
            "pixel_size_m": field.pixel_size.metres,
            "rows": len(field.paths) // field.columns,
            "columns": field.columns,
        },
        as_json,
    )
