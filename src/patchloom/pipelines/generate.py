"""The large image: a request in, a field of pixels out, written by suffix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from patchloom.fields.field import Cropped, Field
from patchloom.fields.stores import Store
from patchloom.fields.weave import Crew
from patchloom.loom.figures import Figures
from patchloom.loom.keep import Patched
from patchloom.loom.latents import read_latents, write_latents
from patchloom.loom.memory import Sparing
from patchloom.loom.orders import weave_canvas, weave_down, weave_parts, weave_region
from patchloom.loom.run import Run
from patchloom.pipelines.decoding import decoded
from patchloom.pipelines.request import Request
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


def generate(
    request: Request,
    *,
    save: Path | None = None,
    store: Store | None = None,
    order: Order | None = None,
    crew: Crew | None = None,
    progress: Advance | None = None,
) -> Image:
    """The image of a request, made while its pixels are read from top to bottom.

    `save` is where to keep the finished latents for a later edit. `order` is how the canvas is made: all of it stage
    by stage, or in bands as the reader goes down; small canvases take the first, large ones the second. Both give the
    same pixels. `progress` hears of finished windows; in bands they are made while pixels are read. `crew` are those
    who evaluate; None is this process, in smaller portions where memory runs out, as the provenance then says.

    Raises what a request does.
    """
    crew = crew or Sparing()
    counted = request.figures  # a request that cannot be done is refused before any of it is made
    latents = _finished(request, store, order, crew, progress)
    told = request.provenance(crew.portion)
    if save is not None:
        write_latents(latents, save, told)
        latents = read_latents(save)
    return Image(_decoded(request, latents, crew), counted, told, request.geo)


def _finished(
    request: Request, store: Store | None, order: Order | None, crew: Crew, progress: Advance | None
) -> Field:
    """The finished latents, made or about to be made; a part whose decoder reads others too is made when it is read."""
    run, part = request.run, request.part
    if part is not None and request.tiling.always and run.kept is None:
        return weave_parts(run, store, progress, crew=crew)
    if part is not None:
        made = weave_region(run, part, store, progress, crew=crew)
        return made if run.kept is None else Patched(made, run.kept)
    if (order or _order_of(run)) == "canvas":
        return weave_canvas(run, store, progress, crew=crew)
    return weave_down(run, store, progress, crew=crew, keep=None if store else _BAND)


def _decoded(request: Request, latents: Field, crew: Crew) -> Field:
    only, part = request.only, None if request.only is None else request.part
    pixels = decoded(request.pipeline, request.run, latents, request.settings, crew, part)
    return pixels if only is None else Cropped(pixels, only)


def _order_of(run: Run[Any]) -> Order:
    planes = max(stage.planes for stage in run.stages)
    small = 2 * 4 * planes * run.latents.channels * run.latents.box.area < _IN_MEMORY
    return "canvas" if small else "down"


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
