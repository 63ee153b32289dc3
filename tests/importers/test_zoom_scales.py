"""Two scales of ZoomLDM on tiny weights: the fine picture follows the coarse one as far as its first stage allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.importers.recorded import FIXTURES
from torch import Tensor, nn

from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.diffusion.parametrisation import NoiseLabel
from patchloom.errors import GeometryError, InputError
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box
from patchloom.importers.latent_diffusion import LatentDiffusion, import_checkpoint
from patchloom.importers.official import How, default_run
from patchloom.importers.zoom_scales import coarse_picture, following_run
from patchloom.loom.orders import weave_canvas
from patchloom.loom.slerp import SlerpScene
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.ldm_unet import LatentUNet
from patchloom.networks.zoom import ZoomEmbedder, ZoomShape

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the tiny config (shared/fixtures/ldm) is not here")
SHAPE = ZoomShape(12, width=16, magnifications=3, depth=2, heads=2, hidden=24, side=4)
GRID = np.random.default_rng(0).standard_normal((2, 4, 12)).astype(np.float32)
HOW = How(steps=3, scale=1.5, seed=4)


class Plain(FirstStage):
    """A first stage that loses nothing but what clips: each channel is a colour, the same over four pixels a side."""

    def pixels(self, latents: Tensor, *, quantise: bool = True) -> Tensor:
        return nn.functional.interpolate(latents.float() * 0.3, scale_factor=4)

    def raw_latents(self, pixels: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(pixels.float(), 4) / 0.3


class White(LatentUNet):
    """What a network would say that learnt independent latents of deviation 1."""

    def forward(self, x: Tensor, label: Tensor, condition: TokenCondition) -> Tensor:
        """Of z = x / sqrt(1 + s²) the noise is z s / sqrt(1 + s²)."""
        sigma = torch.from_numpy(NoiseLabel("ddpm").table).float()[label.round().long()][:, None, None, None]
        return x * sigma / (1 + sigma**2).sqrt()


def model(stage: type[FirstStage], unet: type[LatentUNet] = White) -> LatentDiffusion:
    spec = import_checkpoint(FIXTURES / "tiny_patch").spec
    spec = replace(spec, embedder=SHAPE, unet=replace(spec.unet, context=16))
    torch.manual_seed(2)
    parts = unet(spec.unet), stage(spec.first_stage), ZoomEmbedder(SHAPE)
    for part in parts:
        part.eval().requires_grad_(False)
    return LatentDiffusion(spec, *parts)


def made(own: LatentDiffusion, coarse: ArrayField | None) -> NDArray[np.uint8]:
    """The fine picture, told a coarse one or not."""
    scene = SlerpScene.lattice(GRID, 16, own.embedder)
    run = default_run(own, scene, (32, 64), HOW) if coarse is None else following_run(own, GRID, coarse, HOW)
    latents = weave_canvas(run)
    values = torch.from_numpy(np.ascontiguousarray(latents.read(latents.frame.box)))[None]
    return np.asarray(own.autoencoder.decode(values)[0].numpy(), np.uint8)


def test_the_fine_picture_shows_the_coarse_one() -> None:
    own = model(Plain)
    coarse = coarse_picture(own, GRID, 1, HOW)
    assert isinstance(coarse, ArrayField)
    assert coarse.array.shape == (3, 64, 128)
    found, untold = made(own, coarse), made(own, None)
    assert found.shape == (3, 128, 256)
    errors = [
        np.abs(one.reshape(3, 64, 2, 128, 2).mean((2, 4)) - coarse.array.astype(float)).mean()
        for one in (found, untold)
    ]
    assert errors[0] < 0.25 * errors[1]


def test_a_real_picture_is_followed_as_well() -> None:
    own = model(Plain)
    rows, cols = np.mgrid[:32, :64]
    real = np.stack([60 + 2 * rows, 40 + 2 * cols, 200 - rows - cols]).astype(np.uint8)
    found = made(own, ArrayField(real))
    mean = found.reshape(3, 32, 4, 64, 4).mean((2, 4))
    assert np.abs(mean - real).mean() < 6
    assert np.abs(mean - real[:, ::-1, ::-1]).mean() > 20


def test_with_its_own_networks() -> None:
    own, grid = model(FirstStage, LatentUNet), GRID[:1, :1]
    real = np.random.default_rng(1).integers(0, 256, (3, 32, 32)).astype(np.uint8)
    one, again, other = (
        weave_canvas(following_run(own, grid, ArrayField(values), How(steps=2, scale=1.0))).read(Box(0, 0, 16, 16))
        for values in (real, real, 255 - real)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_what_does_not_fit() -> None:
    own = model(Plain)
    with pytest.raises(InputError, match="no whole number of windows"):
        coarse_picture(own, GRID, 2, HOW)
    with pytest.raises(GeometryError, match="does not show a canvas"):
        following_run(own, GRID, ArrayField(np.zeros((3, 30, 64), np.uint8)))
    with pytest.raises(InputError, match="one magnification"):
        coarse_picture(import_checkpoint(FIXTURES / "tiny_patch"), GRID, 1)
