"""A small network that tells patches of real pictures from decoded ones, and how much its word counts.

Sources: patches by convolution alone, Isola et al. (2017), "Image-to-image translation with conditional adversarial
networks", section 3.2.2; the hinge, Lim and Ye (2017), "Geometric GAN"; the adaptive weight, Esser et al. (2021),
"Taming transformers", eq. 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from patchloom.autoencoders.convolutional import ConvolutionalAutoencoder

WIDTHS = (48, 96, 128)
_SLOPE = 0.2
_EPS = 1e-12  # of a gradient's length


class PatchDiscriminator(nn.Module):
    """Pictures (b, 3, h, w) to scores: above 0 for real. With three widths (b, 1, h / 8, w / 8) of patches of 40 px.

    A fourth width halves once more: (b, 1, h / 16, w / 16) of patches of 80 px.
    No norm: statistics over space or batch would tell it which pictures came together.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(12, widths[0], 3, padding=1)]
        for before, width in pairwise(widths):
            layers += [nn.LeakyReLU(_SLOPE), nn.Conv2d(before, width, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(_SLOPE), nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores, float32."""
        return self.layers(pictures).float()  # type: ignore[no-any-return]


class Adversaries(nn.Module):
    """An autoencoder and what tells its pictures from real ones: trained, averaged and kept side by side."""

    def __init__(self, autoencoder: ConvolutionalAutoencoder, discriminator: PatchDiscriminator) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.discriminator = discriminator


def as_judge(discriminator: nn.Module, pictures: Tensor) -> Tensor:
    """Scores whose gradient reaches the pictures and not the discriminator, so both sides learn in one backward."""
    fixed = {name: value.detach() for name, value in discriminator.state_dict().items()}
    scores: Tensor = functional_call(discriminator, fixed, (pictures,))
    return scores


def hinge(real: Tensor, made: Tensor) -> Tensor:
    """What the discriminator lowers: real scores below 1, made ones above -1."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + made).mean())


def balanced(kept: Tensor, adversarial: Tensor, decoded: Tensor, share: float, most: float) -> tuple[Tensor, Tensor]:
    """The sum of two losses of decoded pictures, and the factor before the second.

    The factor gives the second's gradient at the pictures `share` times the length of the first's; before `share` it is
    at most `most`. Esser et al. compare the gradients at the last layer: at the pictures each is computed once, and the
    decoder is walked through once. The sum carries both gradients to the decoder, so the two losses are used up.
    """
    first, second = torch.autograd.grad(kept, decoded)[0], torch.autograd.grad(adversarial, decoded)[0]
    weight = share * (first.norm() / (second.norm() + _EPS)).clamp(max=most)
    carried = (decoded * (first + weight * second)).sum()
    return carried - carried.detach() + kept.detach() + weight * adversarial.detach(), weight
