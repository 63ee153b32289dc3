"""What `pipeline.json` holds: everything about a pipeline but its weights. No torch: `patchloom info` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from patchloom.grids.spec import EncoderSpec

FORMAT = 1
RECORD = "pipeline.json"
AUTOENCODER, DENOISER = "autoencoder", "denoiser"  # folders inside the pipeline's
ENCODER = "encoder"  # one more, where `patchloom train` wrote the encoder, which no name finds
TOLD = "told"  # one more, with what reads the text, or knows the classes, of a model that is told in words
NOT_STATED = "not stated"  # for the name or digest of an encoder that a foreign checkpoint does not say


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
class Source:
    """Where the weights of a foreign model come from."""

    layout: Literal["latent-diffusion", "diffusers"]
    averaged: bool  # whether these are averaged weights
    passengers: tuple[str, ...]  # what the checkpoint held beside
    licence: str | None = None  # of the weights; None is not stated
    adapter: str | None = None  # a LoRA merged into them: its file, digest and strength


@dataclass(frozen=True, slots=True)
class Defaults:
    """How the pipeline makes an image unless told otherwise.

    Levels are spaced as Karras et al. (2022) from sigma_max to sigma_min, or evenly over the timesteps of the DDPM
    table that the network was trained on, which then has the only say.
    """

    sampler: str = "dpmpp-2m"
    steps: int = 14
    sigma_min: float = 0.02
    sigma_max: float = 20.0
    guidance: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    guidance_rescale: float = 0.0
    window: int = 32  # latents
    core: int = 24
    levels: Literal["karras", "ddpm"] = "karras"


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
    background: tuple[int, int, int] | None  # RGB where the grid holds nothing; None lets the model make what it likes
    weights: dict[str, str]  # file in the folder -> digest
    training: Training | None = None  # of our own
    defaults: Defaults = Defaults()
    source: Source | None = None  # of imported ones
