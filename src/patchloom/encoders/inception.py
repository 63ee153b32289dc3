"""Inception-v3 (Szegedy et al. 2016) as the Fréchet Inception distance is defined on (Heusel et al. 2017).

It is the network of the TensorFlow archive of 2015-12-05, which differs from the published one, and from torchvision's,
in three ways: its means over 3x3 pixels leave padding out of the count; the pool of its very last block takes the
largest value and not the mean; and its classifier has 1008 outputs, which are not wanted here. Layers have the names
that pytorch-fid and torch-fidelity give them, so a file of theirs is read as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.errors import InputError

INPUT_PX = 299
DIM = 2048
_EPS = 1e-3

Step: TypeAlias = tuple[int, int, int]
"""A convolution: how many channels it gives, and its kernel's height and width."""
Branch: TypeAlias = tuple[tuple[Step, ...], ...]
"""Convolutions one after the other; where two stand together both see the same, and their answers are joined."""
Pool = Literal["mean", "largest", "halving"]


@dataclass(frozen=True, slots=True)
class InceptionShape:
    """Its sizes are fixed but for one: every width is divided by `thin`. At 1 it is the published network."""

    thin: int = 1

    def __post_init__(self) -> None:
        if self.thin < 1 or 16 % self.thin:
            raise InputError(f"the widths of Inception-v3 are multiples of 16; they cannot be divided by {self.thin}")


