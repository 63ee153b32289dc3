"""Embeddings of float pixels, with gradients: the same as of bytes, and true slopes."""

from __future__ import annotations

import torch
from tests.encoders.fakes import tiny_encoder


def pictures(count: int = 3, side: int = 20) -> torch.Tensor:
    return torch.randint(40, 200, (count, 3, side, side), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_whole_pixels_have_the_embeddings_of_their_bytes() -> None:
    encoder = tiny_encoder()
    assert torch.equal(encoder.followed(pictures().float()), encoder(pictures()))


def test_a_gradient_says_how_the_embedding_changes() -> None:
    """Against a difference in a random direction, through the resize from 20 to 16 px."""
    encoder, pixels = tiny_encoder(), pictures().float().requires_grad_()
    direction = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(2))
    (slope,) = torch.autograd.grad(encoder.followed(pixels).sum(), pixels)
    with torch.no_grad():
        ahead, behind = (encoder.followed(pixels + step * direction).sum() for step in (0.05, -0.05))
    torch.testing.assert_close((slope * direction).sum(), (ahead - behind) / 0.1, rtol=2e-2, atol=1e-4)
