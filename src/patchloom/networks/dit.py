"""DiT (Peebles & Xie 2023): a transformer told one of some classes, which joins the noise level in every block.

A condition is one token a window: a weight for each class, and last the weight of none. Of a class alone it is 1 in one
place, which makes the answer exactly that of the class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.errors import InputError
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.transformer import Block, NoiseRow, Patches, TransformerShape, modulated


class DiT(nn.Module):
    """`network(x, timestep, condition)`: x (b, channels, h, w), timestep (b,), tokens (b, 1, classes + 1)."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.shape = shape
        self.patches = Patches(shape)
        self.told = nn.ModuleList(Told(shape) for _ in range(shape.depth))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.last = nn.Linear(shape.width, 2 * shape.width)

    def forward(self, x: Tensor, label: Tensor, condition: TokenCondition) -> Tensor:
        """The predicted noise (b, channels, h, w), in x's dtype."""
        rows, weights = self.patches.rows(x), condition.tokens[:, 0].to(x.dtype)
        told = [one(label, weights) for one in self.told]
        for block, (_, shifts) in zip(self.blocks, told, strict=True):
            rows = block(rows, shifts, None)
        shift, scale = self.last(told[0][0])[:, None].chunk(2, dim=2)
        return self.patches.window(modulated(rows, shift, scale), *x.shape[2:])

    def condition(self, embeddings: Tensor, known: Tensor) -> TokenCondition:
        """What windows are told by weights of classes (b, 1, classes): the heaviest class; none where not known (b, 1).

        A network learnt single classes, no mixtures. Raises InputError for another number of classes.
        """
        classes = self.shape.context
        if embeddings.shape[1:] != (1, classes):
            raise InputError(f"this model has {classes} classes: give each window one weight for each of them")
        number = torch.where(known, embeddings.argmax(-1), classes)
        told = F.one_hot(number, classes + 1).to(self.last.weight)
        nothing = F.one_hot(torch.full_like(number, classes), classes + 1).to(told)
        return TokenCondition(told, nothing)


class Told(nn.Module):
    """The noise level and the class as one row, and what shifts, scales and gates a block.

    Every block has its own, as in diffusers' files; in DiT's own they are copies of one.
    """

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.noise = NoiseRow(shape.width, to_the_end=True)
        self.classes = nn.Embedding(shape.context + 1, shape.width)
        self.modulation = nn.Linear(shape.width, 6 * shape.width)

    def forward(self, label: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Timestep (b,) and weights (b, classes + 1) to the row (b, width) and what shifts a block, (b, 6, width)."""
        row = F.silu(self.noise(label, weights.dtype) + weights @ self.classes.weight)
        return row, self.modulation(row).unflatten(1, (6, -1))
