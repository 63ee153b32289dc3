"""How well an autoencoder gives pictures back: PSNR, SSIM, and the bicubic baseline of the same reduction."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.matrices import Matrix

WINDOW_PX = 11
SIGMA_PX = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Of one picture against its reference."""

    psnr: float  # dB; infinite where the two are equal
    ssim: float
    perceptual: float | None = None  # where a network looked at the pair, too
    lpips: float | None = None  # where that one did


def fidelity(
    reference: NDArray[Any], picture: NDArray[Any], perceptual: float | None = None, lpips: float | None = None
) -> Fidelity:
    """PSNR and SSIM of uint8 (3, h, w) pictures, beside the distances that networks found."""
    return Fidelity(psnr(reference, picture), ssim(reference, picture), perceptual, lpips)


def psnr(reference: NDArray[Any], picture: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255^2 / MSE) over all channels; infinite for equal pictures."""
    one, two = _checked(reference, picture)
    error = float(((one - two) ** 2).mean())
    return inf if error == 0 else 10 * log10(255**2 / error)


def ssim(reference: NDArray[Any], picture: NDArray[Any]) -> float:
    """Structural similarity (Wang et al. 2004): mean over pixels and the three colour channels.

    Gaussian window of 11 px, deviation 1.5 px, K 0.01 and 0.03, weighted moments, whole windows only (no padding).
    Raises InputError for pictures smaller than the window.
    """
    one, two = _checked(reference, picture)
    if min(one.shape[1:]) < WINDOW_PX:
        raise InputError(f"SSIM needs pictures of at least {WINDOW_PX} px a side, found {one.shape[1:]}")
    return float(np.mean([_ssim_of_channel(a, b) for a, b in zip(one, two, strict=True)]))


def _ssim_of_channel(one: Matrix, two: Matrix) -> float:
    mean_one, mean_two = _smooth(one), _smooth(two)
    spread = _smooth(one * one) - mean_one**2 + _smooth(two * two) - mean_two**2
    shared = _smooth(one * two) - mean_one * mean_two
    top = (2 * mean_one * mean_two + _C1) * (2 * shared + _C2)
    return float((top / ((mean_one**2 + mean_two**2 + _C1) * (spread + _C2))).mean())


def _smooth(plane: Matrix) -> Matrix:
    """Gaussian means over whole windows: (h, w) to (h - 10, w - 10)."""
    offsets = np.arange(WINDOW_PX) - WINDOW_PX // 2
    kernel = np.exp(-(offsets**2) / (2 * SIGMA_PX**2))
    kernel /= kernel.sum()
    rows, cols = plane.shape[0] - WINDOW_PX + 1, plane.shape[1] - WINDOW_PX + 1
    down = sum(weight * plane[i : i + rows] for i, weight in enumerate(kernel))
    return np.asarray(sum(weight * down[:, i : i + cols] for i, weight in enumerate(kernel)))


def bicubic_baseline(picture: NDArray[Any], factor: int) -> NDArray[np.uint8]:
    """The picture reduced `factor` times and enlarged again, both by bicubic, the first antialiased (Pillow's).

    It keeps as many pixels as the autoencoder of that factor keeps latents. Raises InputError unless both sides are
    multiples of the factor.
    """
    pixels, _ = _checked(picture, picture)
    height, width = pixels.shape[1:]
    if factor < 1 or height % factor or width % factor:
        raise InputError(f"a picture of {height}x{width} px cannot be reduced {factor} times without rounding")
    whole = Image.fromarray(np.ascontiguousarray(np.moveaxis(picture, 0, -1)))
    small = whole.resize((width // factor, height // factor), Image.Resampling.BICUBIC)
    again = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(np.moveaxis(again, -1, 0))


def _checked(reference: NDArray[Any], picture: NDArray[Any]) -> tuple[Matrix, Matrix]:
    for name, array in (("reference", reference), ("picture", picture)):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] != 3:
            raise InputError(f"{name}: expected uint8 pixels (3, height, width), found {array.dtype} {array.shape}")
    if reference.shape != picture.shape:
        raise MismatchError(f"a picture of {picture.shape} cannot be compared with a reference of {reference.shape}")
    return reference.astype(np.float64), picture.astype(np.float64)
