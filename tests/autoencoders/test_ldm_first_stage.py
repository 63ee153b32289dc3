"""The latent-diffusion first stages' own laws; parity with the official code is tested in tests/importers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch

from patchloom.autoencoders.autoencoder import Autoencoder
from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape
from patchloom.errors import InputError

SMALL = FirstStageShape(width=32, multipliers=(1, 1), blocks=1, codes=16)


def made(shape: FirstStageShape) -> FirstStage:
    torch.manual_seed(4)
    return FirstStage(shape).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["vq", "kl"])
def test_both_kinds_are_autoencoders(kind: Literal["vq", "kl"]) -> None:
    stage = made(replace(SMALL, kind=kind, codes=16 if kind == "vq" else 0))
    held: Autoencoder = stage
    pixels = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    latents = held.encode(pixels)
    assert latents.shape == (2, held.channels, 16 // held.factor, 24 // held.factor)
    assert held.decode(latents).shape == pixels.shape
    assert held.decode(latents).dtype == torch.uint8
    assert held.receptive_field is None


def test_scale_and_shift_are_of_latents_alone() -> None:
    """The same pixels come back whatever the constants are: they are taken off again."""
    plain, moved = made(SMALL), made(replace(SMALL, scale=0.25, shift=2.0))
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(moved.encode(pixels), (plain.encode(pixels) - 2) * 0.25)
    torch.testing.assert_close(moved.pixels(moved.encode(pixels)), plain.pixels(plain.encode(pixels)))


def test_codes_are_the_nearest() -> None:
    stage = made(SMALL)
    assert stage.codebook is not None
    raw, codes = torch.randn(2, 3, 5, 7), stage.codebook.weight
    distances = (raw.movedim(1, -1)[..., None, :] - codes).square().sum(-1)
    assert torch.equal(stage.nearest(raw), distances.argmin(-1))
    quantised = stage.quantised(raw)
    assert torch.equal(stage.quantised(quantised), quantised)
    stage.codebook.weight[5] = stage.codebook.weight[2]  # of equals, the first
    assert 5 not in stage.nearest(raw).flatten().tolist()


def test_half_precision_weights_keep_float32_latents() -> None:
    stage = made(SMALL).to(torch.bfloat16)
    latents = stage.encode(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    assert latents.dtype == torch.float32
    assert stage.decode(latents).dtype == torch.uint8


def test_pixels_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="multiples of 2"):
        made(SMALL).encode(torch.zeros(1, 3, 9, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="uint8"):
        made(SMALL).encode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="no codebook"):
        made(replace(SMALL, kind="kl", codes=0)).nearest(torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize(
    "fields", [{"codes": 0}, {"kind": "kl"}, {"width": 30}, {"multipliers": ()}, {"blocks": 99}, {"scale": 0.0}]
)
def test_sizes_that_do_not_fit(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        replace(SMALL, **fields)
