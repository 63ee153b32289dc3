"""ZoomLDM's model of conditions (Yellapragada et al. 2025): tokens of a window, made from noise and a magnification.

A transformer of DiT's blocks (Peebles & Xie 2023) over the tokens that `networks.zoom` makes of grids of embeddings, so
that a picture can be made where there is no slide to take embeddings from. Tokens are a picture one latent wide here:
x is (b, width of a token, count, 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.errors import InputError
from patchloom.networks.transformer import Block, NoiseRow, TransformerShape, modulated

_MOST, _MOST_DEPTH = 1 << 16, 1024  # beyond anything ever trained: a mistake, or a trap


@dataclass(frozen=True, slots=True)
class CdmShape:
    """Sizes of a model of conditions. Raises InputError where they do not fit."""

    tokens: int = 65  # of a window
    token: int = 512  # numbers in each
    width: int = 768
    depth: int = 12
    heads: int = 12
    magnifications: int = 8
    variance: bool = True  # it also predicts a variance, which is not used

    def __post_init__(self) -> None:
        numbers = (self.tokens, self.token, self.width, self.depth, self.heads, self.magnifications)
        if not all(0 < number <= _MOST for number in numbers) or self.depth > _MOST_DEPTH or self.width % self.heads:
            raise InputError(f"the sizes of a model of conditions are positive and fit its heads: {self}")

    @property
    def blocks(self) -> TransformerShape:
        """The sizes as DiT's blocks know them."""
        return TransformerShape(
            "class", self.magnifications, heads=self.heads, head_width=self.width // self.heads, depth=self.depth
        )


@dataclass(frozen=True, slots=True)
class Magnified:
    """A magnification for each set of tokens, 0 the finest: (b,) int. There is no "nothing said": none was trained."""

    numbers: Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    def null(self) -> Magnified:
        """The same: guidance has nothing to go away from."""
        return self

    def join(self, other: Magnified) -> Magnified:
        """This batch followed by another."""
        return Magnified(torch.cat([self.numbers, other.numbers]))

    def to(self, device: torch.device, dtype: torch.dtype) -> Magnified:
        """The batch on a device."""
        return Magnified(self.numbers.to(device))


class ConditionModel(nn.Module):
    """`network(x, timestep, condition)`: x (b, token, tokens, 1), timestep (b,), magnifications (b,)."""

    def __init__(self, shape: CdmShape) -> None:
        super().__init__()
        self.shape = shape
        self.enter = nn.Linear(shape.token, shape.width)
        self.places = nn.Parameter(torch.zeros(1, shape.tokens, shape.width))
        self.noise = NoiseRow(shape.width, to_the_end=False)
        self.magnifications = nn.Embedding(shape.magnifications, shape.width)
        self.modulations = nn.ModuleList(nn.Linear(shape.width, 6 * shape.width) for _ in range(shape.depth))
        self.blocks = nn.ModuleList(Block(shape.blocks) for _ in range(shape.depth))
        self.last = nn.Linear(shape.width, 2 * shape.width)
        self.leave = nn.Linear(shape.width, shape.token * (2 if shape.variance else 1))

    def forward(self, x: Tensor, label: Tensor, condition: Magnified) -> Tensor:
        """The predicted clean tokens, like x. Raises InputError for other tokens or unknown magnifications."""
        shape, numbers = self.shape, condition.numbers
        if x.shape[1:] != (shape.token, shape.tokens, 1):
            raise InputError(f"tokens are {shape.token} x {shape.tokens} x 1 here, not {tuple(x.shape[1:])}")
        if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < shape.magnifications:
            raise InputError(f"this model knows magnifications 0 to {shape.magnifications - 1}, not {numbers.tolist()}")
        rows = self.enter(x[..., 0].transpose(1, 2)) + self.places
        row = F.silu(self.noise(label, x.dtype) + self.magnifications(numbers))
        for block, modulation in zip(self.blocks, self.modulations, strict=True):
            rows = block(rows, modulation(row).unflatten(1, (6, -1)), None)
        shift, scale = self.last(row)[:, None].chunk(2, dim=2)
        answer = self.leave(modulated(rows, shift, scale))[..., : shape.token]
        return answer.transpose(1, 2)[..., None]  # type: ignore[no-any-return]
