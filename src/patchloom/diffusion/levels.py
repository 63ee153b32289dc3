"""Noise levels: the decreasing sigmas at which a sampler asks its denoiser.

Every schedule is a float64 array that begins at sigma_max and ends at sigma_min > 0. The jump from the last level to
sigma 0 belongs to the sampler, which appends it; nobody writes a zero here.

`shift` is the time shift of Esser et al. (2024), eq. 23, on the ramp u from 0 (sigma_min) to 1 (sigma_max):
u' = shift * u / (1 + (shift - 1) * u). Above 1 it moves levels towards high noise and leaves both ends where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from patchloom.errors import InputError

Levels: TypeAlias = NDArray[np.float64]
Spacing: TypeAlias = Literal["root", "linear", "cosine"]
"""How betas lie between the first and the last: evenly in their square roots, or evenly. "cosine" asks for neither."""

OFFICIAL_BETAS = (0.0015, 0.0195)
"""First and last beta of the official large-image models (the latent-diffusion "linear" schedule)."""


def karras(
    count: int, sigma_min: float = 0.02, sigma_max: float = 80.0, *, rho: float = 7.0, shift: float = 1.0
) -> Levels:
    """`count` levels of Karras et al. (2022), eq. 5: uniform in sigma^(1/rho)."""
    ramp = _ramp(count, sigma_min, sigma_max, shift)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _pinned((low + ramp * (high - low)) ** rho, sigma_min, sigma_max)


def log_uniform(count: int, sigma_min: float = 0.02, sigma_max: float = 80.0, *, shift: float = 1.0) -> Levels:
    """`count` levels uniform in the log signal-to-noise ratio, -2 log sigma."""
    ramp = _ramp(count, sigma_min, sigma_max, shift)
    return _pinned(sigma_min * (sigma_max / sigma_min) ** ramp, sigma_min, sigma_max)


def flow_uniform(count: int, sigma_min: float = 0.02, sigma_max: float = 80.0, *, shift: float = 1.0) -> Levels:
    """`count` levels uniform in rectified flow's time t = sigma / (1 + sigma)."""
    ramp = _ramp(count, sigma_min, sigma_max, shift)
    low, high = sigma_min / (1 + sigma_min), sigma_max / (1 + sigma_max)
    time = low + ramp * (high - low)
    return _pinned(time / (1 - time), sigma_min, sigma_max)


