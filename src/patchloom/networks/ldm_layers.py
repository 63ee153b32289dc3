"""The parts of latent diffusion's U-Net: residual blocks told the noise level, and transformers told tokens.

Written from Rombach et al. (2022), appendix E, Dhariwal & Nichol (2021), section 3, and Shazeer (2020) for the gated
feed-forward layer. Normalisation and attention are over the whole window: an answer depends on all of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32


class Residual(nn.Module):
    """Two convolutions beside a shortcut; the noise level is added to every pixel between them."""

    def __init__(self, width: int, out: int, noise: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.first = nn.Conv2d(width, out, 3, padding=1)
        self.noise = nn.Linear(noise, out)
        self.second_norm = nn.GroupNorm(GROUPS, out)
        self.second = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """x (b, width, h, w) and the noise embedding (b, noise) to (b, out, h, w)."""
        h = self.first(F.silu(self.norm(x)))
        h = h + self.noise(F.silu(noise))[:, :, None, None]
        return self.shortcut(x) + self.second(F.silu(self.second_norm(h)))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) of x to a context, or to itself."""

    def __init__(self, width: int, context: int, heads: int, *, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(context, width, bias=bias)
        self.value = nn.Linear(context, width, bias=bias)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (b, n, width) and context (b, m, context) to (b, n, width)."""
        query, key, value = self._split(self.query(x)), self._split(self.key(context)), self._split(self.value(context))
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def constant(self, token: Tensor) -> Tensor:
        """The answer of every x where the context is one token (b, 1, context): (b, 1, width).

        A softmax over one value is 1 whatever the query and key are, so neither is computed.
        """
        return self.out(self.value(token))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class TransformerBlock(nn.Module):
    """Self-attention, attention to the tokens and a gated feed-forward layer, each beside an identity."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, width, heads)
        self.cross_norm = nn.LayerNorm(width)
        self.cross_attention = Attention(width, context, heads)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_in = nn.Linear(width, 8 * width)
        self.feed_out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """x (b, n, width) and tokens (b, m, context) to (b, n, width)."""
        own = self.self_norm(x)
        x = x + self.self_attention(own, own)
        if tokens.shape[1] == 1:
            x = x + self.cross_attention.constant(tokens)
        else:
            x = x + self.cross_attention(self.cross_norm(x), tokens)
        value, gate = self.feed_in(self.feed_norm(x)).chunk(2, dim=-1)
        return x + self.feed_out(value * F.gelu(gate))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Transformer blocks over all pixels of a plane, beside an identity."""

    def __init__(self, width: int, context: int, heads: int, depth: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.enter = nn.Conv2d(width, width, 1)
        self.blocks = nn.ModuleList(TransformerBlock(width, context, heads) for _ in range(depth))
        self.leave = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """x (b, width, h, w) and tokens (b, m, context) to (b, width, h, w)."""
        h = self.enter(self.norm(x))
        rows = h.flatten(2).transpose(1, 2)
        for block in self.blocks:
            rows = block(rows, tokens)
        return x + self.leave(rows.transpose(1, 2).reshape(h.shape))  # type: ignore[no-any-return]


class Shrink(nn.Module):
    """Half the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to (b, width, h / 2, w / 2)."""
        return self.conv(x)  # type: ignore[no-any-return]


class Grow(nn.Module):
    """Twice the size, by repeating pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) to (b, width, 2 h, 2 w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))  # type: ignore[no-any-return]


def timestep_waves(label: Tensor, width: int, *, to_the_end: bool = False) -> Tensor:
    """Cosines, then sines of a timestep (b,) at `width / 2` frequencies from 1 down to nearly 1/10000: (b, width).

    `to_the_end` spaces the frequencies so that the last is 1/10000, as DiT's in diffusers are. They are rounded to
    float32 on the way, as the models were trained: at timestep 1000 that shows.
    """
    half = width // 2
    exponent = -torch.log(torch.tensor(10000.0)) * torch.arange(half, dtype=torch.float32) / (half - to_the_end)
    angles = label.float()[:, None] * exponent.exp().to(label.device)
    return torch.cat([angles.cos(), angles.sin()], dim=1)
