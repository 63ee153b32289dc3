"""What tells PathLDM (Yellapragada et al. 2024) about a patch: a class, or a text read by half of CLIP.

CLIP's text half (Radford et al. 2021) reads 77 tokens. PathLDM gives it captions of twice that: each part of 77 takes
the same places, and one transformer with one causal mask reads them all. Padding is seen by no token. The answers
after the last norm are what the U-Net attends to; nothing said is the reading of the empty text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.errors import InputError
from patchloom.networks.ldm_tokens import MOST, TokenCondition


@dataclass(frozen=True, slots=True)
class ClassShape:
    """One learned token for each class; the last class says nothing."""

    classes: int
    width: int = 512

    def __post_init__(self) -> None:
        if not 2 <= self.classes <= MOST or not 0 < self.width <= MOST:
            raise InputError(f"a class embedding has 2 to {MOST} classes, one of which says nothing: {self}")


@dataclass(frozen=True, slots=True)
class TextShape:
    """Sizes of CLIP's text half; the defaults are those of ViT-B/32, of OpenAI's CLIP and of PLIP."""

    vocabulary: int = 49408
    width: int = 512
    depth: int = 12
    heads: int = 8
    hidden: int = 2048
    length: int = 77  # places
    parts: int = 1  # of that length, in a caption

    def __post_init__(self) -> None:
        sizes = (self.vocabulary, self.width, self.depth, self.heads, self.hidden, self.length, self.parts)
        if not all(0 < size <= MOST for size in sizes) or self.width % self.heads:
            raise InputError(f"the sizes of a text encoder are from 1 to {MOST} and fit its heads: {self}")


@dataclass(frozen=True, slots=True)
class Words:
    """Captions as numbers: ids (b, n), and which of them are not padding."""

    ids: Tensor
    known: Tensor  # (b, n) bool


class ClassTold(nn.Module):
    """Classes to tokens."""

    def __init__(self, shape: ClassShape) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.classes, shape.width)

    def condition(self, classes: Tensor) -> TokenCondition:
        """One token (b, 1, width) for each class (b,), beside that of nothing said. Raises InputError."""
        last = self.shape.classes - 1
        if classes.numel() and not 0 <= int(classes.min()) <= int(classes.max()) <= last:
            raise InputError(f"this model knows classes 0 to {last - 1}, and {last}, which says nothing")
        with torch.no_grad():
            return TokenCondition(self.tokens(classes)[:, None], self.tokens(torch.full_like(classes, last))[:, None])


class TextTold(nn.Module):
    """Captions to tokens."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.shape = shape
        self.words = nn.Embedding(shape.vocabulary, shape.width)
        self.places = nn.Embedding(shape.length, shape.width)
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, words: Words) -> Tensor:
        """Tokens (b, n, width) of captions (b, n), n a multiple of `length`. Raises InputError for others."""
        count = words.ids.shape[1]
        if count % self.shape.length or words.known.shape != words.ids.shape:
            raise InputError(f"captions are parts of {self.shape.length} tokens, not {tuple(words.ids.shape)}")
        if words.ids.numel() and not 0 <= int(words.ids.min()) <= int(words.ids.max()) < self.shape.vocabulary:
            raise InputError(f"the vocabulary of this model has {self.shape.vocabulary} words; take its own tokenizer")
        rows = self.words(words.ids) + self.places.weight.repeat(count // self.shape.length, 1)
        before = torch.ones(count, count, dtype=torch.bool, device=rows.device).tril()
        seen = before & words.known[:, None, None, :].to(rows.device)
        for block in self.blocks:
            rows = block(rows, seen)
        return self.norm(rows)  # type: ignore[no-any-return]

    def condition(self, words: Words, nothing: Words) -> TokenCondition:
        """The tokens of captions beside those of the empty text, one (1, n) for all."""
        with torch.no_grad():
            return TokenCondition(self(words), self(nothing).expand(len(words.ids), -1, -1))


class _Block(nn.Module):
    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm = nn.LayerNorm(shape.width)
        self.query, self.key, self.value, self.out = (nn.Linear(shape.width, shape.width) for _ in range(4))
        self.feed_norm = nn.LayerNorm(shape.width)
        self.feed_in = nn.Linear(shape.width, shape.hidden)
        self.feed_out = nn.Linear(shape.hidden, shape.width)

    def forward(self, rows: Tensor, seen: Tensor) -> Tensor:
        """(b, n, width) to the same; seen (b, 1, n, n) says which token looks at which."""
        own = self.norm(rows)
        query, key, value = (self._split(layer(own)) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        rows = rows + self.out(mixed.transpose(1, 2).flatten(2))
        inner = self.feed_in(self.feed_norm(rows))
        return rows + self.feed_out(inner * torch.sigmoid(1.702 * inner))  # type: ignore[no-any-return]  # CLIP's GELU

    def _split(self, rows: Tensor) -> Tensor:
        return rows.reshape(*rows.shape[:2], self.heads, -1).transpose(1, 2)
