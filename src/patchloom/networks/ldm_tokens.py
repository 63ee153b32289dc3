"""Conditions that are told as tokens, as latent diffusion's cross-attention reads them, and what makes the tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.errors import InputError

MOST = 1 << 20  # values of an embedding, or rows of a table: beyond anything ever trained, a mistake or a trap


@dataclass(frozen=True, slots=True)
class TokenCondition:
    """The tokens of each image of a batch, and the tokens that say nothing.

    Families differ in what "nothing" is (the token of a zero embedding, zeros, a learned vector, the empty text), so
    both are carried; the network is given `tokens` and never knows.
    """

    tokens: Tensor  # (b, count, width)
    nothing: Tensor  # (b, count, width)

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def null(self) -> TokenCondition:
        """The same batch with nothing said."""
        return TokenCondition(self.nothing, self.nothing)

    def join(self, other: TokenCondition) -> TokenCondition:
        """This batch followed by another with as many tokens an image."""
        return TokenCondition(torch.cat([self.tokens, other.tokens]), torch.cat([self.nothing, other.nothing]))

    def to(self, device: torch.device, dtype: torch.dtype) -> TokenCondition:
        """The batch on a device, in a dtype."""
        return TokenCondition(self.tokens.to(device, dtype), self.nothing.to(device, dtype))


@dataclass(frozen=True, slots=True)
class EmbedderShape:
    """One token for each embedding that a window has: the patch's own and, where there is one, its region's."""

    patch: int  # length of a patch's embedding
    region: int | None = None  # length of its region's
    width: int = 512  # of a token
    normalise: bool = True  # each embedding to length 1 first

    def __post_init__(self) -> None:
        lengths = (self.patch, self.width, 1 if self.region is None else self.region)
        if not all(0 < length <= MOST for length in lengths):
            raise InputError(f"embeddings and tokens have from 1 to {MOST} values: {self}")


class TokenEmbedder(nn.Module):
    """Embeddings to tokens by a linear layer each (Graikos et al. 2024): the patch's token, then its region's.

    An embedding of zeros says nothing, and its token is the layer's bias: normalising leaves zeros as they are.
    """

    def __init__(self, shape: EmbedderShape) -> None:
        super().__init__()
        self.shape = shape
        self.patch = nn.Linear(shape.patch, shape.width)
        self.region = None if shape.region is None else nn.Linear(shape.region, shape.width)

    def forward(self, patch: Tensor, region: Tensor | None = None) -> Tensor:
        """Tokens (b, 1 or 2, width) of embeddings (b, patch) and (b, region); a region left out says nothing.

        Raises InputError for embeddings of another length.
        """
        if self.region is None and region is not None:
            raise InputError("this model was trained on patch embeddings alone: leave the region out")
        tokens = [self._token(self.patch, patch, "patch")]
        if self.region is not None:
            given = patch.new_zeros(len(patch), self.region.in_features) if region is None else region
            tokens.append(self._token(self.region, given, "region"))
        return torch.stack(tokens, dim=1)

    def condition(self, patch: Tensor, region: Tensor | None = None) -> TokenCondition:
        """The embeddings' tokens beside those of nothing said."""
        with torch.no_grad():
            nothing = self(torch.zeros_like(patch[:1]))
            return TokenCondition(self(patch, region), nothing.expand(len(patch), -1, -1))

    def _token(self, layer: nn.Linear, embeddings: Tensor, name: str) -> Tensor:
        if embeddings.shape[1:] != (layer.in_features,):
            raise InputError(
                f"{name} embeddings are {tuple(embeddings.shape[1:])}-d here, but this model was trained on "
                f"{layer.in_features}-d ones; embed with the encoder that it was trained with"
            )
        embeddings = embeddings.to(layer.weight)
        return layer(F.normalize(embeddings, dim=-1) if self.shape.normalise else embeddings)  # type: ignore[no-any-return]
