"""The latent-diffusion U-Net's own laws; parity with the official code is tested in tests/importers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from patchloom.errors import InputError
from patchloom.networks.ldm_layers import Attention, timestep_waves
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.ldm_unet import LatentUNet, LatentUNetShape


def told(tokens: Tensor) -> TokenCondition:
    return TokenCondition(tokens, tokens)


@settings(max_examples=10)
@given(
    multipliers=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    blocks=st.integers(1, 2),
    attention=st.sets(st.sampled_from([1, 2, 4])),
    head_width=st.sampled_from([None, 8, 32]),
)
def test_any_topology_answers_in_the_shape_of_its_window(
    multipliers: list[int], blocks: int, attention: set[int], head_width: int | None
) -> None:
    shape = LatentUNetShape(
        width=32,
        multipliers=tuple(multipliers),
        blocks=(blocks,) * len(multipliers),
        attention=tuple(attention),
        heads=None if head_width else 2,
        head_width=head_width,
        context=6,
    )
    x = torch.zeros(2, 3, 2 * shape.multiple, 3 * shape.multiple)
    with torch.no_grad():
        answer = LatentUNet(shape)(x, torch.zeros(2), told(torch.zeros(2, 3, 6)))
    assert answer.shape == x.shape


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_to_one_token_is_a_constant(heads: int) -> None:
    """What is skipped where the condition is one token is exact: the full attention gives the same bits or nearly."""
    torch.manual_seed(1)
    attention = Attention(32, 12, heads)
    x, token = torch.randn(2, 50, 32), torch.randn(2, 1, 12)
    with torch.no_grad():
        torch.testing.assert_close(attention(x, token), attention.constant(token).expand(2, 50, 32), rtol=0, atol=1e-6)


def test_images_of_a_batch_do_not_see_one_another() -> None:
    torch.manual_seed(1)
    network = LatentUNet(LatentUNetShape(width=32, multipliers=(1, 2), blocks=(1, 1), context=6)).eval()
    x, t, tokens = torch.randn(3, 3, 8, 8), torch.tensor([1.0, 500.0, 1000.0]), torch.randn(3, 2, 6)
    with torch.no_grad():
        whole = network(x, t, told(tokens))
        alone = network(x[1:2], t[1:2], told(tokens[1:2]))
        other = network(x[1:2], t[1:2], told(tokens[2:]))
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(alone, other, atol=1e-3)  # and it reads its tokens


def test_waves() -> None:
    found = timestep_waves(torch.tensor([0.0, 3.0]), 6)
    assert found[0].tolist() == [1, 1, 1, 0, 0, 0]
    angles = 3 * 10000 ** (-torch.arange(3) / 3)
    torch.testing.assert_close(found[1], torch.cat([angles.cos(), angles.sin()]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blocks": (1,)}, "each of its levels"),
        ({"multipliers": (), "blocks": ()}, "each of its levels"),
        ({"width": 30}, "32 equal groups"),
        ({"heads": 7}, "shared among its heads"),
        ({"heads": None}, "not both"),
        ({"head_width": 8}, "not both"),
        ({"width": 1 << 20}, "from 1 to"),
        ({"multipliers": (1,) * 20, "blocks": (1,) * 20}, "at most 12 levels"),
        ({"depth": 1 << 12}, "at most"),
    ],
)
def test_sizes_that_do_not_fit(fields: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LatentUNetShape(**fields)  # type: ignore[arg-type]
