"""The recorded outputs of the official code (shared/fixtures/ldm), and how far ours are from them."""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.conftest import ROOT
from torch import Tensor, nn

from patchloom.importers.latent_diffusion import LatentDiffusion, import_checkpoint

FIXTURES = ROOT.parent / "shared" / "fixtures" / "ldm"
needed = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the recorded outputs (shared/fixtures/ldm) are not here")
Arrays = dict[str, Tensor]


@cache
def arrays(model: str, name: str) -> Arrays:
    """A file of recorded arrays as tensors."""
    path = FIXTURES / model / ("arrays.npz" if name == "" else f"arrays/{name}.npz")
    with np.load(path) as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


@cache
def model(name: str, ema: bool = False) -> LatentDiffusion:
    """An imported tiny model."""
    return import_checkpoint(FIXTURES / name, ema=ema)


def off(found: Tensor | NDArray[Any], wanted: Tensor) -> float:
    """The largest difference over the deviation of what was recorded."""
    found = torch.as_tensor(found)
    assert found.shape == wanted.shape
    assert bool(found.isfinite().all())
    return float((found.double() - wanted.double()).abs().max() / wanted.double().std())


def ruled() -> tuple[dict[str, Any], Arrays]:
    """Record and tensors of `rule_topology`: each generated from its name, as its README says."""
    record = json.loads((FIXTURES / "rule_topology" / "keys.json").read_text())
    return record, {name: _ruled(name, shape) for name, shape in record["keys"].items()}


def _ruled(name: str, shape: list[int]) -> Tensor:
    drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)  # the recorded rule
    r = torch.from_numpy(drawn.astype(np.float32))
    if name.endswith(".bias"):
        return 0.1 * r
    if len(shape) == 1:
        return 1 + 0.1 * r
    return r if name.endswith("embedding.weight") else r / float(np.sqrt(np.prod(shape[1:])))


def below(prefix: str, tensors: Arrays) -> Arrays:
    """The tensors whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def folder(name: str) -> Path:
    """The official folder of a tiny model."""
    return FIXTURES / name


def shaken(network: nn.Module) -> nn.Module:
    """Every weight moved, those that begin at zero or one too."""
    generator = torch.Generator().manual_seed(8)
    for value in network.parameters():
        value.data += 0.05 * torch.randn(value.shape, generator=generator)
    return network.eval().requires_grad_(False)