class Inception(nn.Module):
    """`network(picture)`: (b, 3, 299, 299) to (b, 2048 / thin), the last feature map's mean over space."""

    def __init__(self, shape: InceptionShape) -> None:
        super().__init__()
        self.shape = shape
        thin = shape.thin
        self.Conv2d_1a_3x3 = Convolution(3, (32 // thin, 3, 3), stride=2, padded=False)
        self.Conv2d_2a_3x3 = Convolution(32 // thin, (32 // thin, 3, 3), padded=False)
        self.Conv2d_2b_3x3 = Convolution(32 // thin, (64 // thin, 3, 3))
        self.Conv2d_3b_1x1 = Convolution(64 // thin, (80 // thin, 1, 1))
        self.Conv2d_4a_3x3 = Convolution(80 // thin, (192 // thin, 3, 3), padded=False)
        width = 192 // thin
        for name, (branches, pool) in _MIXED.items():
            block = Mixed(width, {key: _thinned(branch, thin) for key, branch in branches.items()}, pool)
            self.add_module(name, block)
            width = block.width

    def forward(self, picture: Tensor) -> Tensor:
        """The features that Fréchet and kernel distances are taken of."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(picture)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name in _MIXED:
            x = self.get_submodule(name)(x)
        return x.float().mean((2, 3))  # type: ignore[no-any-return]


class Mixed(nn.Module):
    """Several branches over one map, and a pool; their answers stand one after the other along the channels.

    A "halving" pool takes the largest value of every second 3x3, without a convolution, and the last convolution of
    each branch goes by steps of two. The others keep the size: a convolution, `branch_pool`, follows the pool.
    """

    def __init__(self, into: int, branches: Mapping[str, Branch], pool: Pool) -> None:
        super().__init__()
        self.pool = pool
        self.paths = {name: _path(name, branch) for name, branch in branches.items()}
        self.width = into if pool == "halving" else 0
        for name, branch in branches.items():
            width = into
            for number, (steps, layers) in enumerate(zip(branch, self.paths[name], strict=True)):
                halves = pool == "halving" and number == len(branch) - 1
                for step, layer in zip(steps, layers, strict=True):
                    self.add_module(layer, Convolution(width, step, stride=1 + halves, padded=not halves))
                width = sum(out for out, _, _ in steps)
            self.width += width

    def forward(self, x: Tensor) -> Tensor:
        """(b, into, h, w) to (b, width, h, w), or to half the size."""
        given = [self._along(path, pooled(x, self.pool) if name == _POOL else x) for name, path in self.paths.items()]
        return torch.cat([*given, pooled(x, self.pool)] if self.pool == "halving" else given, 1)

    def _along(self, path: list[list[str]], x: Tensor) -> Tensor:
        for layers in path:
            answers = [self.get_submodule(layer)(x) for layer in layers]
            x = answers[0] if len(answers) == 1 else torch.cat(answers, 1)
        return x


class Convolution(nn.Module):
    """A convolution without bias, statistics that were fixed in training, and ReLU. `padded` keeps the size."""

    def __init__(self, into: int, step: Step, *, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        out, *kernel = step
        padding = tuple(side // 2 for side in kernel) if padded else 0
        self.conv = nn.Conv2d(into, out, tuple(kernel), stride, padding, bias=False)  # type: ignore[arg-type]
        self.bn = FixedNorm(out)

    def forward(self, x: Tensor) -> Tensor:
        """(b, into, h, w) to (b, out, ...)."""
        return F.relu(self.bn(self.conv(x)))


class FixedNorm(nn.Module):
    """Batch normalisation by the statistics of its training, never by those of a batch."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to the same."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=_EPS)


def pooled(x: Tensor, pool: Pool) -> Tensor:
    """Over 3x3 pixels: the mean of those that lie inside, the largest, or the largest of every second."""
    if pool == "mean":
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return F.max_pool2d(x, 3, 2) if pool == "halving" else F.max_pool2d(x, 3, 1, 1)


def inception_to_ours(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file without its classifier and its counts of batches; an unknown name stays as it is."""
    return {
        name: value
        for name, value in tensors.items()
        if not name.startswith("fc.") and not name.endswith(".num_batches_tracked")
    }


_POOL = "branch_pool"
_ONE, _SIDE, _DOUBLE = "branch1x1", "branch3x3", "branch3x3dbl"


def _path(name: str, branch: Branch) -> list[list[str]]:
    """The layers' names, as torchvision has them: a branch of one is called so, others `NAME_1`, `NAME_2a`, ..."""
    if len(branch) == 1:
        return [[name]]
    return [
        [f"{name}_{number}{letter}" for letter in ("ab" if len(steps) == 2 else ("",))]
        for number, steps in enumerate(branch, start=1)
    ]


def _thinned(branch: Branch, thin: int) -> Branch:
    return tuple(tuple((out // thin, height, width) for out, height, width in steps) for steps in branch)


def _chain(*steps: Step) -> Branch:
    return tuple((step,) for step in steps)


def _five(pool: int) -> dict[str, Branch]:
    return {
        _ONE: _chain((64, 1, 1)),
        "branch5x5": _chain((48, 1, 1), (64, 5, 5)),
        _DOUBLE: _chain((64, 1, 1), (96, 3, 3), (96, 3, 3)),
        _POOL: _chain((pool, 1, 1)),
    }


def _seven(width: int) -> dict[str, Branch]:
    down, along = (width, 7, 1), (width, 1, 7)
    return {
        _ONE: _chain((192, 1, 1)),
        "branch7x7": _chain((width, 1, 1), along, (192, 7, 1)),
        "branch7x7dbl": _chain((width, 1, 1), down, along, down, (192, 1, 7)),
        _POOL: _chain((192, 1, 1)),
    }


_TO_17: dict[str, Branch] = {_SIDE: _chain((384, 3, 3)), _DOUBLE: _chain((64, 1, 1), (96, 3, 3), (96, 3, 3))}
_TO_8: dict[str, Branch] = {
    _SIDE: _chain((192, 1, 1), (320, 3, 3)),
    "branch7x7x3": _chain((192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)),
}
_APART: tuple[Step, ...] = ((384, 1, 3), (384, 3, 1))
_EIGHT: dict[str, Branch] = {
    _ONE: _chain((320, 1, 1)),
    _SIDE: (((384, 1, 1),), _APART),
    _DOUBLE: (((448, 1, 1),), ((384, 3, 3),), _APART),
    _POOL: _chain((192, 1, 1)),
}
_MIXED: dict[str, tuple[dict[str, Branch], Pool]] = {
    "Mixed_5b": (_five(32), "mean"),
    "Mixed_5c": (_five(64), "mean"),
    "Mixed_5d": (_five(64), "mean"),
    "Mixed_6a": (_TO_17, "halving"),
    "Mixed_6b": (_seven(128), "mean"),
    "Mixed_6c": (_seven(160), "mean"),
    "Mixed_6d": (_seven(160), "mean"),
    "Mixed_6e": (_seven(192), "mean"),
    "Mixed_7a": (_TO_8, "halving"),
    "Mixed_7b": (_EIGHT, "mean"),
    "Mixed_7c": (_EIGHT, "largest"),
}
