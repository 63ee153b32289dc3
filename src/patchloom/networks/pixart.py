"""PixArt (Chen et al. 2023) and PixCell (Yellapragada et al. 2025): a transformer told tokens by cross-attention.

One small network says the noise level to all blocks, each of which keeps a table that it adds (adaLN-single). PixCell
is the same network told the embeddings of the cells of a window, a square of them that know their places, with a
learned value for each that says nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.errors import InputError
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.transformer import Block, NoiseRow, Patches, TransformerShape, modulated


class PixArt(nn.Module):
    """`network(x, timestep, condition)`: x (b, channels, h, w), timestep (b,), tokens (b, m, context)."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.shape = shape
        self.patches = Patches(shape)
        self.noise = NoiseRow(shape.width, to_the_end=False)
        self.modulation = nn.Linear(shape.width, 6 * shape.width)
        self.captions = Captions(shape)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.tables = nn.ParameterList(torch.zeros(6, shape.width) for _ in range(shape.depth))
        self.last_table = nn.Parameter(torch.zeros(2, shape.width))

    def forward(self, x: Tensor, label: Tensor, condition: TokenCondition) -> Tensor:
        """The predicted noise (b, channels, h, w), in x's dtype."""
        rows, tokens = self.patches.rows(x), self.captions(condition.tokens.to(x.dtype))
        noise = self.noise(label, x.dtype)
        shared = self.modulation(F.silu(noise)).unflatten(1, (6, -1))
        for block, table in zip(self.blocks, self.tables, strict=True):
            rows = block(rows, table + shared, tokens)
        shift, scale = (self.last_table + noise[:, None]).chunk(2, dim=1)
        return self.patches.window(modulated(rows, shift, scale), *x.shape[2:])

    def condition(self, embeddings: Tensor, known: Tensor) -> TokenCondition:
        """What windows are told by their cells: embeddings (b, tokens, context), known (b, tokens).

        A cell that is not known says nothing in its own place. Raises InputError for embeddings of another length.
        """
        return self.captions.condition(embeddings, known)


class Captions(nn.Module):
    """Tokens as they are given to rows of the network's width."""

    places: Tensor | None  # where each token's cell lies, as the model was trained with
    null: Tensor | None

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.shape = shape
        self.first = nn.Linear(shape.context, shape.width)
        self.second = nn.Linear(shape.width, shape.width)
        size = shape.tokens, shape.context
        self.register_buffer("places", torch.zeros(1, *size) if shape.tokens > 1 else None)
        self.register_buffer("null", torch.zeros(size) if shape.null else None)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, m, context) to (b, m, width)."""
        if self.places is not None:
            tokens = (tokens + self.places).to(tokens.dtype)
        return self.second(F.gelu(self.first(tokens), approximate="tanh"))  # type: ignore[no-any-return]

    def condition(self, embeddings: Tensor, known: Tensor) -> TokenCondition:
        """What `PixArt.condition` says."""
        size = self.shape.tokens, self.shape.context
        if embeddings.shape[1:] != size:
            raise InputError(
                f"windows of this model are told {size[0]} embeddings of {size[1]} values, not "
                f"{tuple(embeddings.shape[1:])}; embed with the encoder that it was trained with"
            )
        embeddings, known = embeddings.to(self.first.weight), known.to(self.first.weight.device)
        one = torch.zeros_like(embeddings[0]) if self.null is None else self.null.to(embeddings)
        nothing = one.expand_as(embeddings)
        return TokenCondition(torch.where(known[..., None], embeddings, nothing), nothing)
