"""Guidance: denoisers around denoisers. Each takes a denoiser and gives one back; scale 1 (or strength 0) is off.

Every statistic is of one window or a part of it, before a core is cut from it. Gradients are taken under no_grad or
inference_mode as well, but torch keeps no inference tensor for a backward pass: make weights and conditions outside of
inference_mode.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, isfinite
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from patchloom.diffusion.condition import Condition
from patchloom.diffusion.denoiser import Denoiser
from patchloom.errors import InputError

C = TypeVar("C")
K = TypeVar("K", bound=Condition)
Interval: TypeAlias = tuple[float, float]
"""Noise levels (low, high): guidance acts where low < sigma <= high (Kynkäänniemi et al. 2024)."""

_NEAR = 16  # latents on each side: what is around one is about as large as what a network learns from


def guided(
    denoiser: Denoiser[K], scale: float, *, interval: Interval | None = None, rescale: float = 0.0
) -> Denoiser[K]:
    """Classifier-free guidance (Ho & Salimans 2022): D = D_null + scale * (D_cond - D_null).

    Both branches run in one batch, condition first. Outside the interval, and with scale 1, the null branch is not
    asked. `rescale` is phi of Lin et al. (2024), section 3.4, on D: 0 is off, 1 gives D_cond's deviation around each
    latent. Channels are scaled about their means there, which stay: scaled too, every colour would fade to the average.
    """
    check(scale, interval, rescale)
    if scale == 1:
        return denoiser

    def both(x: Tensor, sigma: Tensor, condition: K) -> tuple[Tensor, Tensor]:
        D, null = branches(denoiser, x, sigma, condition)
        return D, away(D, null, scale, rescale)

    return _within(interval, denoiser, both)


def autoguided(
    denoiser: Denoiser[C], worse: Denoiser[C], scale: float, *, interval: Interval | None = None, rescale: float = 0.0
) -> Denoiser[C]:
    """Guidance by a worse model of the same thing (Karras et al. 2024): D = D_worse + scale * (D - D_worse).

    Interval and rescale are those of `guided`: outside the interval, and with scale 1, the worse model is not asked.
    """
    check(scale, interval, rescale)
    if scale == 1:
        return denoiser

    def both(x: Tensor, sigma: Tensor, condition: C) -> tuple[Tensor, Tensor]:
        D = denoiser(x, sigma, condition)
        return D, away(D, worse(x, sigma, condition), scale, rescale)

    return _within(interval, denoiser, both)


def thresholded(denoiser: Denoiser[C], *, quantile: float = 0.995, bound: float = 3.0) -> Denoiser[C]:
    """Dynamic thresholding (Saharia et al. 2022, section 2.3), of latents of deviation 1.

    Where a window's `quantile` of |D| exceeds `bound`, D is clipped to that quantile and scaled back to the bound. The
    quantile is the least value that so large a share of the others does not exceed.
    """
    if not 0 < quantile <= 1 or bound <= 0:
        raise InputError(f"thresholding needs a quantile in (0, 1] and a positive bound, not {quantile}, {bound}")

    def limited(x: Tensor, sigma: Tensor, condition: C) -> Tensor:
        D = denoiser(x, sigma, condition)
        every = D.abs().flatten(1)
        place = max(ceil(quantile * every.shape[1]), 1)  # `torch.quantile` bears 16 million values at once
        reach = _column(every.kthvalue(place, dim=1).values.clamp(min=bound))
        return torch.maximum(torch.minimum(D, reach), -reach) * (bound / reach)

    return limited


def classified(
    denoiser: Denoiser[C], log_likelihood: Callable[[Tensor, Tensor, C], Tensor], strength: float
) -> Denoiser[C]:
    """Classifier guidance (Dhariwal & Nichol 2021) by log p(y | x, sigma): (x, sigma, condition) to (b,).

    The classifier knows noisy windows. D + strength * sigma² * the gradient at x; exact for strength 1.
    """
    if strength == 0:
        return denoiser

    def climbed(x: Tensor, sigma: Tensor, condition: C) -> Tensor:
        slope = gradient(lambda place: log_likelihood(place, sigma.clone(), condition), x)
        return denoiser(x, sigma, condition) + strength * _column(sigma) ** 2 * slope

    return climbed


def steered(
    denoiser: Denoiser[C], score: Callable[[Tensor, C], Tensor], strength: float, *, through: bool = False
) -> Denoiser[C]:
    """Guidance by a scalar of the clean estimate: `score(D, condition)` to (b,), higher is better.

    By default its gradient is taken at D and weighed with sigma² / (1 + sigma²), the spread of what x leaves open for
    latents of deviation 1 (Song et al. 2023, pseudoinverse guidance): one more call of `score`. With `through` it is
    taken through the denoiser and weighed with sigma² (Chung et al. 2023): dearer, right where that spread differs.
    """
    if strength == 0:
        return denoiser

    def at_estimate(x: Tensor, sigma: Tensor, condition: C) -> Tensor:
        D = denoiser(x, sigma, condition)
        spread = _column(sigma**2 / (1 + sigma**2))
        return D + strength * spread * gradient(lambda place: score(place, condition), D)

    def at_image(x: Tensor, sigma: Tensor, condition: C) -> Tensor:
        slope = gradient(lambda place: score(denoiser(place, sigma.clone(), condition), condition), x)
        return denoiser(x, sigma, condition) + strength * _column(sigma) ** 2 * slope

    return at_image if through else at_estimate


def similarity(embed: Callable[[Tensor], Tensor], target: Callable[[C], Tensor]) -> Callable[[Tensor, C], Tensor]:
    """A score for `steered`: the cosine of embed(D) (b, dim) and target(condition) (b, dim)."""

    def score(D: Tensor, condition: C) -> Tensor:
        return torch.cosine_similarity(embed(D), target(condition).to(D), dim=1)

    return score


def gradient(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient at x of a value (b,), whose sum is climbed."""
    with torch.inference_mode(False), torch.enable_grad():
        place = x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(value(place).sum(), place)
    return slope


