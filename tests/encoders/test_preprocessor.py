"""Transforms as processors describe them, in the spellings that are found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from patchloom.encoders.pixels import Transform
from patchloom.encoders.preprocessor import transform_of
from patchloom.errors import FormatError, InputError

HALF = [0.5, 0.5, 0.5]
BASE: dict[str, Any] = {"size": 224, "image_mean": HALF, "image_std": HALF}


@pytest.mark.parametrize(
    ("values", "sizes", "how"),
    [
        ({}, (224, 224), "bilinear"),
        ({"size": {"height": 224, "width": 224}, "resample": 3}, (224, 224), "bicubic"),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224}, (256, 224), "bilinear"),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (256, 224), "bilinear"),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384), "bilinear"),
    ],
)
def test_sizes_and_filters(values: dict[str, Any], sizes: tuple[int, int], how: str) -> None:
    found = transform_of(BASE | values, "a")
    assert (found.resize_px, found.crop_px, found.filter) == (*sizes, how)
    assert found.mean == (0.5, 0.5, 0.5)


def test_without_normalisation_pixels_are_0_to_1() -> None:
    found = transform_of({"size": 8, "do_normalize": False}, "a")
    picture = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    assert torch.equal(found(picture), torch.ones(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": {"height": 224, "width": 200}}, "one side of a square"),
        ({"size": None}, "`size` does not give"),
        ({"resample": 1}, "resample 1 is not known"),
        ({"image_mean": [0.5]}, "`image_mean` is"),
        ({"rescale_factor": 1 / 127.5}, r"known is 1/255 only"),
        ({"do_rescale": False}, r"known is 1/255 only"),
    ],
)
def test_other_steps_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        transform_of(BASE | values, "a")


def test_impossible_transforms_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be cut"):
        Transform(200, 224, (0, 0, 0), (1, 1, 1))
    with pytest.raises(InputError, match="must be positive"):
        Transform(224, 224, (0, 0, 0), (1, 0, 1))


@pytest.mark.parametrize(
    ("how", "pillow"), [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)]
)
@pytest.mark.parametrize("side", [50, 20])
def test_the_resize_is_pillows(how: Any, pillow: Image.Resampling, side: int) -> None:
    coarse = torch.rand((1, 3, 9, 9), generator=torch.Generator().manual_seed(0)) * 160 + 50
    pixels = torch.nn.functional.interpolate(coarse, 37, mode="bilinear").to(torch.uint8)
    found = Transform(side, side, (0, 0, 0), (1, 1, 1), how)(pixels)[0] * 255
    image = Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).resize((side, side), pillow)
    expected = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(side, side, 3).permute(2, 0, 1)
    assert (found - expected.float()).abs().max() <= 1.2  # Pillow rounds after each axis
