"""Losses that ask for one answer to two looks at a place, and for different answers to different places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def simclr(first: Tensor, second: Tensor, temperature: float = 0.2) -> Tensor:
    """NT-Xent of Chen et al. (2020), eq. 1: projections (b, dim) of two looks at b places, 2 b - 2 others each."""
    both = F.normalize(torch.cat([first, second]).float(), dim=1)
    likeness = both @ both.T / temperature
    likeness = likeness - torch.diag(torch.full_like(likeness[0], torch.inf))
    partner = torch.arange(len(both), device=both.device).roll(len(first))
    return F.cross_entropy(likeness, partner)


def vicreg(first: Tensor, second: Tensor) -> Tensor:
    """Bardes et al. (2022), eq. 6 with their weights 25, 25 and 1: invariance, variance, covariance of (b, dim)."""
    first, second = first.float(), second.float()
    spread = sum(F.relu(1 - (one.var(0) + 1e-4).sqrt()).mean() / 2 for one in (first, second))
    shared = sum(_off_diagonal(one).square().sum() / one.shape[1] for one in (first, second))
    loss: Tensor = 25 * F.mse_loss(first, second) + 25 * spread + shared
    return loss


def _off_diagonal(rows: Tensor) -> Tensor:
    """The covariance matrix (dim, dim) of rows (b, dim) without its diagonal."""
    covariance = torch.cov(rows.T)
    return covariance - torch.diag(covariance.diagonal())


def effective_rank(embeddings: Tensor) -> Tensor:
    """exp of the entropy of the covariance's spectrum (Roy and Vetterli, 2007): 1 where all answers lie on a line."""
    values: Tensor = torch.linalg.svdvals(embeddings.float() - embeddings.float().mean(0)).square()
    shares = values / values.sum().clamp(min=1e-12)
    return (-(shares * shares.clamp(min=1e-12).log()).sum()).exp()
