from __future__ import annotations

from math import inf, log10

import numpy as np
import pytest
from numpy.typing import NDArray

from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.reconstruction import bicubic_baseline, fidelity, psnr, ssim

UInt8 = NDArray[np.uint8]


def picture(height: int, width: int, seed: int) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)


def ssim_by_definition(one: UInt8, two: UInt8) -> float:
    """Every window by itself, weighted moments written out (Wang et al. 2004, eq. 13 to 16)."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for a, b in zip(one.astype(float), two.astype(float), strict=True):
        for y in range(a.shape[0] - 10):
            for x in range(a.shape[1] - 10):
                u, v = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
                mu, nu = (weights * u).sum(), (weights * v).sum()
                su, sv = (weights * (u - mu) ** 2).sum(), (weights * (v - nu) ** 2).sum()
                shared = (weights * (u - mu) * (v - nu)).sum()
                top = (2 * mu * nu + 2.55**2) * (2 * shared + 7.65**2)
                values.append(top / ((mu**2 + nu**2 + 2.55**2) * (su + sv + 7.65**2)))
    return float(np.mean(values))


def test_ssim_is_its_definition() -> None:
    one = picture(17, 14, 0)
    two = np.clip(one.astype(int) + np.random.default_rng(1).integers(-40, 40, one.shape), 0, 255).astype(np.uint8)
    assert ssim(one, two) == pytest.approx(ssim_by_definition(one, two), rel=1e-9)


def test_equal_pictures_are_alike_without_limit() -> None:
    one = picture(16, 16, 0)
    assert ssim(one, one) == pytest.approx(1)
    assert psnr(one, one) == inf


def test_psnr_of_a_known_error() -> None:
    one = np.full((3, 8, 8), 100, np.uint8)
    assert psnr(one, one + np.uint8(5)) == pytest.approx(10 * log10(255**2 / 25))
    far = one.copy()
    far[0, 0, 0] = 0
    assert psnr(one, far) == pytest.approx(10 * log10(255**2 / (100**2 / 192)))
    assert psnr(one, far) == psnr(far, one)


def test_noise_lowers_both() -> None:
    one = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, None], 64, 1).repeat(3, 0)
    rng = np.random.default_rng(0)
    noisy = [np.clip(one + rng.normal(0, s, one.shape), 0, 255).astype(np.uint8) for s in (2, 10, 40)]
    found = [fidelity(one, n) for n in noisy]
    assert found[0].psnr > found[1].psnr > found[2].psnr
    assert found[0].ssim > found[1].ssim > found[2].ssim


def test_baseline_keeps_what_is_slow_and_loses_what_is_fast() -> None:
    slow = np.broadcast_to((128 + 60 * np.sin(np.arange(128) / 40)).astype(np.uint8), (3, 128, 128)).copy()
    assert psnr(slow, bicubic_baseline(slow, 8)) > 45
    noise = picture(128, 128, 0)
    flat = bicubic_baseline(noise, 8)
    assert flat.std() < noise.std() / 3
    assert flat.mean() == pytest.approx(noise.mean(), abs=1)
    assert np.array_equal(bicubic_baseline(noise, 1), noise)


def test_baseline_keeps_the_channels_apart() -> None:
    red = np.zeros((3, 32, 48), np.uint8)
    red[0] = 200
    assert bicubic_baseline(red, 8).reshape(3, -1).mean(1).tolist() == [200, 0, 0]


def test_bad_input_is_refused() -> None:
    one = picture(16, 24, 0)
    with pytest.raises(InputError, match="16x24 px cannot be reduced 5 times"):
        bicubic_baseline(one, 5)
    with pytest.raises(MismatchError, match="cannot be compared"):
        psnr(one, picture(16, 16, 0))
    with pytest.raises(InputError, match="at least 11 px"):
        ssim(one[:, :8], one[:, :8])
    with pytest.raises(InputError, match="expected uint8 pixels"):
        psnr(one.astype(np.float32), one)
    with pytest.raises(InputError, match="expected uint8 pixels"):
        psnr(np.moveaxis(one, 0, -1), np.moveaxis(one, 0, -1))
