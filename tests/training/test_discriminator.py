"""A discriminator: both sides learn in one backward, and its word weighs what the config says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from patchloom.training.discriminator import WIDTHS, PatchDiscriminator, as_judge, balanced, hinge


@pytest.mark.parametrize(("widths", "stride", "patch"), [(WIDTHS, 8, 40), ((4, 8, 8, 8), 16, 80), ((4,), 2, 10)])
def test_scores_are_of_patches(widths: tuple[int, ...], stride: int, patch: int) -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(widths)
    picture = torch.randn(1, 3, 192, 192, requires_grad=True)
    scores = network(picture)
    assert scores.shape == (1, 1, 192 // stride, 192 // stride)
    (gradient,) = torch.autograd.grad(scores[0, 0, 96 // stride, 96 // stride], picture)
    seen = gradient[0].abs().sum(0).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [patch, patch]


def test_a_judge_teaches_the_picture_alone() -> None:
    torch.manual_seed(0)
    network, picture = PatchDiscriminator((4, 8)), torch.randn(2, 3, 16, 16, requires_grad=True)
    scores = as_judge(network, picture)
    assert torch.equal(scores, network(picture))
    scores.sum().backward()  # type: ignore[no-untyped-call]
    assert picture.grad is not None
    assert picture.grad.abs().max() > 0
    assert all(p.grad is None for p in network.parameters())


def test_the_hinge_is_content_beyond_its_margins() -> None:
    assert hinge(torch.tensor([1.5, 1.0]), torch.tensor([-1.0, -3.0])) == 0
    assert hinge(torch.tensor([0.0]), torch.tensor([0.0])) == 1
    assert hinge(torch.tensor([-1.0]), torch.tensor([1.0])) == 2


@pytest.mark.parametrize(("share", "most", "expected"), [(0.5, 1e9, 0.5 * 3 / 4), (0.5, 0.1, 0.05), (0.0, 1e9, 0.0)])
def test_the_second_loss_pushes_by_its_share_of_the_first(share: float, most: float, expected: float) -> None:
    first, second = torch.tensor([3.0, 0, 0, 0]), torch.tensor([0, 0, 0, 4.0])  # gradients of length 3 and 4
    layer = nn.Linear(1, 4, bias=False)
    decoded = layer(torch.ones(1))
    total, weight = balanced((decoded * first).sum(), (decoded * second).sum(), decoded, share, most)
    assert float(weight) == pytest.approx(expected)
    assert float(total.detach()) == pytest.approx(float((decoded * (first + expected * second)).sum().detach()))
    total.backward()  # type: ignore[no-untyped-call]
    assert layer.weight.grad is not None
    assert torch.allclose(layer.weight.grad[:, 0], first + expected * second)


def test_it_learns_to_tell_a_texture_from_a_flat_picture() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator((8, 16))
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(40):
        loss = hinge(network(torch.randn(4, 3, 16, 16)), network(torch.zeros(4, 3, 16, 16)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert float(loss.detach()) < 0.2
