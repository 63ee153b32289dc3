"""Decoding in tiles equals decoding at once, and decodes every pixel once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder, ConvolutionalShape
from patchloom.fields.field import ArrayField, Field
from patchloom.geometry import Box, PixelSize
from patchloom.loom.decode import Near, decode_field, decode_windows, is_local, latents_under, tiles
from patchloom.testing.fields import FieldLaws

LATENTS = ArrayField(np.random.default_rng(0).standard_normal((4, 45, 37)).astype(np.float32))


@dataclass
class Convolutions:
    """A decoder of two convolutions on latents and one on pixels: it reaches 2 + 1 latents far."""

    factor: int = 2
    channels: int = 4
    receptive_field: int | None = 3
    shapes: list[torch.Size] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(4, 8, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Upsample(scale_factor=self.factor),
            nn.Conv2d(8, 3, 3, padding=1),
        )

    def encode(self, pixels: Tensor) -> Tensor:
        raise NotImplementedError("nothing is encoded here")

    def decode(self, latents: Tensor) -> Tensor:
        self.shapes.append(latents.shape)
        pixels: Tensor = 127.5 + 60 * self.layers(latents)
        return pixels.clamp(0, 255).round().to(torch.uint8)


class TestPixelsAreAField(FieldLaws):
    def field(self) -> Field:
        return decode_field(LATENTS, Convolutions(), tile=8)


@pytest.mark.parametrize("tile", [4, 8, 16, 64])
def test_tiles_equal_the_whole_up_to_rounding(tile: int) -> None:
    with torch.no_grad():
        whole = Convolutions().decode(torch.from_numpy(LATENTS.array)[None])[0].numpy()
    tiles = decode_field(LATENTS, Convolutions(), tile=tile)
    made = tiles.read(tiles.frame.box)
    assert made.dtype == np.uint8
    difference = np.abs(made.astype(int) - whole)
    assert difference.max() <= 1  # a sum in another order may round to the next grey level
    assert (difference > 0).mean() < 1e-3


def test_a_margin_below_the_receptive_field_would_show() -> None:
    with torch.no_grad():
        whole = Convolutions().decode(torch.from_numpy(LATENTS.array)[None])[0].numpy()
    tiles = decode_field(LATENTS, Convolutions(), tile=8, margin=1)
    assert np.abs(tiles.read(tiles.frame.box).astype(int) - whole).max() > 3


def test_a_reader_going_down_decodes_every_tile_once() -> None:
    autoencoder = Convolutions()
    tiles = decode_field(LATENTS, autoencoder, tile=8, batch=1)
    for y in range(0, 90, 6):
        for x in range(0, 74, 37):
            tiles.read(Box(y, x, 6, 37))
    assert len(autoencoder.shapes) == len(tiles.lattice)
    assert len(set(autoencoder.shapes)) == 1


def test_tile_borders_lie_at_multiples_of_the_tile() -> None:
    tiles = decode_field(LATENTS, Convolutions(), tile=8)
    assert all(span.core_start % 8 == 0 for span in (*tiles.lattice.rows, *tiles.lattice.cols))


def test_the_frame_says_what_the_pixels_are() -> None:
    frame = decode_field(LATENTS, Convolutions(), pixel_size=PixelSize(5e-7)).frame
    assert (frame.height, frame.width, frame.channels, frame.dtype) == (90, 74, 3, "uint8")
    assert frame.pixel_size == PixelSize(5e-7)


class Tinted(Convolutions):
    """A decoder whose answer is one colour: the mean of all that it sees."""

    def decode(self, latents: Tensor) -> Tensor:
        self.shapes.append(latents.shape)
        colour = (127.5 + 400 * latents.mean(dim=(1, 2, 3))).clamp(0, 255).round().to(torch.uint8)
        height, width = (side * self.factor for side in latents.shape[2:])
        return colour[:, None, None, None].expand(-1, 3, height, width)


def test_tiles_of_a_decoder_that_sees_the_whole_tile_fade_into_one_another() -> None:
    tinted = Tinted(receptive_field=None)
    pixels = decode_field(LATENTS, tinted, tile=16)
    made = pixels.read(pixels.frame.box).astype(int)
    steps = max(np.abs(np.diff(made, axis=axis)).max() for axis in (1, 2))
    assert steps <= np.ptp(made) * np.pi / 16 + 1  # the steepest slope of Hann's window, and rounding
    assert np.ptp(made) > 40
    hard = decode_field(LATENTS, tinted, tile=16, margin=4)
    assert np.abs(np.diff(hard.read(hard.frame.box).astype(int), axis=2)).max() > 2 * steps


def test_a_tile_that_fades_is_decoded_once_by_a_reader_that_goes_down() -> None:
    tinted = Tinted(receptive_field=None)
    pixels = decode_field(LATENTS, tinted, tile=16, batch=1)
    for y in range(0, pixels.frame.height, 3):
        pixels.read(Box(y, 0, 3, pixels.frame.width))
    assert len(tinted.shapes) == len(pixels.lattice)


@pytest.mark.parametrize("tile", [8, 64])
def test_mirrored_latents_go_on_beyond_the_canvas(tile: int) -> None:
    laid = np.pad(LATENTS.array, ((0, 0), (3, 3), (3, 3)), mode="symmetric")
    with torch.no_grad():
        whole = Convolutions().decode(torch.from_numpy(laid)[None])[0].numpy()[:, 6:-6, 6:-6]
    mirrored = decode_field(LATENTS, Convolutions(), tile=tile, mirror=True)
    assert np.abs(mirrored.read(mirrored.frame.box).astype(int) - whole).max() <= 1
    cut = decode_field(LATENTS, Convolutions(), tile=tile)
    assert np.abs(cut.read(cut.frame.box).astype(int) - whole).max() > 3, "without, the edge is another one"


def test_a_canvas_smaller_than_the_decoder_reaches_is_mirrored_again_and_again() -> None:
    small = ArrayField(LATENTS.array[:, :2, :])
    canvas = decode_field(small, Convolutions(), mirror=True)
    with torch.no_grad():
        alone = decode_windows(torch.from_numpy(small.array)[None], Convolutions())[0].numpy()
    assert np.abs(canvas.read(canvas.frame.box).astype(int) - alone).max() <= 1


def test_a_window_by_itself_is_decoded_as_a_canvas_of_that_size() -> None:
    canvas = decode_field(LATENTS, Convolutions(), mirror=True)
    with torch.no_grad():
        one, other = decode_windows(torch.from_numpy(LATENTS.array)[None].repeat(2, 1, 1, 1), Convolutions())
    assert torch.equal(one, other)
    assert np.abs(canvas.read(canvas.frame.box).astype(int) - one.numpy()).max() <= 1


def test_a_flat_canvas_has_no_frame_where_latents_go_on() -> None:
    flat = ArrayField(np.broadcast_to(np.array([1, -2, 0.5, 3], np.float32)[:, None, None], (4, 20, 30)))
    pixels = decode_field(flat, Convolutions(), tile=8, mirror=True)
    made = pixels.read(pixels.frame.box)
    assert (np.ptp(made[:, ::2, ::2], axis=(1, 2)) <= 1).all()


@pytest.mark.parametrize("mirror", [False, True])
def test_the_latents_under_pixels_stay_inside_a_canvas_with_edges(mirror: bool) -> None:
    lattice = tiles((45, 37), 3, 8, mirror=mirror)
    under = latents_under(lattice, Box(0, 60, 20, 14), 2)
    assert Box(0, 0, 45, 37).contains(under)
    assert under.contains(Box(0, 27, 13, 10))


@st.composite
def parts(draw: st.DrawFn) -> Box:
    """A box of the pixels of LATENTS."""
    y, x = draw(st.integers(0, 89)), draw(st.integers(0, 73))
    return Box(y, x, draw(st.integers(1, 90 - y)), draw(st.integers(1, 74 - x)))


@pytest.mark.parametrize("mirror", [False, True])
@settings(max_examples=25, deadline=None)
@given(pixels=parts())
def test_a_part_needs_latents_within_reach_alone(mirror: bool, pixels: Box) -> None:
    whole = decode_field(LATENTS, Convolutions(), tile=8, mirror=mirror)
    near = latents_under(whole.lattice, pixels, 2, reach=3)
    assert Box(0, 0, 45, 37).contains(near)
    assert latents_under(whole.lattice, pixels, 2).contains(near)
    part = decode_field(Near(LATENTS, near), Convolutions(), tile=8, mirror=mirror)
    assert np.array_equal(part.read(pixels), whole.read(pixels))


def test_a_part_over_a_joined_border_needs_what_lies_on_both_sides() -> None:
    whole = decode_field(LATENTS, Convolutions(), tile=8, wrap=(False, True))
    pixels = Box(10, 0, 20, 6)
    near = latents_under(whole.lattice, pixels, 2, reach=3)
    assert near.x == -3
    part = decode_field(Near(LATENTS, near, whole.lattice.period), Convolutions(), tile=8, wrap=(False, True))
    assert np.array_equal(part.read(pixels), whole.read(pixels))


def test_latents_out_of_reach_are_not_asked_for() -> None:
    asked: list[Box] = []

    class Listening(ArrayField):
        def read(self, box: Box) -> NDArray[Any]:
            asked.append(box)
            return super().read(box)

    near = Box(10, 8, 7, 6)
    part = decode_field(Near(Listening(LATENTS.array), near), Convolutions(), tile=8)
    part.read(Box(26, 22, 2, 2))
    assert asked
    assert all(near.contains(box) for box in asked)


class Spread(Convolutions):
    """A decoder whose convolutions go through Fourier's transform: right up to rounding, wherever latents lie."""

    def decode(self, latents: Tensor) -> Tensor:
        kernel = torch.zeros(latents.shape[-2:])
        kernel[0, 0], kernel[0, 1], kernel[1, 0] = 0.5, 0.3, 0.2
        mixed = torch.fft.irfft2(torch.fft.rfft2(latents) * torch.fft.rfft2(kernel), s=latents.shape[-2:])
        pixels = torch.nn.functional.interpolate(mixed[:, :3], scale_factor=self.factor)
        return (127.5 + 40 * pixels).clamp(0, 255).round().to(torch.uint8)


def test_fast_transforms_are_told_from_convolutions_that_stay_within_reach() -> None:
    lattice, cpu = tiles((200, 200), 3, 24), torch.device("cpu")
    assert is_local(Convolutions(), lattice, cpu)
    assert not is_local(Convolutions(receptive_field=2), lattice, cpu)
    assert not is_local(Convolutions(receptive_field=None), lattice, cpu)
    assert not is_local(Spread(), lattice, cpu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_our_own_decoder_is_local_on_a_cpu(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    decoder = ConvolutionalAutoencoder(ConvolutionalShape(4, (16, 24), (1, 1), (1, 1)))
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    assert is_local(decoder.to(dtype), tiles((200, 200), decoder.receptive_field, 32, mirror=True), torch.device("cpu"))
