"""What a decoded picture is held to: pixels, edges, a network's feature maps, and a discriminator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchloom.encoders.perceptual import PerceptualDistance
from patchloom.errors import DependencyError, InputError
from patchloom.training.discriminator import WIDTHS, as_judge, balanced, hinge
from patchloom.training.draws import Draws

SHIFT_PX = 8  # networks of stride 8 look at the pictures from a random one of 8 x 8 phases
# The steps of AdamW do not depend on a loss's scale, the clip of the whole gradient does: at its full length the
# discriminator's, which is tens of times longer, would decide how much of the decoder's is left.
_QUIET = 0.01
Figures = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Losses:
    """The weights of an autoencoder's losses; one of 0 is not computed. Raises InputError for one below 0."""

    l1: float = 1.0  # absolute difference of pixels
    edges: float = 0.5  # absolute difference of neighbours' differences
    perceptual: float = 0.0  # difference of the default encoder's early feature maps
    adversarial: float = 0.0  # the discriminator's push on a picture, over the push of all other losses together
    start: int = 0  # samples after which the decoder hears the discriminator, which learns from the first one on
    cap: float = 10.0  # most that the discriminator's loss is multiplied by to push so hard
    discriminator: tuple[int, ...] = WIDTHS  # its widths, from half the resolution down; one more sees twice as far
    lattice: float = 0.0  # absolute value of the pattern that repeats from latent to latent, where nothing repeats

    def __post_init__(self) -> None:
        if not self.discriminator or min(self.discriminator) < 1:
            raise InputError(f"`losses.discriminator` is one or more widths from 1 on, not {self.discriminator}")
        for name in (field.name for field in fields(self) if field.name != "discriminator"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"`losses.{name}` must be 0 or more, not {getattr(self, name)}")
        if self.l1 + self.edges + self.perceptual == 0:
            raise InputError("`losses` needs `l1`, `edges` or `perceptual`: nothing else says what the picture was")


class Criterion:
    """The losses that a config asks for, ready on a device."""

    def __init__(self, weights: Losses, device: torch.device, period: int = 8) -> None:
        """`period` is how many pixels a latent is wide.

        Raises DependencyError where the perceptual loss is asked for and its network is not installed.
        """
        self.weights, self.period = weights, period
        self.distance = _distance(device) if weights.perceptual else None

    def __call__(
        self,
        decoded: Tensor,
        crops: Tensor,
        draws: Draws,
        discriminator: nn.Module | None = None,
        made: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Figures]:
        """The loss of decoded pictures (b, 3, h, w) in [-1, 1], and each term as it is before it is weighted.

        With a discriminator the loss holds its own too: the gradients of the two do not mix. `made` are pictures
        (n, 3, h, w) without an original, for the discriminator alone, and their colours (n, 3, h / k, w / k).
        """
        weights, pictures = self.weights, decoded
        if made is not None:
            pictures = torch.cat([decoded, made[0]])
            decoded = pictures[: len(crops)]
        figures = {"absolute": (decoded - crops).abs().mean(), "edges": edge_difference(decoded, crops)}
        kept = weights.l1 * figures["absolute"] + weights.edges * figures["edges"]
        if made is not None:
            figures["colours"] = colour_difference(pictures[len(crops) :], made[1])
            kept = kept + figures["colours"]
        if weights.lattice:
            free = pictures[len(crops) :]
            figures["lattice"] = lattice(torch.cat([decoded - crops, free]), self.period).abs().mean()
            kept = kept + weights.lattice * figures["lattice"]
        if self.distance is None and discriminator is None:
            return kept, figures
        shown, real = shifted(pictures, crops, draws)
        if self.distance is not None:
            figures["perceptual"] = self.distance(shown[: len(crops)], real).mean()
            kept = kept + weights.perceptual * figures["perceptual"]
        if discriminator is None:
            return kept, figures
        adversarial = -as_judge(discriminator, shown).mean()
        share = weights.adversarial if draws.seen >= weights.start else 0.0
        total, weight = balanced(kept, adversarial, pictures, share, weights.cap)
        own = hinge(discriminator(real), discriminator(shown.detach()))
        figures |= {"adversarial": adversarial, "adversarial_weight": weight, "discriminator": own}
        return total + _QUIET * own, figures


def edge_difference(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of the steps from each pixel to the next, across and down."""
    difference = a - b
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


def lattice(pictures: Tensor, period: int) -> Tensor:
    """What squares of `period` px have in common (b, c, period, period): a mean over those of a picture, less its own.

    Of tissue and land it is about nothing, since neither knows where a square begins; a decoder does.
    """
    count, channels, *sides = pictures.shape
    high, wide = (side // period for side in sides)
    whole = pictures[..., : high * period, : wide * period]
    common = whole.reshape(count, channels, high, period, wide, period).mean((2, 4))
    return common - common.mean((2, 3), keepdim=True)


def colour_difference(pictures: Tensor, colours: Tensor) -> Tensor:
    """Mean absolute difference of pictures (n, 3, k h, k w), reduced by k, and colours (n, 3, h, w)."""
    return (F.avg_pool2d(pictures, pictures.shape[-1] // colours.shape[-1]) - colours).abs().mean()


def shifted(one: Tensor, two: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Both pictures without 8 rows and 8 columns, as many of them from above and from the left as chance says.

    A network with strides would otherwise favour pixels of some phases, and its gradient draw a checkerboard.
    """
    y, x = draws.host.randrange(SHIFT_PX), draws.host.randrange(SHIFT_PX)
    height, width = (side - SHIFT_PX for side in one.shape[-2:])
    return one[..., y : y + height, x : x + width], two[..., y : y + height, x : x + width]


def _distance(device: torch.device) -> PerceptualDistance:
    try:
        distance = PerceptualDistance()
    except DependencyError as error:
        raise DependencyError(f"`losses.perceptual` is asked for. {error}; or set it to 0") from None
    return distance.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
