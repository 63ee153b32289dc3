"""The large image: a pipeline and a grid in, a field of pixels out, written by suffix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from patchloom import weights
from patchloom.diffusion.guidance_similarity import Pull
from patchloom.diffusion.official import start_deviation
from patchloom.errors import InputError
from patchloom.fields.field import Cropped, Field
from patchloom.fields.stores import Store
from patchloom.fields.views import Added, Scaled
from patchloom.fields.weave import Crew
from patchloom.geometry import Box, Frame
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.denoise import Background
from patchloom.loom.figures import Figures
from patchloom.loom.keep import Patched
from patchloom.loom.latents import read_latents, write_latents
from patchloom.loom.memory import Sparing
from patchloom.loom.orders import weave_canvas, weave_down, weave_parts, weave_region
from patchloom.loom.run import Run, figures
from patchloom.pipelines.conditioning import CellScene
from patchloom.pipelines.decoding import decoded, needed, tiling_of
from patchloom.pipelines.edit import Edit, check_inside
from patchloom.pipelines.following import following
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.settings import Settings, denoiser_of, evaluations_of, plan_of, sized, stages_of
from patchloom.pipelines.similarity_guidance import towards
from patchloom.pyramids.image import write_image
from patchloom.pyramids.tiles import Compression
from patchloom.rasters.georeference import GeoReference

Order = Literal["canvas", "down"]
_IN_MEMORY = 1 << 29  # bytes of canvas states; larger runs go down the picture in bands
_BAND = 256  # latents above a reader that are still there, where no store keeps them; more than a tile's reach


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A large image that is about to be made: reading its pixels makes them."""

    pixels: Field
    figures: Figures
    provenance: dict[str, Any]
    geo: GeoReference | None


Advance = Callable[[int], None]
"""How many windows or rows were finished since the last call."""


def plan_run(pipeline: Pipeline, grid: EmbeddingGrid, settings: Settings, edit: Edit | None = None) -> Run[Any]:
    """Everything that decides the image. Raises MismatchError for another pipeline's grid, InputError for settings."""
    pipeline.check(grid)
    frame, factor = canvas(pipeline, grid), pipeline.record.factor
    run = run_of(pipeline, pipeline.told.scene(grid), frame, replace(settings, similarity=Pull()))
    run = towards(run, pipeline, grid, settings)
    run = following(run, pipeline, settings)
    return run if edit is None else replace(run, kept=edit.kept(frame, factor, pipeline.digest))


def run_of(
    pipeline: Pipeline, scene: CellScene[Any], latents: Frame, settings: Settings, image: Field | None = None
) -> Run[Any]:
    """The same for a scene that is known to fit the pipeline, over a canvas of latents.

    `image` are the latents that a strength below 1 begins at, noised to where its steps begin: SDEdit, Meng et al.
    (2022). Raises InputError where it is asked for and there are none.
    """
    chosen = sized(pipeline, settings, (latents.height, latents.width))
    official = chosen.recipe == "official"
    flat = None if official else pipeline.background()
    run = Run(
        denoiser=denoiser_of(pipeline, chosen),
        stages=stages_of(pipeline, chosen),
        scene=scene.joined(chosen.joined, (latents.height, latents.width)),
        plan=plan_of(pipeline, chosen),
        latents=latents,
        seed=chosen.seed,
        batch=chosen.batch or 1,
        device=pipeline.device,
        background=None if flat is None else Background(flat, scene.covers),
        evaluations=evaluations_of(pipeline, chosen),
    )
    if chosen.strength < 1:
        return replace(run, start=_noised(run, image))
    if not official:
        return run
    return replace(run, start=Scaled(run.noise(run.seed, 0, latents), start_deviation(run.stages[0].sigma)))


def _noised(run: Run[Any], image: Field | None) -> Field:
    """An image at the level of the run's first stage."""
    if image is None:
        raise InputError("a strength below 1 begins at an image, and here is none: `patchloom vary` has originals")
    noise = run.noise(run.seed, 0, replace(run.latents, dtype="float32"))
    return Added(image, Scaled(noise, run.stages[0].sigma))


def generate(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    settings: Settings | None = None,
    *,
    only: Box | None = None,
    edit: Edit | None = None,
    save: Path | None = None,
    store: Store | None = None,
    order: Order | None = None,
    crew: Crew | None = None,
    progress: Advance | None = None,
) -> Image:
    """The image that a grid describes, made while its pixels are read from top to bottom.

    With `only`, a box of its pixels, equal to the crop of the whole image, and the rest is not made; with `edit`, an
    earlier image of which a region is made anew. `save` is where to keep the finished latents for a later edit.

    `order` is how the canvas is made: all of it stage by stage, or in bands as the reader goes down; small canvases
    take the first, large ones the second. Both give the same pixels. `progress` hears of finished windows; in bands
    they are made while pixels are read. `crew` are those who evaluate; None is this process, in smaller portions
    where memory runs out, as the provenance then says.

    Raises GeometryError for a region outside the image, InputError for parts that exclude one another, and what
    `plan_run` raises.
    """
    settings, crew = settings or Settings(), crew or Sparing()
    run = plan_run(pipeline, grid, settings, edit)
    part = part_of(pipeline, run, settings, only, edit)
    counted = figures_of(pipeline, run, settings, part)
    latents = _finished(run, part, store, order, crew, progress, tiling_of(pipeline, settings, run.shape).always)
    told = provenance(pipeline, grid, settings, counted, only, edit, crew.portion)
    if save is not None:
        write_latents(latents, save, told)
        latents = read_latents(save)
    pixels = decoded(pipeline, run, latents, settings, crew, None if only is None else part)
    if only is not None:
        pixels = Cropped(pixels, only)
    return Image(pixels, counted, told, georeference(pipeline, grid, only))


