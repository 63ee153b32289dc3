"""Tiles of a decoder with GroupNorm get one tint when its statistics are frozen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.loom.test_decode import Convolutions

from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape
from patchloom.errors import InputError
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box
from patchloom.loom.decode import decode_field
from patchloom.loom.frozen import FrozenNorm, freeze, sampled


@pytest.fixture(scope="module")
def stage() -> FirstStage:
    """Latent diffusion's first stage, small, with random weights."""
    torch.manual_seed(0)
    return FirstStage(FirstStageShape("kl", 4, 4, 32, (1, 2), 1)).eval()


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
    frozen = freeze(stage, canvas, tile=48, margin=6)
    shared = decode_field(canvas, frozen, tile=16).read(Box(0, 0, 96, 192))
    assert tint(own.astype(np.float64), truth) > 2
    assert tint(shared.astype(np.float64), truth) < 0.25 * tint(own.astype(np.float64), truth)


def test_frozen_on_the_whole_canvas_at_once_decoding_is_as_before(stage: FirstStage, canvas: ArrayField) -> None:
    frozen = freeze(stage, canvas, tile=96)
    with torch.no_grad():
        made = frozen.decode(torch.from_numpy(canvas.array)[None])[0].numpy().astype(np.float64)
    assert np.abs(made - whole(stage, canvas)).max() <= 1


def test_a_norm_pools_its_first_batch_and_stays() -> None:
    torch.manual_seed(1)
    norm = torch.nn.GroupNorm(2, 4)
    torch.nn.init.normal_(norm.weight)
    frozen, x = FrozenNorm(norm), torch.randn(3, 4, 5, 6) * 2 + 1
    side_by_side = torch.cat(list(x), dim=2)[None]
    expected = torch.stack(norm(side_by_side)[0].split(6, dim=2))
    torch.testing.assert_close(frozen(x), expected)
    torch.testing.assert_close(frozen(x[:1]), expected[:1])
    assert not torch.allclose(norm(x[:1]), expected[:1])


def test_the_autoencoder_that_was_given_stays_as_it_was(stage: FirstStage, canvas: ArrayField) -> None:
    before = whole(stage, canvas)
    frozen = freeze(stage, canvas, margin=7)
    np.testing.assert_array_equal(whole(stage, canvas), before)
    assert (frozen.factor, frozen.channels, frozen.receptive_field) == (stage.factor, 4, 7)
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(frozen.encode(pixels), stage.encode(pixels))


@pytest.mark.parametrize("canvas", [Box(0, 0, 10, 700), Box(0, 0, 640, 640), Box(0, 0, 64, 65)])
def test_samples_are_spread_and_of_one_shape(canvas: Box) -> None:
    boxes = sampled(canvas, 64, 16, seed=0)
    assert len(boxes) <= 16
    assert {box.shape for box in boxes} == {(min(64, canvas.height), 64)}
    assert all(canvas.contains(box) for box in boxes)
    assert max(box.stop_x for box in boxes) > 0.85 * canvas.width
    assert boxes == sampled(canvas, 64, 16, seed=0)


def test_what_has_no_norms_is_refused(canvas: ArrayField) -> None:
    with pytest.raises(InputError, match="torch modules"):
        freeze(Convolutions(), canvas)
