"""How far a large image follows the grid that it was made from, in the encoder that conditioned it or in another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from patchloom.encoders.embed import embed
from patchloom.encoders.encoder import Encoder
from patchloom.evaluation.features import batch_of
from patchloom.evaluation.similarity import Similarity, grid_similarity
from patchloom.fields.field import Field
from patchloom.grids.grid import EmbeddingGrid
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.reconstruct import reconstruct

Advance = Callable[[int, int], None]


def fidelity(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    image: Field,
    reference: Field | None = None,
    *,
    through: Field | None = None,
    encoder: Encoder | None = None,
    progress: Advance | None = None,
) -> Similarity:
    """Embed the image's cells as the grid's were and compare them, with floor, and with ceiling where `reference` is.

    `image` and `reference` are fields of the grid's own canvas; `through` is the reference through the autoencoder
    alone, where that was made before. With another `encoder` than the pipeline's the reference is embedded anew, and
    is needed. Raises MismatchError or InputError where the parts do not fit.
    """
    judge = encoder or pipeline.encoder()
    again = replace(grid, reference=None)

    def cells(field: Field) -> EmbeddingGrid:
        return embed(
            field,
            judge,
            cell_px=grid.cell_px,
            stride_px=grid.stride_px,
            valid=grid.valid,
            pixel_size=grid.pixel_size,
            batch=batch_of(judge),
            progress=progress,
        )

    own = again if (judge.spec.name, judge.spec.digest) == (grid.encoder.name, grid.encoder.digest) else None
    if own is None and reference is not None:
        own = cells(reference)
    if through is None and reference is not None:
        through = reconstruct(pipeline, reference)
    return grid_similarity(own or again, cells(image), None if through is None else cells(through))
