"""The perceptual distance: what every distance keeps, and that it sees what pixels do not tell."""

from __future__ import annotations

import torch
from torch import Tensor

from patchloom.encoders.efficientnet import MEAN, STD, load_network
from patchloom.encoders.perceptual import PerceptualDistance


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_is_nought_for_equals_and_the_same_both_ways() -> None:
    distance = PerceptualDistance()
    one, two = pictures(2, 3, 32, 48), pictures(2, 3, 32, 48, seed=1)
    assert torch.equal(distance(one, one), torch.zeros(2))
    assert torch.allclose(distance(one, two), distance(two, one))
    assert distance(one, two).min() > 0.1


def test_pictures_are_normalised_as_the_encoder_normalises_them() -> None:
    distance, network = PerceptualDistance(), load_network()[0].eval()
    one = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    stem = torch.nn.functional.relu6(network._bn0(network._conv_stem((one / 255 - mean) / std)))
    expected = stem / stem.norm(dim=1, keepdim=True)
    assert torch.allclose(distance.maps(one / 127.5 - 1)[0], expected, atol=1e-5)


def test_a_blur_is_further_than_as_large_a_change_of_brightness() -> None:
    one = pictures(1, 3, 64, 64) * 0.5
    blurred = torch.nn.functional.avg_pool2d(one, 3, 1, 1)
    brighter = one + (blurred - one).square().mean().sqrt()
    distance = PerceptualDistance()
    assert distance(one, blurred) > 3 * distance(one, brighter)


def test_it_teaches_pictures_and_never_itself() -> None:
    distance = PerceptualDistance().train()
    assert not any(module.training for module in distance.modules())
    one = pictures(1, 3, 32, 32).requires_grad_()
    distance(one, pictures(1, 3, 32, 32, seed=1)).sum().backward()
    assert one.grad is not None
    assert one.grad.abs().max() > 0
    assert not any(p.requires_grad for p in distance.parameters())
