from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from patchloom.encoders.encoder import EncoderSpec
from patchloom.encoders.network import NetworkEncoder
from patchloom.encoders.pixels import Transform
from patchloom.encoders.registry import load_encoder
from patchloom.errors import InputError
from patchloom.evaluation.features import features, resized
from patchloom.evaluation.kernel import kernel_distance
from patchloom.evaluation.patches import from_arrays

UInt8 = NDArray[np.uint8]
HALF = (0.5, 0.5, 0.5)
SPEC = EncoderSpec("means", 3, 16, HALF, HALF, "Apache-2.0", "sha256:" + "0" * 64)


def tiny(resize_px: int = 16, crop_px: int = 16) -> NetworkEncoder:
    def embed(picture: Tensor) -> Tensor:
        return picture.mean((2, 3))

    return NetworkEncoder(SPEC, nn.Identity(), Transform(resize_px, crop_px, HALF, HALF), embed)


def picture(side: int, seed: int) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (3, side, side), dtype=np.uint8)


def test_rows_are_the_encoders_answers_in_order() -> None:
    arrays = [picture(16, seed) for seed in range(7)]
    done: list[tuple[int, int]] = []
    found = features(
        from_arrays(arrays, "seven", groups=np.arange(7)), tiny(), batch=3, progress=lambda n, m: done.append((n, m))
    )
    expected = np.stack(arrays).mean((2, 3)) / 127.5 - 1
    assert found.rows == pytest.approx(expected, abs=1e-5)
    assert done == [(3, 7), (6, 7), (7, 7)]
    assert (found.space.network, found.space.digest, found.space.dim) == ("means", SPEC.digest, 3)
    assert (found.side.name, found.side.n, found.side.codec) == ("seven", 7, "none (arrays)")
    assert found.groups is not None
    assert found.groups.tolist() == list(range(7))


def test_the_resizer_is_stated() -> None:
    arrays = from_arrays([picture(32, 0)])
    assert features(arrays, tiny()).space.resizer == "antialiased bicubic to 16 px"
    assert features(arrays, tiny(20, 16)).space.resizer == "antialiased bicubic to 20 px, centre 16 px"
    first = features(arrays, tiny(), resize_px=24).space.resizer
    assert first == "antialiased bicubic to 24 px, then antialiased bicubic to 16 px"


def test_resizing_is_antialiased() -> None:
    """A checkerboard reduced eight times is grey; without antialiasing it would be black, white or a moiré."""
    board = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)
    small = resized(np.repeat(board[None], 3, 0), 16)
    assert small.shape == (3, 16, 16)
    assert np.abs(small.astype(int) - 127).max() <= 6


def test_bad_input_is_refused() -> None:
    mixed = from_arrays([picture(16, 0), picture(20, 1)])
    with pytest.raises(InputError, match="16 to 20 px stand in one set"):
        features(mixed, tiny())
    assert features(mixed, tiny(), resize_px=16).rows.shape == (2, 3)

    def broken(picture: Tensor) -> Tensor:
        return picture.mean((2, 3)) * torch.nan

    encoder = NetworkEncoder(SPEC, nn.Identity(), Transform(16, 16, HALF, HALF), broken)
    with pytest.raises(InputError, match="features of `arrays`: 1 of 1 rows hold NaN"):
        features(from_arrays([picture(16, 0)]), encoder)


def test_the_default_network_tells_spoilt_pictures_from_real_ones(shared: Path) -> None:
    """On real scenes: other real ones are near, and noisy ones the farther the stronger the noise."""
    paths = sorted((shared / "data" / "aerial" / "scenes_ucmerced" / "test").rglob("*.[jp][pn]g"))[::15][:16]
    arrays = [resized(np.moveaxis(np.asarray(Image.open(p).convert("RGB")), -1, 0)[:, :256, :256], 64) for p in paths]
    rng = np.random.default_rng(0)
    encoder = load_encoder()

    def noisy(strength: float) -> list[UInt8]:
        spoilt = (np.clip(a + rng.normal(0, strength, a.shape), 0, 255) for a in arrays[1::2])
        return [a.astype(np.uint8) for a in spoilt]

    real, other, *worse = (
        features(from_arrays(some), encoder, batch=8).rows for some in (arrays[::2], arrays[1::2], noisy(10), noisy(60))
    )
    values = [kernel_distance(real, rows, repeats=100) for rows in (other, *worse)]
    assert values[0].interval is not None
    assert values[2].interval is not None
    assert values[0].value < values[1].value < values[2].value
    assert values[0].interval.contains(0)
    assert values[2].interval.excludes_zero