def _within(
    interval: Interval | None,
    denoiser: Denoiser[C],
    both: Callable[[Tensor, Tensor, C], tuple[Tensor, Tensor]],
) -> Denoiser[C]:
    """The second of `both` (plain, guided) inside the interval; `denoiser` alone where no entry is inside."""

    def acting(x: Tensor, sigma: Tensor, condition: C) -> Tensor:
        if interval is None:
            return both(x, sigma, condition)[1]
        inside = (sigma > interval[0]) & (sigma <= interval[1])
        if not bool(inside.any()):
            return denoiser(x, sigma, condition)
        plain, answer = both(x, sigma, condition)
        return torch.where(_column(inside), answer, plain)

    return acting


def check(scale: float, interval: Interval | None, rescale: float) -> None:
    """Raise InputError for a scale, an interval or a share that is none."""
    if not isfinite(scale):
        raise InputError(f"a guidance scale is a number such as 2, not {scale}")
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise InputError(f"a guidance interval is two noise levels (low, high) with low < high, not {interval}")
    if not 0 <= rescale <= 1:
        raise InputError(f"guidance rescale is a share from 0 to 1, not {rescale}")


def branches(denoiser: Denoiser[K], x: Tensor, sigma: Tensor, condition: K) -> tuple[Tensor, Tensor]:
    """D with the condition and without it, from one batch."""
    pair = denoiser(torch.cat([x, x]), torch.cat([sigma, sigma]), condition.join(condition.null()))
    D, null = pair.chunk(2)
    return D, null


def away(D: Tensor, worse: Tensor, scale: float, rescale: float) -> Tensor:
    """D led away from a worse estimate, and by a share of `rescale` back to D's own deviation about each latent.

    Lin et al. measure the deviation of a whole image, as large as what a network learnt from. Here a window may hold a
    wood, a river and a town: measured together, each would be drawn towards the grey between them.
    """
    led = worse + scale * (D - worse)
    if rescale == 0:
        return led
    mean = _around(led.float())
    wanted, found = _deviation(D.float(), _around(D.float())), _deviation(led.float(), mean)
    factor = torch.where(found > 0, wanted / found, 1.0)
    return (mean + (1 - rescale + rescale * factor) * (led.float() - mean)).to(D.dtype)


def _around(planes: Tensor) -> Tensor:
    """The mean of the latents around each one that a window has, of every channel (b, c, h, w)."""
    for size, room in (((2 * _NEAR + 1, 1), (_NEAR, 0)), ((1, 2 * _NEAR + 1), (0, _NEAR))):
        planes = functional.avg_pool2d(planes, size, 1, room, count_include_pad=False)
    return planes


def _deviation(planes: Tensor, mean: Tensor) -> Tensor:
    """Around each latent, of all channels about their means: (b, 1, h, w)."""
    return _around((planes - mean).square().mean(1, keepdim=True)).sqrt()


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]
