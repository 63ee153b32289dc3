"""Embeddings that also say colours: the encoder's own come first, and the six values after them are those colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.encoders.fakes import tiny_encoder
from torch import Tensor

from patchloom.encoders.coloured import SUFFIX, VALUES, coloured, colours
from patchloom.encoders.encoder import Encoder, EncoderSpec
from patchloom.encoders.registry import load_encoder
from patchloom.encoders.trained import FORMAT, TrainedRecord, save_encoder
from patchloom.encoders.trained_network import TrainedNetwork, TrainedShape
from patchloom.errors import InputError
from patchloom.testing.encoders import EncoderLaws


def pictures(count: int = 3, side: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


class TestColoured(EncoderLaws):
    """It is an encoder like any other."""

    def encoder(self) -> Encoder:
        """A small one that says colours."""
        return coloured(tiny_encoder())


def test_the_own_embedding_comes_first_and_the_colours_follow() -> None:
    plain = tiny_encoder()
    found = coloured(plain)(pictures())
    assert torch.equal(found[:, :-VALUES], plain(pictures()))
    values = pictures().numpy().reshape(3, 3, -1) / 255
    expected = np.concatenate([values.mean(2) - 0.5, values.std(2)], axis=1)
    np.testing.assert_allclose(found[:, -VALUES:].numpy(), expected, atol=1e-4)


def test_a_picture_that_is_laid_down_otherwise_has_the_same_colours() -> None:
    plain, turned = (coloured(tiny_encoder())(one)[:, -VALUES:] for one in (pictures(), pictures().rot90(1, (2, 3))))
    assert torch.allclose(plain, turned, atol=1e-6)


def test_colours_do_not_depend_on_the_precision_of_the_network() -> None:
    full, half = (coloured(tiny_encoder(dtype=dtype))(pictures()) for dtype in (torch.float32, torch.bfloat16))
    assert torch.equal(full[:, -VALUES:], half[:, -VALUES:])


def test_gradients_lead_back_to_pixels_even_where_they_are_flat() -> None:
    flat = torch.full((1, 3, 16, 16), 128.0, requires_grad=True)
    found = coloured(tiny_encoder()).followed(flat)[0, -VALUES]
    (slope,) = torch.autograd.grad(found, flat)
    assert torch.allclose(slope[0, 0], torch.full((16, 16), 1 / 255 / 256))  # the mean of red
    (spread,) = torch.autograd.grad(colours(flat / 255)[0, -1], flat)
    assert torch.isfinite(spread).all()


def test_it_is_another_encoder_than_the_one_without_and_says_whose_it_is() -> None:
    plain, found = tiny_encoder().spec, coloured(tiny_encoder()).spec
    assert (found.name, found.dim) == (plain.name + SUFFIX, plain.dim + VALUES)
    assert found.digest != plain.digest
    assert (found.licence, found.input_px) == (plain.licence, plain.input_px)


def test_any_name_takes_it_a_folder_of_ours_too(tmp_path: Path) -> None:
    shape = TrainedShape(6, (8, 8), (1, 0))
    save_encoder(TrainedNetwork(shape), TrainedRecord(FORMAT, "toy", shape, 24, "0.5um", "CC0-1.0"), tmp_path / "toy")
    assert load_encoder(f"{tmp_path / 'toy'}{SUFFIX}").spec.name == f"local:toy{SUFFIX}"
    assert load_encoder(f"efficientnet-lite0-128{SUFFIX}").spec.dim == 1280 + VALUES
    with pytest.raises(InputError, match="there is no encoder `efficientnet-lite9`"):
        load_encoder(f"efficientnet-lite9{SUFFIX}")


def test_an_encoder_that_is_no_network_is_refused() -> None:
    class Told:
        spec = EncoderSpec("text", 8, 1, (0.0,) * 3, (1.0,) * 3, "CC0-1.0", "not stated")

        def __call__(self, pixels: Tensor) -> Tensor:
            return torch.zeros(len(pixels), 8)

    with pytest.raises(InputError, match="no network over pixels"):
        coloured(Told())
