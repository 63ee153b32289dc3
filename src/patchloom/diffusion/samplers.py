"""Samplers: each a function from noise levels to a list of stages.

x = x0 + sigma * noise everywhere, so every formula is in sigma alone. Schedules that shrink the image (DDPM, flow)
give the same x0: their x is ours over sqrt(1 + sigma²) or over 1 + sigma.

`sampler(sigmas)` asks the denoiser at every level and jumps from the last to sigma 0: that last update returns D.
`sampler(sigmas)[:-1]` leaves x at the last level without the jump, for every sampler here. In a state the image comes
first; what follows is what the sampler keeps.

In sigma, DDIM with eta 1, DDPM's ancestral step and Euler-ancestral are one formula, and so are DDIM with eta 0 and
Euler; the names of each are kept because people look for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias, TypeVar

from torch import Tensor

from patchloom.diffusion import steps
from patchloom.diffusion.denoiser import Denoiser
from patchloom.diffusion.levels import Levels, checked
from patchloom.diffusion.stage import Stage, State
from patchloom.errors import InputError

C = TypeVar("C")
Sigmas: TypeAlias = Sequence[float] | Levels
Sampler: TypeAlias = Callable[[Sigmas], list[Stage]]
"""Decreasing positive levels to stages. Raises InputError for other levels."""


def run(
    denoiser: Denoiser[C],
    stages: Sequence[Stage],
    x: Tensor,
    condition: C,
    noise_of: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """Denoise x (b, c, h, w), which holds noise of stages[0].sigma; `noise_of(k)` is stage k's unit normal noise.

    Raises InputError where a stage adds noise and `noise_of` is None.
    """
    state: State = (x,)
    for number, stage in enumerate(stages):
        D = denoiser(state[0], x.new_full((len(x),), stage.sigma), condition)
        state = stage.update(state, D, _noise(noise_of, number) if stage.noisy else None)
    return state[0]


def euler(sigmas: Sigmas) -> list[Stage]:
    """Euler's method on the probability flow (Karras et al. 2022, algorithm 1 without its correction)."""
    return ddim(sigmas, eta=0.0)


def ddim(sigmas: Sigmas, eta: float | Sequence[float] = 0.0) -> list[Stage]:
    """DDIM (Song et al. 2021, eq. 12 and 16); eta 0 is deterministic, 1 is DDPM's posterior.

    A sequence gives each jump between levels an eta of its own: one fewer than levels.
    """
    levels = checked(sigmas)
    etas = [float(eta)] * (len(levels) - 1) if isinstance(eta, (int, float)) else [float(value) for value in eta]
    if len(etas) != len(levels) - 1 or not all(0 <= value <= 1 for value in etas):
        raise InputError(f"eta must be 0 to 1, once or for each of {len(levels) - 1} jumps between levels, not {eta}")
    jumps = zip(pairwise(levels), etas, strict=True)
    return [*(steps.renoising(sigma, after, own) for (sigma, after), own in jumps), steps.landing(levels[-1])]


def ddpm(sigmas: Sigmas) -> list[Stage]:
    """DDPM's ancestral step (Ho et al. 2020, eq. 6 and 7), between any two levels."""
    return ddim(sigmas, eta=1.0)


def euler_ancestral(sigmas: Sigmas, eta: float = 1.0) -> list[Stage]:
    """An Euler step to below the next level, then noise up to it (k-diffusion's sampler of that name)."""
    return ddim(sigmas, eta=eta)


def heun(sigmas: Sigmas) -> list[Stage]:
    """Heun's method (Karras et al. 2022, algorithm 1): two stages a step, order 2."""
    levels = checked(sigmas)
    jumps = (stage for sigma, after in pairwise(levels) for stage in steps.heun_pair(sigma, after))
    return [*jumps, steps.landing(levels[-1])]


def dpmpp_2m(sigmas: Sigmas) -> list[Stage]:
    """DPM-Solver++(2M) (Lu et al. 2022, "DPM-Solver++", algorithm 2): one stage a step, order 2, keeps the last D."""
    return dpmpp_2m_sde(sigmas, eta=0.0)


def dpmpp_2m_sde(sigmas: Sigmas, eta: float = 1.0) -> list[Stage]:
    """SDE-DPM-Solver++(2M) of the same paper in its midpoint form; eta as in k-diffusion, 0 is 2M."""
    levels = checked(sigmas)
    if not 0 <= eta <= 1:
        raise InputError(f"eta must be 0 to 1, not {eta}")
    jumps = (steps.multistep(levels[: k + 2], eta) for k in range(len(levels) - 1))
    return [*jumps, steps.landing(levels[-1])]


def unipc(sigmas: Sigmas) -> list[Stage]:
    """UniPC of order 2 with B(h) = e^h - 1 and data prediction (Zhao et al. 2023, algorithms 5 to 8).

    A stage first corrects the image that it was given, now that D is known there, and then predicts the next.
    """
    levels = checked(sigmas)
    jumps = (steps.unipc(levels[: k + 2]) for k in range(len(levels) - 1))
    return [*jumps, steps.landing(levels[-1])]


def plms(sigmas: Sigmas) -> list[Stage]:
    """The official PLMS (Liu et al. 2022, "Pseudo numerical methods", eq. 12; eta 0).

    Adams-Bashforth of order up to 4 on the predicted noise, as if levels were evenly spaced; the first step is Heun's
    and takes two evaluations.
    """
    levels = checked(sigmas)
    jumps = list(pairwise(levels))
    first = steps.plms_first(*jumps[0]) if jumps else []
    rest = (steps.plms(sigma, after, history=k) for k, (sigma, after) in enumerate(jumps[1:], start=1))
    return [*first, *rest, steps.landing(levels[-1])]


SAMPLERS: dict[str, Sampler] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "euler": euler,
    "euler-ancestral": euler_ancestral,
    "heun": heun,
    "dpmpp-2m": dpmpp_2m,
    "dpmpp-2m-sde": dpmpp_2m_sde,
    "unipc": unipc,
    "plms": plms,
}
"""Every sampler by the name that people type."""


def _noise(noise_of: Callable[[int], Tensor] | None, number: int) -> Tensor:
    if noise_of is None:
        raise InputError(f"stage {number} of this sampler adds noise: pass noise_of, or take a deterministic sampler")
    return noise_of(number)
