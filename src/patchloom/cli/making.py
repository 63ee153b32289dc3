"""The options of `patchloom generate` that belong together: what an image follows, and how it is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from patchloom.cli import options
from patchloom.cli.drawing import Drawing, drawing
from patchloom.cli.output import note
from patchloom.cli.progress import Advance
from patchloom.geometry import Box, PixelSize

if TYPE_CHECKING:  # torch
    from patchloom.grids.grid import EmbeddingGrid
    from patchloom.pipelines.pipeline import Pipeline
    from patchloom.pipelines.settings import Settings


@dataclass(frozen=True, slots=True)
class Source:
    """What an image follows: a grid, or a slide that is embedded on the way."""

    grid_path: Path | None
    reference: Path | None
    region: Box | None
    slide_pixel_size: PixelSize | None
    grid_encoder: str | None
    grid_patch: int | None
    grid_tolerance: float | None
    stride_px: int | None

    def kept(self, keep: Path | None) -> tuple[Path, Box] | None:
        """The image to keep and its region that is made anew; UsageError for options that exclude one another."""
        if keep is not None and (self.grid_path is None or self.region is None):
            raise click.UsageError("--keep needs --grid and --region, the part of the image that is made anew")
        if keep is None and self.grid_path is not None and (self.reference, self.region) != (None, None):
            raise click.UsageError("--reference and --region take the place of --grid; give one or the other")
        return (keep, self.region) if keep is not None and self.region is not None else None

    def grid(self, pipeline: Pipeline, advance: Advance) -> EmbeddingGrid:
        """The grid, opened or embedded; what is doubtful about it is said on stderr. Raises UsageError for neither."""
        from patchloom.pipelines.grids import Told, doubts, open_grid
        from patchloom.pipelines.reference import embed_reference
        from patchloom.rasters.describe import doubts as unstated

        told = Told(self.grid_encoder, self.slide_pixel_size, self.grid_patch, self.grid_tolerance)
        if self.grid_path is not None:
            grid = open_grid(pipeline, self.grid_path, told)
            note(doubts(pipeline, self.grid_path, told))
            return grid
        if self.reference is None:
            raise click.UsageError("say what the image should show: either --grid or --reference")
        note(() if told.slide_pixel_size else unstated(self.reference))
        return embed_reference(
            pipeline.record,
            pipeline.encoder(),
            self.reference,
            stride_px=self.stride_px,
            slide_pixel_size=told.slide_pixel_size,
            region=self.region,
            progress=advance,
        )


source = options.gathered(
    Source,
    "source",
    click.option("--grid", "grid_path", type=options.FILE, help="The embedding grid, or feature file, to follow."),
    click.option("--reference", type=options.FILE, help="A slide to embed and follow, in place of a grid."),
    options.region,
    options.slide_pixel_size,
    options.feature_file,
    click.option("--stride", "stride_px", type=options.Whole(1), help="With --reference: between cells, in px."),
)


@dataclass(frozen=True, slots=True)
class How:
    """How a large image is made; `Settings` has the same names."""

    drawing: Drawing
    similarity: float
    plan: Literal["halo", "shift", "average"] | None
    recipe: Literal["official"] | None
    window: int | None
    core: int | None
    sync: int
    wrap: Literal["x", "y", "both"] | None
    norms: Literal["frozen", "exact", "own"] | None
    batch: int | None
    coarse: Path | None

    def settings(self, pipeline: Pipeline) -> Settings:
        """What the pipeline is told; an option without effect is named on stderr."""
        from patchloom.diffusion.guidance_similarity import Pull
        from patchloom.pipelines.settings import settled

        told = replace(
            self.drawing.settings(),
            similarity=Pull(self.similarity),
            plan=self.plan,
            recipe=self.recipe,
            window=self.window,
            core=self.core,
            sync=self.sync,
            wrap=self.wrap,
            norms=self.norms,
            batch=self.batch,
            coarse=self.coarse,
        )
        if self.norms is not None and settled(pipeline, told).norms is None:
            note(("--norms has no effect: this pipeline's decoder has no norms over the plane",))
        return told


how = options.gathered(
    How,
    "how",
    drawing,
    click.option(
        "--similarity-guidance",
        "similarity",
        type=options.Number(0),
        default=0.0,
        show_default=True,
        metavar="STRENGTH",
        help="Move each estimate towards what the pipeline's encoder should see in it, 0 is off; takes several times "
        "as long.",
    ),
    click.option(
        "--plan",
        type=click.Choice(["halo", "shift", "average"]),
        help="How windows lie: cores with a halo on a moving lattice (the default), without one, or the paper's "
        "averages.",
    ),
    click.option(
        "--recipe",
        type=click.Choice(["official"]),
        help="Make it as the code of the CVPR 2024 paper does, faults included; for imported models of the paper.",
    ),
    click.option("--window", type=options.Whole(1), help="Side of a window in latents; default: by the canvas."),
    click.option("--core", type=options.Whole(1), help="Side of what is kept of a window; the stride of average."),
    click.option("--sync", type=options.Whole(1), default=1, show_default=True, help="Steps between two meetings."),
    click.option(
        "--wrap",
        type=click.Choice(["x", "y", "both"]),
        help="Join the left edge to the right one (x), the upper to the lower (y): a picture that tiles without a "
        "seam.",
    ),
    click.option(
        "--norms",
        type=click.Choice(["frozen", "exact", "own"]),
        help="What an imported decoder's norms measure: a sample of the picture (frozen, the default), all of it, "
        "layer by layer (exact, for small ones), or each tile by itself (own).",
    ),
    click.option("--batch", type=options.Whole(1), help="Windows denoised at once; default: 65,536 latents of them."),
    click.option(
        "--coarse",
        metavar="IMAGE",
        type=options.FILE,
        help="A picture a whole number of times smaller, which the image, downsampled, will show.",
    ),
)
