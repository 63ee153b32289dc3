"""Exact norms: tiles decode to what the canvas in one piece gives, also where it wraps."""

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
from patchloom.loom.decode import decode_field, tiles
from patchloom.loom.frozen import reach_of
from patchloom.loom.swept import LIMIT, check_size, layers_of, sweep_exactly

NORMS = 4 + 1 + 2 * 2 + 1  # of the middle's blocks and attention, of the level's two blocks, and the last


@pytest.fixture(scope="module", params=["kl", "vq"])
def stage(request: pytest.FixtureRequest) -> FirstStage:
    """A first stage with random weights."""
    torch.manual_seed(0)
    codes = 64 if request.param == "vq" else 0
    return FirstStage(FirstStageShape(request.param, 4, 4, 32, (1,), 1, codes=codes)).eval().requires_grad_(False)


def canvas() -> ArrayField:
    """Noise that becomes stronger to the right: each tile has statistics of its own."""
    noise = np.random.default_rng(0).standard_normal((4, 20, 48)).astype(np.float32)
    return ArrayField(noise * np.linspace(0.3, 2, 48, dtype=np.float32))


def whole(stage: FirstStage, latents: NDArray[np.float32]) -> NDArray[np.int64]:
    with torch.no_grad():
        return stage.decode(torch.from_numpy(latents)[None])[0].numpy().astype(np.int64)


def test_tiles_are_the_whole_up_to_rounding(stage: FirstStage) -> None:
    latents, reach = canvas(), reach_of(stage)
    told: list[int] = []
    exact = sweep_exactly(stage, latents, tiles((20, 48), reach, 16), reach, report=told.append)
    made = decode_field(latents, exact, tile=16)
    assert np.abs(made.read(made.frame.box).astype(int) - whole(stage, latents.array)).max() <= 1
    assert sum(told) == layers_of(stage) * len(tiles((20, 48), reach, 16))


def test_every_norm_and_attention_is_swept_once(stage: FirstStage) -> None:
    assert layers_of(stage) == NORMS + 1
    assert layers_of(Convolutions()) == 0


def test_a_canvas_that_wraps_has_statistics_of_no_edge(stage: FirstStage) -> None:
    """Rolled by half, its tiles are the same as before."""
    latents, reach = canvas(), reach_of(stage)
    moved = ArrayField(np.roll(latents.array, 16, 2))
    lattice = tiles((20, 48), reach, 16, (False, True))
    first, second = (
        decode_field(one, sweep_exactly(stage, one, lattice, reach), tile=16, wrap=(False, True))
        for one in (latents, moved)
    )
    box = Box(0, 0, 20, 48)
    assert np.abs(second.read(box).astype(int) - np.roll(first.read(box).astype(int), 16, 2)).max() <= 1


def test_the_autoencoder_that_was_given_stays_as_it_was(stage: FirstStage) -> None:
    before = whole(stage, canvas().array)
    sweep_exactly(stage, canvas(), tiles((20, 48), 10, 32), 10)
    np.testing.assert_array_equal(whole(stage, canvas().array), before)


def test_the_reach_is_enough_and_not_much_more_than_needed() -> None:
    found = Convolving()
    assert reach_of(found) == 3  # two convolutions of latents, and one of half latents


class Convolving(torch.nn.Module):
    """`Convolutions` as a module."""

    factor, channels, receptive_field = 2, 4, None

    def __init__(self) -> None:
        super().__init__()
        self.layers = Convolutions().layers

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("nothing is encoded here")

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        pixels: torch.Tensor = self.layers(latents)
        return pixels.to(torch.uint8)


def test_what_cannot_be_swept_is_refused() -> None:
    with pytest.raises(InputError, match="torch modules"):
        sweep_exactly(Convolutions(), canvas(), tiles((20, 48), 3, 16), 3)
    check_size(Box(0, 0, 256, 256))
    with pytest.raises(InputError, match=f"up to {LIMIT:,} latents"):
        check_size(Box(0, 0, 256, 257))
