"""Our first stage: a decoded pixel and a latent depend on so many neighbours and no more, which makes tiles exact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchloom.autoencoders.convolutional import (
    ConvolutionalAutoencoder,
    ConvolutionalShape,
    as_float,
    as_uint8,
)
from patchloom.autoencoders.files import digest, load_autoencoder, save_autoencoder
from patchloom.errors import FormatError, InputError

SHAPES = [
    ConvolutionalShape(2, (4, 6, 8), (1, 2, 2), (2, 2, 2)),
    ConvolutionalShape(2, (4, 6, 8), (1, 1, 1), (1, 1, 1)),
    ConvolutionalShape(3, (4, 4), (0, 2), (2, 0)),
    ConvolutionalShape(2, (4, 4, 4, 4), (3, 0, 1, 1), (0, 3, 1, 1)),
    ConvolutionalShape(2, (4,), (1,), (1,)),
    ConvolutionalShape(3, (4, 6), (1, 1), (1, 1), grain=5),
]


def network_of(shape: ConvolutionalShape) -> ConvolutionalAutoencoder:
    """A network in which every layer does something; in float64, so that no two sums of one thing differ."""
    torch.manual_seed(0)
    network = ConvolutionalAutoencoder(shape).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.requires_grad_(False)


def touched(change: torch.Tensor) -> tuple[int, int]:
    """First and last row of a plane (h, w) that are not zero."""
    rows = change.abs().amax(1).nonzero().flatten()
    return int(rows[0]), int(rows[-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_latent_is_seen_by_pixels_within_the_receptive_field_and_by_one_at_its_end(shape: ConvolutionalShape) -> None:
    network = network_of(shape)
    reach, side = network.receptive_field, 2 * network.receptive_field + 3
    latents = torch.randn(1, shape.channels, side, 3, dtype=torch.float64)
    changed = latents.clone()
    changed[:, :, side // 2, 1] += 1
    first, last = touched((network.pixels(changed) - network.pixels(latents))[0].abs().sum(0))
    assert first // network.factor == side // 2 - reach
    assert last // network.factor == side // 2 + reach


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pixel_is_seen_by_latents_within_the_encoder_s_reach_and_by_one_at_its_end(shape: ConvolutionalShape) -> None:
    network = network_of(shape)
    reach, factor = network.encoder_reach, network.factor
    side = 2 * reach + 3
    pixels = torch.randn(1, 3, side * factor, 3 * factor, dtype=torch.float64)
    ends = []
    for row in range(side // 2 * factor, (side // 2 + 1) * factor):  # the pixels of the middle latent
        changed = pixels.clone()
        changed[:, :, row] += 1
        ends.append(touched((network.raw_latents(changed) - network.raw_latents(pixels))[0].abs().sum(0)))
    assert min(first for first, _ in ends) == side // 2 - reach
    assert max(last for _, last in ends) == side // 2 + reach


@settings(max_examples=12)
@given(shape=st.sampled_from([*SHAPES[:3], SHAPES[-1]]), tile=st.integers(1, 9), data=st.data())
def test_decoding_in_tiles_with_that_halo_is_decoding_the_whole(
    shape: ConvolutionalShape, tile: int, data: st.DataObject
) -> None:
    network = network_of(shape)
    side, factor = 14, network.factor
    latents = torch.randn(1, shape.channels, side, side, dtype=torch.float64)
    whole = network.pixels(latents)
    y = data.draw(st.integers(0, side - tile))

    def tiled(halo: int) -> torch.Tensor:
        top, stop = max(y - halo, 0), min(y + tile + halo, side)
        return network.pixels(latents[:, :, top:stop])[:, :, (y - top) * factor : (y - top + tile) * factor]

    wanted = whole[:, :, y * factor : (y + tile) * factor]
    assert torch.allclose(tiled(network.receptive_field), wanted, rtol=0, atol=1e-12)
    if y - network.receptive_field + 1 > 0:  # not at the edge, where a smaller halo sees all there is
        assert not torch.allclose(tiled(network.receptive_field - 1), wanted, rtol=0, atol=1e-12)


@settings(max_examples=12)
@given(shape=st.sampled_from([*SHAPES[:3], SHAPES[-1]]), tile=st.integers(1, 9), data=st.data())
def test_encoding_in_tiles_with_that_halo_is_encoding_the_whole(
    shape: ConvolutionalShape, tile: int, data: st.DataObject
) -> None:
    network = network_of(shape)
    side, factor = 14, network.factor
    pixels = torch.randn(1, 3, side * factor, 4 * factor, dtype=torch.float64)
    whole = network.raw_latents(pixels)
    y = data.draw(st.integers(0, side - tile))

    def tiled(halo: int) -> torch.Tensor:
        top, stop = max(y - halo, 0), min(y + tile + halo, side)
        return network.raw_latents(pixels[:, :, top * factor : stop * factor])[:, :, y - top : y - top + tile]

    wanted = whole[:, :, y : y + tile]
    assert torch.allclose(tiled(network.encoder_reach), wanted, rtol=0, atol=1e-12)
    if y - network.encoder_reach + 1 > 0:
        assert not torch.allclose(tiled(network.encoder_reach - 1), wanted, rtol=0, atol=1e-12)


def test_every_byte_survives_the_way_to_floats_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(as_uint8(as_float(values)), values)
    assert as_float(values)[[0, -1]].tolist() == [-1, 1]
    assert as_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_encode_standardises_by_the_constants() -> None:
    network = ConvolutionalAutoencoder(SHAPES[0])
    pixels = torch.randint(0, 256, (1, 3, 16, 24), dtype=torch.uint8)
    raw = network.raw_latents(as_float(pixels))
    network.mean.copy_(torch.tensor([1.0, 2.0]))
    network.deviation.copy_(torch.tensor([2.0, 0.5]))
    latents = network.encode(pixels)
    assert latents.shape == (1, 2, 2, 3)
    assert torch.allclose(latents, torch.stack([(raw[:, 0] - 1) / 2, (raw[:, 1] - 2) / 0.5], dim=1))
    assert network.decode(latents).shape == pixels.shape
    assert network.decode(latents).dtype == torch.uint8


@pytest.mark.parametrize("pixels", [torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 20, dtype=torch.uint8)])
def test_pixels_that_cannot_be_encoded_are_refused(pixels: torch.Tensor) -> None:
    with pytest.raises(InputError, match="multiples of 8"):
        ConvolutionalAutoencoder(SHAPES[0]).encode(pixels)


def test_bf16_weights_encode_and_decode() -> None:
    network = network_of(SHAPES[0]).to(torch.bfloat16)
    network.mean, network.deviation = network.mean.float(), network.deviation.float()
    latents = network.encode(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    assert latents.dtype == torch.float32
    assert network.decode(latents).dtype == torch.uint8


def test_a_folder_gives_back_the_network(tmp_path: Path) -> None:
    network = network_of(SHAPES[1]).float()
    network.mean.fill_(0.25)
    save_autoencoder(network, tmp_path)
    again = load_autoencoder(tmp_path)
    assert again.shape == network.shape
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    before = digest(tmp_path)
    save_autoencoder(network, tmp_path)
    assert digest(tmp_path) == before
    network.mean.fill_(0.5)
    save_autoencoder(network, tmp_path)
    assert digest(tmp_path) != before


def test_another_format_is_refused(tmp_path: Path) -> None:
    save_autoencoder(network_of(SHAPES[1]), tmp_path)
    path = tmp_path / "autoencoder.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(FormatError, match="format 9; this version reads 1"):
        load_autoencoder(tmp_path)


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(InputError, match="as many"):
        ConvolutionalShape(2, (4, 4), (1,), (1, 1))