def figures_of(pipeline: Pipeline, run: Run[Any], settings: Settings, part: Box | None) -> Figures:
    """What the latents of an image cost, or those of a part with what its decoder measures beside it."""
    beside = () if run.kept is not None else tiling_of(pipeline, settings, run.shape).always
    return figures(run, pipeline.record.factor, part, beside)


def part_of(pipeline: Pipeline, run: Run[Any], settings: Settings, only: Box | None, edit: Edit | None) -> Box | None:
    """The latents that are made, where that is not the whole canvas."""
    if only is None:
        return None if edit is None else edit.region.over(pipeline.record.factor)
    factor, whole = pipeline.record.factor, run.latents.box
    if edit is not None:
        raise InputError("an edit gives the whole image back: choose either a region to make alone, or one to edit")
    check_inside(only, whole.times(factor))
    return needed(pipeline, settings, run.shape, only)


def _finished(
    run: Run[Any],
    part: Box | None,
    store: Store | None,
    order: Order | None,
    crew: Crew,
    progress: Advance | None,
    beside: Sequence[Box],
) -> Field:
    """The finished latents, made or about to be made; where `beside` is read too, a part is made when it is read."""
    if part is not None and beside and run.kept is None:
        return weave_parts(run, store, progress, crew=crew)
    if part is not None:
        made = weave_region(run, part, store, progress, crew=crew)
        return made if run.kept is None else Patched(made, run.kept)
    planes = max(stage.planes for stage in run.stages)
    small = 2 * 4 * planes * run.latents.channels * run.latents.box.area < _IN_MEMORY
    if (order or ("canvas" if small else "down")) == "canvas":
        return weave_canvas(run, store, progress, crew=crew)
    return weave_down(run, store, progress, crew=crew, keep=None if store else _BAND)


def write(
    image: Image,
    path: Path,
    *,
    compression: Compression | None = None,
    quality: int = 90,
    progress: Advance | None = None,
) -> None:
    """Write an image by its suffix, `.tif`, `.ome.tif` or `.png`, with its provenance; `progress` hears of rows."""
    geo = image.geo if path.suffix.lower() != ".png" else None
    write_image(
        image.pixels,
        path,
        compression=compression,
        quality=quality,
        geo=geo,
        provenance=image.provenance,
        progress=progress,
    )


def canvas(pipeline: Pipeline, grid: EmbeddingGrid) -> Frame:
    """The grid's canvas in latents; what is left of a last, cut latent is dropped."""
    height, width = (side // pipeline.record.factor for side in grid.canvas)
    return Frame(height, width, pipeline.record.channels, "float32")


def size_of(pipeline: Pipeline, grid: EmbeddingGrid, only: Box | None = None) -> tuple[int, int]:
    """Height and width in pixels of the image that a grid makes, or of the part of it that is asked for."""
    frame, factor = canvas(pipeline, grid), pipeline.record.factor
    return only.shape if only is not None else (frame.height * factor, frame.width * factor)


def provenance(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    settings: Settings,
    counted: Figures,
    only: Box | None = None,
    edit: Edit | None = None,
    portion: int | None = None,
) -> dict[str, Any]:
    """Where an image comes from: enough to make it again. No clock, no name of a machine.

    `portion` is how many windows of a batch went through the network at once after memory ran out.
    """
    frame, parts = canvas(pipeline, grid), {}
    if only is not None:
        parts = {"only_xywh": [only.x, only.y, only.width, only.height], "of_px": list(size_of(pipeline, grid))}
    return {
        "synthetic": True,
        "pipeline": pipeline.identity,
        "grid": {
            "digest": grid.digest(),
            "encoder": grid.encoder.name,
            "reference": grid.reference.name if grid.reference else None,
        },
        "settings": asdict(sized(pipeline, settings, (frame.height, frame.width)))
        | {"coarse": None if settings.coarse is None else weights.digest(settings.coarse)},
        "device": pipeline.device.type,
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        **({"not_checked": list(pipeline.doubts)} if pipeline.doubts else {}),
        "torch": torch.__version__,
        "network_evaluations": counted.network_evaluations,
        **parts,
        **({} if edit is None else {"edit": edit.provenance}),
        **({} if portion is None else {"batch_portion": portion}),
    }


def georeference(pipeline: Pipeline, grid: EmbeddingGrid, only: Box | None = None) -> GeoReference | None:
    """The CRS and transform of the image, or of a part of it, from those of the grid's reference."""
    reference = grid.reference
    if reference is None or reference.transform is None or reference.pixel_size is None:
        return None
    ratio = grid.pixel_size.ratio(reference.pixel_size)
    geo = GeoReference(reference.crs or "", reference.transform).rescaled(ratio)
    top, left = grid.origin
    x, y = geo.at(top + (only.y if only else 0), left + (only.x if only else 0))
    a, b, _, d, e, _ = geo.transform
    return GeoReference(geo.crs, (a, b, x, d, e, y))
