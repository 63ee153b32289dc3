"""Tokens that were made beforehand: a cell of a grid holds all that a window is told, one token after another.

So a model that is told a text or a class (`networks.path_told`) follows a grid like any other: its cells say the text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from patchloom.errors import InputError
from patchloom.networks.ldm_tokens import EmbedderShape, TokenCondition, TokenEmbedder


@dataclass(frozen=True, slots=True)
class GivenShape(EmbedderShape):
    """How many tokens a cell holds; `patch` is that number times their width."""

    tokens: int = 1

    def __post_init__(self) -> None:
        if min(self.tokens, self.width) < 1 or self.patch != self.tokens * self.width or self.region is not None:
            raise InputError(f"a cell holds {self.tokens} tokens of {self.width} numbers, no more and no fewer: {self}")


class GivenTokens(TokenEmbedder):
    """Cells to the tokens that they hold. `patch` holds the tokens of nothing said, where others have a layer."""

    shape: GivenShape

    def __init__(self, shape: GivenShape) -> None:
        nn.Module.__init__(self)
        self.shape = shape
        self.patch = nn.Embedding(shape.tokens, shape.width)  # type: ignore[assignment]
        self.region = None

    def forward(self, patch: Tensor, region: Tensor | None = None) -> Tensor:
        """Tokens (b, tokens, width) of cells (b, tokens * width). Raises InputError for cells of another length."""
        if region is not None or patch.shape[1:] != (self.shape.patch,):
            raise InputError(
                f"cells are {tuple(patch.shape[1:])} here, but this model is told {self.shape.tokens} tokens of "
                f"{self.shape.width} numbers; make the grid by `patchloom describe`"
            )
        return patch.to(self.patch.weight).reshape(-1, self.shape.tokens, self.shape.width)

    def condition(self, patch: Tensor, region: Tensor | None = None) -> TokenCondition:
        """The cells' tokens beside those of nothing said, which cells of zeros say too."""
        with torch.no_grad():
            tokens, nothing = self(patch, region), self.patch.weight.expand(len(patch), -1, -1)
            said = patch.any(dim=1)[:, None, None].to(tokens.device)
            return TokenCondition(torch.where(said, tokens, nothing), nothing)