def ddpm_betas(
    steps: int = 1000,
    first: float = OFFICIAL_BETAS[0],
    last: float = OFFICIAL_BETAS[1],
    spacing: Spacing = "root",
) -> Levels:
    """Ascending betas: linear in their square roots (latent diffusion), or linear (Ho et al. 2020; DiT, PixArt).

    Those of the cosine schedule (Nichol & Dhariwal 2021, eq. 17) depend on their number alone, and are 0.999 at most.
    """
    if spacing == "cosine" and steps >= 2:
        place = np.arange(steps + 1, dtype=np.float64) / steps
        kept = np.cos((place + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.asarray(np.minimum(1 - kept[1:] / kept[:-1], 0.999), np.float64)
    if steps < 2 or not 0 < first < last < 1:
        raise InputError(f"a DDPM table needs two steps or more and 0 < first < last < 1, not {steps}, {first}, {last}")
    if spacing == "linear":
        return np.linspace(first, last, steps, dtype=np.float64)
    return np.linspace(first**0.5, last**0.5, steps, dtype=np.float64) ** 2


def ddpm_table(
    steps: int = 1000,
    first: float = OFFICIAL_BETAS[0],
    last: float = OFFICIAL_BETAS[1],
    spacing: Spacing = "root",
) -> Levels:
    """Sigma at each timestep of a DDPM table, *ascending*, so that `table[t]` is the level of timestep t.

    sigma = sqrt((1 - abar) / abar), where abar is the running product of 1 - beta.
    """
    kept = np.cumprod(1 - ddpm_betas(steps, first, last, spacing))
    return np.asarray(np.sqrt((1 - kept) / kept), np.float64)


def ddpm_timesteps(count: int, steps: int = 1000) -> NDArray[np.int64]:
    """The official spaced subset, descending: all 1 + c j below `steps` with c = floor(steps / count).

    As officially, a count that does not divide `steps` gives more timesteps than asked (30 of 1000 gives 31).
    """
    if not 1 <= count < steps:
        raise InputError(f"cannot take {count} of {steps} timesteps; ask for 1 to {steps - 1}")
    return np.arange(1, steps, steps // count, dtype=np.int64)[::-1].copy()


def ddpm_spaced(count: int, table: Levels | None = None) -> Levels:
    """Levels of the official DDIM and PLMS: the spaced timesteps of a table (the official one), then timestep 0.

    Official runs end at timestep 0 and never jump to sigma 0: there, drop the last stage of the sampler's list.
    """
    table = ddpm_table() if table is None else table
    return np.asarray(table[np.append(ddpm_timesteps(count, len(table)), 0)], np.float64)


def official_canvas(count: int = 50, table: Levels | None = None) -> tuple[Levels, list[float]]:
    """Levels of the official large-image loop, and the eta of each jump between them, for `samplers.ddim`.

    Timesteps steps - 1, ... every floor(steps / count), counted down; unlike the official patch samplers it does jump
    from the last to sigma 0. Its noise has the variance of a single step of the table although the jump takes many,
    hence the eta: sqrt(beta / (1 - abar / abar')). Its network is asked for timestep + 1 (`NoiseLabel.offset`).
    """
    table = ddpm_table() if table is None else table
    if not 1 <= count <= len(table):
        raise InputError(f"cannot take {count} levels of a table of {len(table)}")
    index = np.arange(len(table) - 1, -1, -(len(table) // count))
    kept = 1 / (1 + table**2)
    single = 1 - kept[index[:-1]] / kept[index[:-1] - 1]
    jump = 1 - kept[index[:-1]] / kept[index[1:]]
    return np.asarray(table[index], np.float64), [float(eta) for eta in np.sqrt(single / jump)]


def ddpm_uniform(count: int, table: Levels | None = None) -> Levels:
    """`count` levels of a table, from its last timestep to its first, evenly spaced and rounded to timesteps."""
    table = ddpm_table() if table is None else table
    if not 1 <= count <= len(table):
        raise InputError(f"cannot take {count} levels of a table of {len(table)}")
    index: NDArray[np.int64] = np.rint(np.linspace(len(table) - 1, 0, count)).astype(np.int64)
    return np.asarray(table[index], np.float64)


def checked(sigmas: Sequence[float] | Levels) -> list[float]:
    """The levels as floats; InputError unless they are finite, positive and strictly decreasing."""
    levels = [float(sigma) for sigma in sigmas]
    falling = all(after < before for before, after in pairwise(levels))
    if not (levels and falling and levels[-1] > 0 and np.isfinite(levels[0])):
        raise InputError(
            f"noise levels must be finite, positive and strictly decreasing, not {levels}; "
            "the last jump to 0 is added by the sampler"
        )
    return levels


def _ramp(count: int, sigma_min: float, sigma_max: float, shift: float) -> Levels:
    if count < 1 or not 0 < sigma_min <= sigma_max < float("inf") or shift <= 0:
        raise InputError(
            f"noise levels need a count of 1 or more, 0 < sigma_min <= sigma_max and a positive shift, "
            f"not {count}, {sigma_min}, {sigma_max}, {shift}"
        )
    ramp = np.linspace(1, 0, count, dtype=np.float64)
    return np.asarray(shift * ramp / (1 + (shift - 1) * ramp), np.float64)


def _pinned(levels: Levels, sigma_min: float, sigma_max: float) -> Levels:
    """Powers and roots miss the ends by a last bit; a run that is resumed or compared should not."""
    levels[-1] = sigma_min
    levels[0] = sigma_max
    return levels
