"""Chance from the latents: noise to the eye, and the same bits wherever a latent is decoded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder, ConvolutionalShape
from patchloom.autoencoders.files import load_autoencoder, save_autoencoder
from patchloom.autoencoders.grain import GrainedConv, triangles
from patchloom.errors import InputError

SHAPE = ConvolutionalShape(3, (4, 6), (1, 1), (1, 1), grain=6)


def waves_of(latents: torch.Tensor, count: int = 6) -> torch.Tensor:
    conv = GrainedConv(latents.shape[1], 4, count)
    return triangles(latents, conv.frequencies, conv.phases)


def test_waves_are_the_triangles_that_the_formula_says() -> None:
    latents = torch.randn(2, 3, 4, 5)
    conv = GrainedConv(3, 4, 6)
    turns = torch.einsum("bchw,cn->bnhw", latents.double(), conv.frequencies.double()) + conv.phases[:, None, None]
    wanted = (2 * (turns % 1 - 0.5).abs() - 0.5) * 2 * 3**0.5
    assert torch.allclose(waves_of(latents).double(), wanted, atol=1e-4)


def test_waves_of_neighbours_are_noise() -> None:
    torch.manual_seed(0)
    steps = 0.3 * torch.randn(1, 8, 64, 64)  # smoother than latents are: a walk along the rows
    noise = waves_of(steps.cumsum(-1), 16)[0].flatten(1, 1)
    assert noise.mean().abs() < 0.02
    assert noise.std() == pytest.approx(1, abs=0.02)
    beside = (noise[..., 1:] * noise[..., :-1]).mean((1, 2))
    assert beside.abs().max() < 0.1
    among = torch.corrcoef(noise.flatten(1)) - torch.eye(16)
    assert among.abs().max() < 0.1


@given(y=st.integers(0, 20), x=st.integers(0, 20), high=st.integers(1, 11), wide=st.integers(1, 11))
def test_a_place_gets_the_same_bits_in_every_tile(y: int, x: int, high: int, wide: int) -> None:
    latents = torch.randn(1, 8, 31, 31, generator=torch.Generator().manual_seed(0))
    tile = latents[:, :, y : y + high, x : x + wide]
    whole = waves_of(latents)[:, :, y : y + high, x : x + wide]
    assert torch.equal(waves_of(tile), whole)
    assert torch.equal(waves_of(tile.contiguous(memory_format=torch.channels_last)), whole)


def test_it_begins_as_if_there_were_no_waves_and_does_not_stay_so() -> None:
    torch.manual_seed(0)
    conv = GrainedConv(3, 4, 6)
    latents = torch.randn(1, 3, 5, 5)
    plain = torch.nn.functional.conv2d(latents, conv.weight, conv.bias, padding=1)
    assert torch.equal(conv(latents), plain)
    conv(latents).square().sum().backward()
    assert conv.grain.weight.grad is not None
    assert conv.grain.weight.grad.abs().max() > 0


def test_it_is_kept_with_the_weights(tmp_path: Path) -> None:
    network = ConvolutionalAutoencoder(SHAPE)
    torch.nn.init.normal_(network.get_parameter("decoder.0.grain.weight"))
    save_autoencoder(network, tmp_path, torch.bfloat16)
    again = load_autoencoder(tmp_path)
    assert again.shape == SHAPE
    assert torch.equal(again.get_buffer("decoder.0.frequencies"), network.get_buffer("decoder.0.frequencies"))
    latents = torch.randn(1, 3, 6, 6)
    assert not torch.equal(again.decode(latents), again.decode(latents + 1e-2))


def test_fewer_than_no_waves_are_refused() -> None:
    with pytest.raises(InputError, match="0 or more waves of `grain`, not -1"):
        ConvolutionalShape(grain=-1)
