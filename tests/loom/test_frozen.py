"""Tiles of a decoder with GroupNorm get one tint when its statistics are frozen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.loom.test_decode import Convolutions

from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape
from patchloom.errors import InputError
from patchloom.fields.field import ArrayField
from patchloom.fields.weave import Work
from patchloom.geometry import Box, Window
from patchloom.loom.decode import BATCH, KEY, Decode, decode_field, tiles
from patchloom.loom.frozen import FrozenNorm, Seen, freeze, reach_of, sampled
from patchloom.loom.workers import Workers

WHOLE = [Window(0, Box(0, 0, 48, 96), Box(0, 0, 48, 96))]


def small_stage() -> FirstStage:
    """Latent diffusion's first stage, small, with random weights."""
    torch.manual_seed(0)
    return FirstStage(FirstStageShape("kl", 4, 4, 32, (1, 2), 1)).eval()


@pytest.fixture(scope="module")
def stage() -> FirstStage:
    """The same, for all tests of the module."""
    return small_stage()


@pytest.fixture(scope="module")
def canvas() -> ArrayField:
    """Noise that becomes stronger to the right: each tile has statistics of its own."""
    noise = np.random.default_rng(0).standard_normal((4, 48, 96)).astype(np.float32)
    return ArrayField(noise * np.linspace(0.3, 2, 96, dtype=np.float32))


def whole(stage: FirstStage, canvas: ArrayField) -> NDArray[np.float64]:
    with torch.no_grad():
        return stage.decode(torch.from_numpy(canvas.array)[None])[0].numpy().astype(np.float64)


def tint(made: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """The mean absolute difference of the tiles' mean colours (of 32 x 32 px)."""
    error = (made - truth).reshape(3, 3, 32, 6, 32).mean((2, 4))
    return float(np.abs(error).mean())


def test_frozen_tiles_have_less_of_a_tint(stage: FirstStage, canvas: ArrayField) -> None:
    truth = whole(stage, canvas)
    own = decode_field(canvas, stage, tile=16, margin=6).read(Box(0, 0, 96, 192))
    frozen = freeze(stage, canvas, sampled(tiles((48, 96), reach_of(stage), 24)), margin=6)
    shared = decode_field(canvas, frozen, tile=16).read(Box(0, 0, 96, 192))
    assert tint(own.astype(np.float64), truth) > 2
    assert tint(shared.astype(np.float64), truth) < 0.25 * tint(own.astype(np.float64), truth)


def test_frozen_on_the_whole_canvas_at_once_decoding_is_as_before(stage: FirstStage, canvas: ArrayField) -> None:
    frozen = freeze(stage, canvas, WHOLE, margin=6)
    with torch.no_grad():
        made = frozen.decode(torch.from_numpy(canvas.array)[None])[0].numpy().astype(np.float64)
    assert np.abs(made - whole(stage, canvas)).max() <= 1


def test_a_norm_pools_the_cores_of_its_first_batch_and_stays() -> None:
    torch.manual_seed(1)
    norm = torch.nn.GroupNorm(2, 4)
    torch.nn.init.normal_(norm.weight)
    x, tile = torch.randn(2, 4, 10, 12) * 2 + 1, Box(0, 0, 5, 6)
    frozen = FrozenNorm(norm, Seen([Window(0, tile, Box(0, 0, 5, 4)), Window(1, tile, Box(1, 1, 4, 5))]))
    cores = torch.cat([x[0, :, :10, :8].flatten(1), x[1, :, 2:, 2:].flatten(1)], 1).reshape(2, -1)
    groups = x.reshape(2, 2, -1)
    scaled = (groups - cores.mean(1)[:, None]) / (cores.var(1, correction=0) + norm.eps).sqrt()[:, None]
    expected = scaled.reshape(x.shape) * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(frozen(x), expected)
    torch.testing.assert_close(frozen(x[:1]), expected[:1])
    assert not torch.allclose(norm(x[:1]), expected[:1])


def test_the_autoencoder_that_was_given_stays_as_it_was(stage: FirstStage, canvas: ArrayField) -> None:
    before = whole(stage, canvas)
    frozen = freeze(stage, canvas, WHOLE, margin=7)
    np.testing.assert_array_equal(whole(stage, canvas), before)
    assert (frozen.factor, frozen.channels, frozen.receptive_field) == (stage.factor, 4, 7)
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(frozen.encode(pixels), stage.encode(pixels))


@pytest.mark.parametrize("shape", [(10, 700), (640, 640), (64, 65)])
def test_samples_are_spread_and_of_one_shape(shape: tuple[int, int]) -> None:
    lattice = tiles(shape, 8, 32)
    found = sampled(lattice)
    assert len(found) == min(len(lattice), 16)
    assert len({window.box.shape for window in found}) == 1
    assert max(window.core.stop_x for window in found) > 0.85 * shape[1]
    assert found == sampled(lattice)


def test_what_has_no_norms_is_refused(canvas: ArrayField) -> None:
    with pytest.raises(InputError, match="torch modules"):
        freeze(Convolutions(), canvas, WHOLE, margin=3)


def works_of(number: int) -> Mapping[str, Work]:
    """What a worker has: the decoder as it was before anything was measured."""
    return {KEY: Decode(small_stage(), BATCH, torch.device("cpu"))}


def test_workers_are_told_the_statistics(stage: FirstStage) -> None:
    latents = ArrayField(np.random.default_rng(0).standard_normal((4, 12, 12)).astype(np.float32))
    windows, whole_box = list(tiles((12, 12), 2, 6)), Box(0, 0, 24, 24)
    with Workers(1, works_of) as crew:
        for some in (windows[:1], windows[1:]):
            frozen = freeze(stage, latents, some, margin=2)
            told = decode_field(latents, frozen, tile=6, crew=crew).read(whole_box)
            np.testing.assert_array_equal(told, decode_field(latents, frozen, tile=6).read(whole_box))
        own = decode_field(latents, stage, tile=6, margin=2, crew=crew).read(whole_box)
    assert (own != told).mean() > 0.5
