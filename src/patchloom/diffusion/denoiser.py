"""The one type that everything in diffusion speaks: a function from a noisy image to the expected clean one."""

from __future__ import annotations

from typing import Protocol, TypeVar

from torch import Tensor

C_contra = TypeVar("C_contra", contravariant=True)


class Denoiser(Protocol[C_contra]):
    """`D(x, sigma, condition)`: the expected clean image E[x0 | x], where x = x0 + sigma * noise, always.

    x is (b, c, h, w); sigma is (b,) and positive, in units of the latents' deviation; the condition holds b entries.
    Guidance, windows and kept pixels each take a denoiser and give one back.
    """

    def __call__(self, x: Tensor, sigma: Tensor, condition: C_contra) -> Tensor:
        """Expected x0, of the shape of x."""
        ...
