"""From finished latents to pixels: how a canvas is cut for the decoder, and what a foreign decoder's norms measure.

Our own decoders reach a few latents far. Foreign ones have norms, and attention, over all that they see, so tiles of
them differ in tint. `frozen` measures the norms once on a sample of the canvas, `exact` measures what looks at the
plane over all of the canvas, one layer after another, `own` leaves every tile its own and fades them into one another.
"""

from __future__ import annotations

from typing import Any

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.fields.field import Field
from patchloom.fields.weave import Crew
from patchloom.geometry import Box, Lattice, Window
from patchloom.loom.blended import BlendedDecode
from patchloom.loom.decode import BATCH, Near, Tiling, decode_field, is_local, latents_under, tiles
from patchloom.loom.frozen import freeze, reach_of, sampled
from patchloom.loom.memory import Sparing
from patchloom.loom.plan import average
from patchloom.loom.run import Run
from patchloom.loom.swept import check_size, layers_of, sweep_exactly
from patchloom.loom.workers import Workers
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.settings import Settings, settled

_SAMPLE = 32  # latents on a side of a tile that norms are measured on


def tiling_of(pipeline: Pipeline, settings: Settings, shape: tuple[int, int]) -> Tiling:
    """How a canvas (height, width) of latents is decoded, how often, and what of it is always read."""
    norms, canvas = settled(pipeline, settings).norms, Box(0, 0, *shape)
    lattice = tiles_of(pipeline, settings, shape)
    if norms == "exact":
        check_size(canvas)
        return Tiling(lattice, 1 + layers_of(pipeline.autoencoder), (canvas,))
    samples = samples_of(pipeline, settings, shape) if norms == "frozen" else []
    return Tiling(lattice, 1, tuple(window.box for window in samples))


def tiles_of(pipeline: Pipeline, settings: Settings, shape: tuple[int, int]) -> Lattice:
    """How a canvas (height, width) of latents is cut for decoding: officially into patches a quarter apart."""
    patch = pipeline.record.patch_px // pipeline.record.factor
    if settings.recipe == "official":
        return average(shape, patch, patch // 4)
    reach = pipeline.autoencoder.receptive_field
    if settled(pipeline, settings).norms in ("frozen", "exact"):
        reach = reach_of(pipeline.autoencoder)
    return tiles(shape, reach, wrap=settings.joined, mirror=pipeline.autoencoder.receptive_field is not None)


def needed(pipeline: Pipeline, settings: Settings, shape: tuple[int, int], pixels: Box) -> Box:
    """What latents of a canvas (height, width) a box of its pixels takes, to have the bits that it has in the whole.

    With a decoder of bounded reach that is what the pixels depend on, and the tiles that they lie in are filled up;
    else it is those tiles. A CPU's convolutions are known to be local; other devices' are tried.
    """
    lattice, factor, decoder = tiles_of(pipeline, settings, shape), pipeline.record.factor, pipeline.autoencoder
    bounded = settings.recipe != "official" and decoder.receptive_field is not None
    if bounded and (pipeline.device.type == "cpu" or is_local(decoder, lattice, pipeline.device)):
        return latents_under(lattice, pixels, factor, decoder.receptive_field)
    return latents_under(lattice, pixels, factor)


def decoded(
    pipeline: Pipeline,
    run: Run[Any],
    latents: Field,
    settings: Settings,
    crew: Crew,
    part: Box | None = None,
    batch: int = BATCH,
) -> Field:
    """The pixels of the finished latents of a run, decoded when they are read.

    Frozen norms are measured in this process, and worker processes are told them; a cluster is not, and does not decode
    then. Nobody else does with exact ones: they take a sweep for every layer, and only the last can be shared. An edit
    measures the image that it keeps, which so keeps its tint. With `part`, what `needed` said of a box of pixels, that
    box alone is right, and a decoder of bounded reach is shown nothing else. `batch` are tiles at once.
    """
    decoder, size = pipeline.autoencoder, pipeline.pixel_size
    if settings.recipe == "official" and isinstance(decoder, FirstStage):
        patch = pipeline.record.patch_px // decoder.factor
        return BlendedDecode(latents, decoder, patch, patch // 4, size)
    measured = _measured(pipeline, run, latents, settings)
    told = settled(pipeline, settings).norms == "frozen" and isinstance(crew, Workers)
    own = crew if measured is decoder or told or isinstance(crew, Sparing) else Sparing()
    bounded = decoder.receptive_field is not None
    return decode_field(
        Near(latents, part, run.period) if part is not None and bounded else latents,
        measured,
        batch=batch,
        device=pipeline.device,
        pixel_size=size,
        crew=own,
        wrap=settings.joined,
        mirror=bounded,
    )


def _measured(pipeline: Pipeline, run: Run[Any], latents: Field, settings: Settings) -> Autoencoder:
    """The decoder, with norms measured on the canvas where the settings say so."""
    decoder, norms = pipeline.autoencoder, settled(pipeline, settings).norms
    source = latents if run.kept is None else run.kept.latents
    if norms == "frozen":
        return freeze(
            decoder,
            source,
            samples_of(pipeline, settings, run.shape),
            margin=reach_of(decoder),
            period=run.period,
            device=pipeline.device,
        )
    if norms == "exact":
        return sweep_exactly(
            decoder, source, tiles_of(pipeline, settings, run.shape), reach_of(decoder), device=pipeline.device
        )
    return decoder


def samples_of(pipeline: Pipeline, settings: Settings, shape: tuple[int, int]) -> list[Window]:
    """Where norms are measured: small tiles with a halo, spread over a canvas (height, width) of latents."""
    return sampled(tiles(shape, reach_of(pipeline.autoencoder), _SAMPLE, settings.joined))
