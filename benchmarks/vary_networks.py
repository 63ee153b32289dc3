"""The small network of `vary_classifier.py`: trained through on pools of labelled pictures, for so many steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from patchloom.datasets.views import VIEWS, lay
from patchloom.encoders.trained import MEAN, STD, load_network
from patchloom.encoders.trained_network import TrainedNetwork, TrainedShape
from patchloom.machine import choose_device, choose_dtype

INPUT_PX = 128
BATCH = 16
Pool = list[tuple[NDArray[np.uint8], int]]
"""Pictures (3, h, h) and the numbers of their labels."""


def network_guesses(
    pools: list[Pool],
    shares: list[float],
    asked: list[NDArray[np.uint8]],
    classes: int,
    start: Path | None,
    steps: int,
    seed: int,
) -> NDArray[np.intp]:
    """Train on pools, each by its share of a batch, then guess the label of every picture that is asked about.

    AdamW with a cosine to zero, dihedral views, the same number of steps for every pool: what differs is the data.
    """
    torch.manual_seed(seed)
    device = choose_device("auto")
    dtype = choose_dtype("auto", device)
    body = load_network(start)[0] if start else TrainedNetwork(TrainedShape())
    model = nn.Sequential(body, nn.Linear(body.shape.dim, classes)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    ready = [(_pictures([p for p, _ in pool]), torch.tensor([label for _, label in pool])) for pool in pools]
    rates = [{"params": model[0].parameters(), "lr": 3e-4}, {"params": model[1].parameters(), "lr": 3e-3}]
    optimiser = torch.optim.AdamW(rates, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng, counts = np.random.default_rng(seed), parts_of_a_batch(shares)
    for _ in range(steps):
        pictures, labels = _batch(ready, counts, rng)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(model(pictures.to(device)).float(), labels.to(device))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return _guessed(model, _pictures(asked), device)


def _pictures(pictures: list[NDArray[np.uint8]]) -> Tensor:
    """(n, 3, 128, 128) as the network sees them."""
    parts = [torch.from_numpy(picture)[None].float() for picture in pictures]
    small = [F.interpolate(part, (INPUT_PX, INPUT_PX), mode="bicubic", antialias=True) for part in parts]
    return (torch.cat(small).clamp(0, 255) / 255 - MEAN[0]) / STD[0]


def parts_of_a_batch(shares: list[float]) -> list[int]:
    """How many pictures of a batch each pool gives, at least one."""
    total = sum(shares)
    counts = [max(round(BATCH * share / total), 1) for share in shares[:-1]]
    return [*counts, max(BATCH - sum(counts), 1)]


def _batch(pools: list[tuple[Tensor, Tensor]], counts: list[int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pictures and labels, so many of each pool, all in one random view."""
    numbers = [rng.integers(len(pictures), size=count) for (pictures, _), count in zip(pools, counts, strict=True)]
    pictures = torch.cat([pool[0][rows] for pool, rows in zip(pools, numbers, strict=True)])
    labels = torch.cat([pool[1][rows] for pool, rows in zip(pools, numbers, strict=True)])
    laid = lay(pictures.permute(2, 3, 0, 1), int(rng.integers(VIEWS))).permute(2, 3, 0, 1)
    return laid.contiguous(memory_format=torch.channels_last), labels


@torch.no_grad()
def _guessed(model: nn.Module, pictures: Tensor, device: torch.device) -> NDArray[np.intp]:
    model.eval()
    parts = [model(part.to(device)).argmax(1).cpu() for part in pictures.split(32)]  # type: ignore[no-untyped-call]
    return torch.cat(parts).numpy().astype(np.intp)
