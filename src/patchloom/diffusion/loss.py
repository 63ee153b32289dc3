"""The training loss of every parametrisation, and the noise levels to train at."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from patchloom.diffusion.levels import Levels
from patchloom.diffusion.parametrisation import Network, Parametrisation, Preconditioned
from patchloom.errors import InputError

C = TypeVar("C")


def denoising_loss(
    network: Network[C], parametrisation: Parametrisation, x0: Tensor, condition: C, sigma: Tensor, noise: Tensor
) -> Tensor:
    """Mean squared error of the network's own answer, for each of a batch: (b,), float32.

    The weight is 1 in the network's space. In the space of D that is 1/s² for eps, (1+s)²/s² for flow, and for edm
    the (s²+d²)/(s d)² of Karras et al. (2022), table 1: one function holds all their losses.

    x0 and noise are (b, c, h, w), sigma (b,); the network sees c_in * (x0 + sigma * noise).
    """
    noisy = x0 + sigma[:, None, None, None] * noise
    answer = Preconditioned(network, parametrisation).answer(noisy, sigma, condition)
    error = answer.float() - parametrisation.target(x0, noise, sigma).float()
    return error.square().mean(dim=(1, 2, 3))


def log_normal(count: int, generator: torch.Generator, *, mean: float = -1.2, std: float = 1.2) -> Tensor:
    """(count,) sigmas with log sigma normal (Karras et al. 2022, table 1: P_mean and P_std)."""
    return torch.exp(mean + std * _normal(count, generator))


def logit_normal(
    count: int, generator: torch.Generator, *, mean: float = 0.0, std: float = 1.0, shift: float = 1.0
) -> Tensor:
    """(count,) sigmas whose flow time is logit-normal (Esser et al. 2024, eq. 19), shifted as in their eq. 23.

    Because sigma = t / (1 - t) is the exponential of logit t, this is a log-normal, and the time shift
    t' = shift t / (1 + (shift - 1) t) multiplies sigma by `shift`.
    """
    if shift <= 0:
        raise InputError(f"a time shift must be positive, not {shift}")
    return shift * log_normal(count, generator, mean=mean, std=std)


def uniform_index(count: int, generator: torch.Generator, *, table: Levels) -> Tensor:
    """(count,) sigmas drawn evenly from the levels of a DDPM table (Ho et al. 2020, algorithm 1)."""
    index = torch.randint(len(table), (count,), generator=generator, device=generator.device)
    return torch.as_tensor(table, dtype=torch.float32, device=generator.device)[index]


def _normal(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, generator=generator, device=generator.device)
