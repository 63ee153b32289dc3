"""A pipeline of random weights and an encoder, both small enough for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.encoders.fakes import tiny_encoder

from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder, ConvolutionalShape
from patchloom.autoencoders.files import save_autoencoder
from patchloom.diffusion.parametrisation import Parametrisation
from patchloom.encoders.registry import ENCODERS
from patchloom.networks.files import save_denoiser
from patchloom.networks.unet import UNet, UNetShape
from patchloom.pipelines.pipeline import save_pipeline
from patchloom.pipelines.record import FORMAT, ConditionSpec, Defaults, PipelineRecord, Training


@pytest.fixture(scope="session", autouse=True)
def _tiny_has_a_name() -> Iterator[None]:
    """`--encoder tiny` is a real network of a thousand weights; the default one takes seconds."""
    ENCODERS["tiny"] = lambda device, dtype: tiny_encoder(dtype=dtype)
    yield
    del ENCODERS["tiny"]


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of 64 px, cells of 64 px every 32 px, 8 px a latent, 2 steps."""
    folder = tmp_path_factory.mktemp("pipelines")
    torch.manual_seed(0)
    shape = ConvolutionalShape(2, (4, 4, 4), (0, 0, 0), (0, 0, 0))
    save_autoencoder(ConvolutionalAutoencoder(shape), folder / "autoencoder")
    save_denoiser(UNet(UNetShape(2, 6, (8, 8), (1, 1), 8)), Parametrisation(), folder / "denoiser")
    encoder = tiny_encoder().spec
    condition, training = ConditionSpec(64, (32, 64)), Training("noise", "CC0-1.0", 0, 0.0, "none")
    defaults = Defaults(steps=2, window=8, core=6)
    record = PipelineRecord(
        FORMAT, "tiny", "0.5um", 64, 8, 2, encoder, condition, (243, 242, 244), {}, training, defaults
    )
    save_pipeline(folder / "tiny", folder / "autoencoder", folder / "denoiser", record, "# tiny\n")
    return folder / "tiny"


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of 96 x 128 px (height x width) that does not state its pixel size."""
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    pixels = np.random.default_rng(0).integers(60, 180, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
