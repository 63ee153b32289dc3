"""Similarity guidance of a pipeline: how its own encoder sees its latents, and a run whose D is pulled by that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from torch import Tensor

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder
from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.autoencoders.tiny import TinyAutoencoder
from patchloom.diffusion.condition import Condition
from patchloom.diffusion.guidance_cells import Sight
from patchloom.diffusion.guidance_similarity import Aimed, Pull, resembling
from patchloom.diffusion.windows import Scene
from patchloom.encoders.network import NetworkEncoder
from patchloom.errors import InputError
from patchloom.geometry import Box
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.run import Run
from patchloom.loom.scene import GridScene
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.record import NOT_STATED
from patchloom.pipelines.settings import Settings

K = TypeVar("K", bound=Condition)
_HALO = 4  # latents decoded around cells: those farther away hardly change a pixel, and cost as much as the others


@dataclass(frozen=True, slots=True, eq=False)
class AimedScene(Generic[K]):
    """What a scene tells of windows, and beside it the cells themselves."""

    told: Scene[K]
    cells: GridScene

    def condition(self, boxes: Sequence[Box]) -> Aimed[K]:
        """What windows of one shape are told, and the cells around each."""
        return Aimed(self.told.condition(boxes), self.cells.condition(boxes))


def pull_of(settings: Settings) -> Pull:
    """How similarity guidance acts by the settings. Raises InputError for what excludes it."""
    pull = settings.similarity
    if pull.strength and settings.recipe == "official":
        raise InputError(
            "the official recipe knows no similarity guidance; leave out --similarity-guidance, or leave the recipe out"
        )
    if pull.strength and settings.guidance.null_every != 1:
        raise InputError(
            "similarity guidance moves the guided estimate, which there is at every step only where the null branch is "
            "asked at every step; leave out --null-every, or --similarity-guidance"
        )
    return pull


def towards(run: Run[Any], pipeline: Pipeline, grid: EmbeddingGrid, settings: Settings) -> Run[Any]:
    """The run, with similarity guidance where the settings ask for it. Raises what `pull_of` and `sight_of` raise."""
    pull = pull_of(settings)
    if not pull.strength:
        return run
    cells = GridScene.of(grid, pipeline.record.factor, pipeline.pixel_size).joined(settings.joined, run.shape)
    levels = [stage.sigma for stage in run.stages]
    return replace(
        run,
        denoiser=resembling(run.denoiser, sight_of(pipeline), pull, levels),
        scene=AimedScene(run.scene, cells),
        gradients=lambda sigma: pull.steps * pull.acts(sigma),
    )


def sight_of(pipeline: Pipeline) -> Sight:
    """How the encoder that a pipeline was trained with sees its latents.

    Raises InputError where the encoder is not known, or lets no gradient through, and what `Pipeline.encoder` raises.
    """
    name, own = pipeline.record.name, pipeline.record.encoder
    if own.name == NOT_STATED:
        raise InputError(
            f"similarity guidance needs the encoder that made the grid, and `{name}` does not state it; import the "
            "pipeline again with --encoder, or leave out --similarity-guidance"
        )
    encoder = pipeline.encoder()
    if not isinstance(encoder, NetworkEncoder):
        raise InputError(
            f"similarity guidance needs gradients, and encoder `{own.name}` gives embeddings alone; leave out "
            "--similarity-guidance"
        )
    decode = _floats(pipeline.autoencoder, name)
    return Sight(decode, encoder.followed, pipeline.record.factor, pipeline.record.condition.cell_px, _HALO)


def _floats(autoencoder: Autoencoder, name: str) -> Callable[[Tensor], Tensor]:
    """Latents to float pixels from 0 to 255 with gradients; those of a codebook are taken as they are."""
    if not isinstance(autoencoder, ConvolutionalAutoencoder | TinyAutoencoder | FirstStage):
        raise InputError(
            f"similarity guidance needs gradients, and the decoder of `{name}` gives bytes alone; leave out "
            "--similarity-guidance"
        )
    autoencoder.requires_grad_(False)  # a pipeline makes images: what gradients of weights need is not kept
    dtype = next(autoencoder.parameters()).dtype
    pixels = autoencoder.pixels
    if isinstance(autoencoder, FirstStage):
        pixels = partial(autoencoder.pixels, quantise=False)
    return lambda latents: (pixels(latents.to(dtype)).float() + 1) * 127.5
