"""What `pipeline.json` holds: everything about a pipeline but its weights. No torch: `patchloom info` reads it."""

from __future__ import annotations

from dataclasses import dataclass

from patchloom.grids.spec import EncoderSpec

FORMAT = 1
RECORD = "pipeline.json"
AUTOENCODER, DENOISER = "autoencoder", "denoiser"  # folders inside the pipeline's


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """What the denoiser is told: a grid of embeddings."""

    cell_px: int  # field of view of a cell
    strides_px: tuple[int, ...]  # from one cell to the next, as trained


@dataclass(frozen=True, slots=True)
class Training:
    """Where the denoiser's weights come from."""

    data: str
    licence: str
    samples: int
    hours: float
    machine: str


@dataclass(frozen=True, slots=True)
class Defaults:
    """How the pipeline makes an image unless told otherwise."""

    sampler: str = "dpmpp-2m"
    steps: int = 14
    sigma_min: float = 0.02
    sigma_max: float = 20.0
    guidance: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    window: int = 32  # latents
    core: int = 24


@dataclass(frozen=True, slots=True)
class PipelineRecord:
    """A trained model, as its folder describes it."""

    format: int
    name: str
    pixel_size: str
    patch_px: int
    factor: int  # pixels a latent
    channels: int
    encoder: EncoderSpec
    condition: ConditionSpec
    background: tuple[int, int, int]  # RGB where the grid holds nothing
    weights: dict[str, str]  # file in the folder -> digest
    training: Training
    defaults: Defaults = Defaults()
