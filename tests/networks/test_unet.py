"""The U-Net: what an answer depends on, and what it is told by cells that are dropped or background."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchloom.diffusion.condition import GridCondition
from patchloom.diffusion.parametrisation import Parametrisation
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.networks.files import load_denoiser, save_denoiser
from patchloom.networks.layers import NoiseEmbedding, PixelNorm
from patchloom.networks.unet import UNet, UNetShape, filled

SHAPE = UNetShape(channels=2, embedding=3, widths=(8, 12), blocks=(1, 1), condition=8)


def network_of(shape: UNetShape = SHAPE) -> UNet:
    """A network in which every layer does something."""
    torch.manual_seed(0)
    network = UNet(shape)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.requires_grad_(False)


def condition_of(count: int = 2, cells: int = 4, seed: int = 0) -> GridCondition:
    generator = torch.Generator().manual_seed(seed)
    return GridCondition(
        torch.randn(count, cells, cells, 3, generator=generator),
        torch.ones(count, cells, cells, dtype=torch.bool),
        torch.zeros(count, 2),
        torch.full((count, 2), 8.0),
        torch.zeros(count, dtype=torch.bool),
    )


def x_of(side: int = 16, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 2, side, side, generator=torch.Generator().manual_seed(1))


LABEL = torch.tensor([0.1, -0.3])


def test_far_latents_change_nothing_and_near_ones_do() -> None:
    network, condition, x = network_of(), condition_of(), x_of(32)
    far, near = x.clone(), x.clone()
    far[:, :, :, 24:] += 5
    near[:, :, :, 5] += 5
    answer = network(x, LABEL, condition)
    assert torch.equal(network(far, LABEL, condition)[..., :4], answer[..., :4])
    assert not torch.allclose(network(far, LABEL, condition)[..., 20:], answer[..., 20:])
    assert not torch.allclose(network(near, LABEL, condition)[..., :4], answer[..., :4])


def test_far_cells_change_nothing_and_near_ones_do() -> None:
    network, condition, x = network_of(), condition_of(), x_of(32)
    far, near = condition.cells.clone(), condition.cells.clone()
    far[:, :, 3] += 5  # its interpolant begins at latent 16
    near[:, :, 0] += 5
    answer = network(x, LABEL, condition)
    assert torch.allclose(network(x, LABEL, replace(condition, cells=far))[..., :4], answer[..., :4], atol=1e-5)
    assert not torch.allclose(network(x, LABEL, replace(condition, cells=near))[..., :4], answer[..., :4], atol=1e-2)


def test_what_is_dropped_is_not_heard() -> None:
    network, x = network_of(), x_of()
    one, other = condition_of(seed=1), condition_of(seed=2)
    assert torch.equal(network(x, LABEL, one.null()), network(x, LABEL, other.null()))
    assert not torch.allclose(network(x, LABEL, one), network(x, LABEL, one.null()), atol=1e-2)
    half = replace(one, dropped=torch.tensor([True, False]))
    assert torch.allclose(network(x, LABEL, half)[1], network(x, LABEL, one)[1], atol=1e-5)
    assert torch.allclose(network(x, LABEL, half)[0], network(x, LABEL, one.null())[0], atol=1e-5)


def test_background_has_a_vector_of_its_own() -> None:
    network, x = network_of(), x_of()
    one, other = (replace(c, valid=~c.valid) for c in (condition_of(seed=1), condition_of(seed=2)))
    answer = network(x, LABEL, one)
    assert torch.equal(answer, network(x, LABEL, other))
    assert not torch.allclose(answer, network(x, LABEL, one.null()), atol=1e-2)
    network.cells.background.add_(1)
    assert not torch.allclose(answer, network(x, LABEL, one), atol=1e-2)


def test_the_noise_level_and_the_cells_constants_matter() -> None:
    network, x, condition = network_of(), x_of(), condition_of()
    answer = network(x, LABEL, condition)
    assert not torch.allclose(answer, network(x, LABEL + 0.5, condition), atol=1e-2)
    network.cells.mean += 1
    network.cells.deviation *= 2
    shifted = replace(condition, cells=2 * condition.cells + 1)
    assert torch.allclose(answer, network(x, LABEL, shifted), atol=1e-4)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_every_precision_and_memory_order_answers_alike(memory: torch.memory_format) -> None:
    network, x, condition = network_of(), x_of(), condition_of()
    answer = network(x, LABEL, condition)
    network = network.to(memory_format=memory)  # type: ignore[call-overload]
    assert torch.allclose(network(x, LABEL, condition), answer, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(x, LABEL, condition)
    assert mixed.dtype == torch.bfloat16
    half = network.to(torch.bfloat16)(x.bfloat16(), LABEL, condition)
    for rough in (mixed, half):
        assert (rough.float() - answer).abs().mean() < 0.05 * answer.abs().mean()


def test_it_compiles_into_one_graph_for_each_size_of_grid() -> None:
    network, x = network_of(), x_of()
    graphs = 0

    def backend(graph: torch.fx.GraphModule, example: object) -> torch.fx.GraphModule:
        nonlocal graphs
        graphs += 1
        return graph

    compiled = torch.compile(network, backend=backend, fullgraph=True, dynamic=False)
    for cells in (3, 4, 3, 4):
        condition = condition_of(cells=cells)
        assert torch.allclose(compiled(x, LABEL, condition), network(x, LABEL, condition), atol=1e-5)
    assert graphs == 2


def test_it_begins_by_answering_one_constant() -> None:
    network = UNet(SHAPE)
    bias = network.leave[2].bias
    assert isinstance(bias, torch.Tensor)
    assert torch.equal(network(x_of(), LABEL, condition_of()), bias[:, None, None].expand(2, 2, 16, 16))


def test_pixel_norm_is_over_the_channels_of_a_pixel() -> None:
    x = torch.randn(2, 5, 3, 4) * 7 + 2
    normed = PixelNorm(5)(x)
    assert torch.allclose(normed.mean(1), torch.zeros(2, 3, 4), atol=1e-5)
    assert torch.allclose(normed.std(1, correction=0), torch.ones(2, 3, 4), atol=1e-3)


def test_noise_levels_that_differ_are_told_apart() -> None:
    embedding = NoiseEmbedding(16)
    a, b = embedding(torch.tensor([0.5, 0.5001]))
    assert a.shape == (16,)
    assert not torch.equal(a, b)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="as many"):
        UNetShape(widths=(8, 8), blocks=(1,))
    assert SHAPE.multiple == 2
    assert UNetShape(widths=(8,), blocks=(1,)).multiple == 1


def test_a_folder_gives_back_the_denoiser(tmp_path: Path) -> None:
    network, parametrisation = network_of(), Parametrisation("edm", sigma_data=0.5)
    network.cells.mean.fill_(1 + 1e-6)
    save_denoiser(network, parametrisation, tmp_path, torch.bfloat16)
    denoiser, again = load_denoiser(tmp_path)
    assert again.shape == SHAPE
    assert denoiser.parametrisation == parametrisation
    assert torch.equal(again.cells.mean, network.cells.mean)  # constants are not rounded, weights are
    assert torch.equal(again.enter.weight, network.enter.weight.bfloat16().float())
    assert not torch.equal(again.enter.weight, network.enter.weight)


def test_a_folder_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"denoiser\.json"):
        load_denoiser(tmp_path)
    save_denoiser(network_of(), Parametrisation(), tmp_path)
    path = tmp_path / "denoiser.json"
    text = path.read_text()
    path.write_text(text.replace('"condition": 8', '"condition": 9'))
    with pytest.raises(FormatError, match="misshapen"):
        load_denoiser(tmp_path)
    path.write_text(text.replace('"condition"', '"conditions"'))
    with pytest.raises(FormatError, match="did you mean `condition`"):
        load_denoiser(tmp_path)


DEEP = UNetShape(channels=2, embedding=3, widths=(8, 12, 16), blocks=(1, 1, 1), condition=8)


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 13), width=st.integers(1, 13))
def test_a_window_of_any_sides_is_answered_as_mirrored_up_to_multiples(height: int, width: int) -> None:
    network, condition = network_of(DEEP), condition_of()
    x = x_of(13)[..., :height, :width].contiguous()
    whole = filled(x, 4)
    assert whole.shape[-2] % 4 == whole.shape[-1] % 4 == 0
    assert max(whole.shape[-2] - height, whole.shape[-1] - width) < 4
    answer = network(x, LABEL, condition)
    assert answer.shape == x.shape
    assert torch.equal(answer, network(whole, LABEL, condition)[..., :height, :width])


def test_filling_up_mirrors_the_last_rows_and_columns() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert filled(x, 4)[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [0, 1, 2, 2]]
    assert filled(x[..., :1], 4)[0, 0].tolist() == [[0] * 4, [3] * 4, [3] * 4, [0] * 4]
    multiple = x_of(16)
    assert filled(multiple, 4) is multiple
