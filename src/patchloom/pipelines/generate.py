"""The large image: a pipeline and a grid in, a field of pixels out, written by suffix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.guidance import guided
from patchloom.diffusion.levels import karras
from patchloom.diffusion.samplers import SAMPLERS
from patchloom.diffusion.stage import Stage
from patchloom.errors import InputError
from patchloom.fields.stores import Store
from patchloom.fields.weave import Weave
from patchloom.geometry import Frame
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.decode import decode_field
from patchloom.loom.denoise import Background
from patchloom.loom.figures import Figures, guided_evaluations
from patchloom.loom.orders import weave_canvas, weave_down
from patchloom.loom.plan import Plan
from patchloom.loom.run import Run, figures
from patchloom.loom.scene import GridScene
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pyramids.image import write_image
from patchloom.pyramids.tiles import Compression
from patchloom.rasters.georeference import GeoReference

Order = Literal["canvas", "down"]
_IN_MEMORY = 1 << 29  # bytes of canvas states; larger runs go down the picture in bands


@dataclass(frozen=True, slots=True)
class Settings:
    """How to make an image. None stands for the pipeline's own default."""

    seed: int = 0
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None  # 1 is off
    guidance_interval: tuple[float, float] | None = None
    plan: Literal["halo", "shift", "average"] = "halo"
    window: int | None = None  # latents
    core: int | None = None  # latents; the stride of `average`
    sync: int = 1
    batch: int = 16


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A large image that is about to be made: reading its pixels makes them."""

    pixels: Weave
    figures: Figures
    provenance: dict[str, Any]
    geo: GeoReference | None


Advance = Callable[[int], None]
"""How many windows or rows were finished since the last call."""


def plan_run(pipeline: Pipeline, grid: EmbeddingGrid, settings: Settings) -> Run[GridCondition]:
    """Everything that decides the image. Raises MismatchError for another pipeline's grid, InputError for settings."""
    pipeline.check(grid)
    scene = GridScene.of(grid, pipeline.record.factor, pipeline.pixel_size)
    return run_of(pipeline, scene, canvas(pipeline, grid), settings)


def run_of(pipeline: Pipeline, scene: GridScene, latents: Frame, settings: Settings) -> Run[GridCondition]:
    """The same for a scene that is known to fit the pipeline, over a canvas of latents."""
    chosen = settled(pipeline, settings)
    scale, interval = chosen.guidance or 1.0, chosen.guidance_interval
    return Run(
        denoiser=guided(pipeline.denoiser, scale, interval=interval),
        stages=_stages(pipeline, chosen),
        scene=scene,
        plan=_plan(pipeline, chosen),
        latents=latents,
        seed=chosen.seed,
        batch=chosen.batch,
        device=pipeline.device,
        background=Background(pipeline.background(), scene.covers),
        evaluations=guided_evaluations(scale, interval),
    )


def generate(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    settings: Settings | None = None,
    *,
    store: Store | None = None,
    order: Order | None = None,
    progress: Advance | None = None,
) -> Image:
    """The image that a grid describes, made while its pixels are read from top to bottom.

    `order` is how the canvas is made: all of it stage by stage, or in bands as the reader goes down; small canvases
    take the first, large ones the second. Both give the same pixels. `progress` hears of finished windows.
    In bands they are made while pixels are read.
    """
    settings = settings or Settings()
    run = plan_run(pipeline, grid, settings)
    counted = figures(run, pipeline.record.factor)
    planes = max(stage.planes for stage in run.stages)
    small = 2 * 4 * planes * run.latents.channels * run.latents.box.area < _IN_MEMORY
    weave = weave_canvas if (order or ("canvas" if small else "down")) == "canvas" else weave_down
    latents = weave(run, store, progress)
    pixels = decode_field(latents, pipeline.autoencoder, device=pipeline.device, pixel_size=pipeline.pixel_size)
    return Image(pixels, counted, provenance(pipeline, grid, settings, counted), georeference(pipeline, grid))


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


def provenance(pipeline: Pipeline, grid: EmbeddingGrid, settings: Settings, counted: Figures) -> dict[str, Any]:
    """Where an image comes from: enough to make it again. No clock, no name of a machine."""
    return {
        "synthetic": True,
        "pipeline": {"name": pipeline.record.name, "digest": pipeline.digest},
        "grid": {
            "digest": grid.digest(),
            "encoder": grid.encoder.name,
            "reference": grid.reference.name if grid.reference else None,
        },
        "settings": asdict(settled(pipeline, settings)),
        "device": pipeline.device.type,
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "network_evaluations": counted.network_evaluations,
    }


def georeference(pipeline: Pipeline, grid: EmbeddingGrid) -> GeoReference | None:
    """The CRS and transform of the image, from those of the grid's reference."""
    reference = grid.reference
    if reference is None or reference.transform is None or reference.pixel_size is None:
        return None
    ratio = grid.pixel_size.ratio(reference.pixel_size)
    geo = GeoReference(reference.crs or "", reference.transform).rescaled(ratio)
    x, y = geo.at(*grid.origin)
    a, b, _, d, e, _ = geo.transform
    return GeoReference(geo.crs, (a, b, x, d, e, y))


def settled(pipeline: Pipeline, settings: Settings) -> Settings:
    """The settings with the pipeline's defaults in the places left open."""
    own = pipeline.record.defaults
    guidance = own.guidance if settings.guidance is None else settings.guidance
    window = settings.window or own.window
    usual = {"halo": own.core if window == own.window else window * 3 // 4, "shift": window, "average": window // 4}
    return replace(
        settings,
        sampler=settings.sampler or own.sampler,
        steps=settings.steps or own.steps,
        guidance=guidance,
        guidance_interval=settings.guidance_interval or own.guidance_interval,
        window=window,
        core=settings.core or usual[settings.plan],
    )


def stages_of(pipeline: Pipeline, settings: Settings) -> tuple[float, list[Stage]]:
    """Guidance scale and stages of the settings, the pipeline's own where they leave them open."""
    chosen = settled(pipeline, settings)
    return chosen.guidance or 1.0, _stages(pipeline, chosen)


def _stages(pipeline: Pipeline, chosen: Settings) -> list[Stage]:
    own, name = pipeline.record.defaults, chosen.sampler or ""
    if name not in SAMPLERS:
        raise InputError(f"there is no sampler `{name}`; there are {', '.join(SAMPLERS)}")
    return SAMPLERS[name](karras(chosen.steps or own.steps, own.sigma_min, own.sigma_max))


def _plan(pipeline: Pipeline, chosen: Settings) -> Plan:
    window = chosen.window or pipeline.record.defaults.window
    return Plan.of(chosen.plan, window, chosen.core, multiple=pipeline.network.shape.multiple, sync=chosen.sync)
