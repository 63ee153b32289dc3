"""One law for all parametrisations: a network that returns the exact target makes the denoiser return x0."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from patchloom import records
from patchloom.diffusion.levels import ddpm_table
from patchloom.diffusion.loss import denoising_loss, log_normal, logit_normal, uniform_index
from patchloom.diffusion.parametrisation import NoiseLabel, Parametrisation, Preconditioned
from patchloom.errors import InputError

EVERY = [
    Parametrisation("eps"),
    Parametrisation("v"),
    Parametrisation("x0"),
    Parametrisation("flow"),
    Parametrisation("edm", sigma_data=0.5),
]
kinds = pytest.mark.parametrize("parametrisation", EVERY, ids=lambda p: p.kind)


def pair(sigma: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = (len(sigma), 2, 4, 5)
    x0 = torch.randn(shape, generator=generator, dtype=torch.float64)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x0, noise, torch.tensor(sigma, dtype=torch.float64)


@kinds
@settings(deadline=None)
@given(sigma=st.floats(1e-3, 1e3))
def test_exact_answer_denoises_exactly(parametrisation: Parametrisation, sigma: float) -> None:
    x0, noise, s = pair([sigma])

    def network(x: Tensor, label: Tensor, condition: None) -> Tensor:
        return parametrisation.target(x0, noise, s)

    D = Preconditioned(network, parametrisation)(x0 + sigma * noise, s, None)
    torch.testing.assert_close(D, x0, rtol=1e-9, atol=1e-9)
    assert denoising_loss(network, parametrisation, x0, None, s, noise).max() == 0


@kinds
def test_network_sees_unit_variance_at_every_level(parametrisation: Parametrisation) -> None:
    sigma = torch.logspace(-2, 2, 9, dtype=torch.float64)
    into = parametrisation.scalings(sigma).into
    spread = parametrisation.sigma_data**2 + sigma**2
    if parametrisation.kind == "flow":  # (1 - t) x0 + t noise keeps weights that sum to 1 instead
        torch.testing.assert_close(into * (1 + sigma), torch.ones_like(sigma))
    else:
        torch.testing.assert_close(into**2 * spread, torch.ones_like(sigma))


def test_edm_loss_is_karras_weighting_of_the_error_in_x0() -> None:
    parametrisation = Parametrisation("edm", sigma_data=0.5)
    x0, noise, sigma = pair([0.05, 1.0, 30.0])

    def network(x: Tensor, label: Tensor, condition: None) -> Tensor:
        return x.tanh()

    D = Preconditioned(network, parametrisation)(x0 + sigma[:, None, None, None] * noise, sigma, None)
    weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    expected = weight * (D - x0).square().mean(dim=(1, 2, 3))
    found = denoising_loss(network, parametrisation, x0, None, sigma, noise)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


def test_v_is_edm_of_unit_data_with_the_sign_turned() -> None:
    x0, noise, sigma = pair([0.1, 2.0])
    v, edm = Parametrisation("v"), Parametrisation("edm", sigma_data=1.0)
    torch.testing.assert_close(v.target(x0, noise, sigma), -edm.target(x0, noise, sigma))
    torch.testing.assert_close(v.scalings(sigma).out, -edm.scalings(sigma).out)
    torch.testing.assert_close(v.scalings(sigma).skip, edm.scalings(sigma).skip)


def test_labels() -> None:
    sigma = torch.tensor([0.3, 7.0])
    torch.testing.assert_close(NoiseLabel()(sigma), torch.tensor([math.log(0.3) / 4, math.log(7.0) / 4]))
    torch.testing.assert_close(NoiseLabel("time", steps=1000)(sigma), torch.tensor([300 / 1.3, 7000 / 8]))
    torch.testing.assert_close(NoiseLabel("time", steps=1, offset=2.0)(sigma), torch.tensor([2 + 0.3 / 1.3, 2.875]))


def test_ddpm_label_gives_a_table_its_own_timesteps() -> None:
    table = ddpm_table()
    label = NoiseLabel("ddpm")
    assert label(torch.tensor(table, dtype=torch.float32)).tolist() == list(range(1000))
    between = np.sqrt(table[400] * table[401])
    assert label(torch.tensor([between])).item() == pytest.approx(400.5, abs=1e-6)
    assert label(torch.tensor([1e-6, 1e6])).tolist() == [0, 999]


def test_a_network_in_half_precision_answers_in_the_image_s() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))

        def forward(self, x: Tensor, label: Tensor, condition: None) -> Tensor:
            assert x.dtype == torch.bfloat16
            assert label.dtype == torch.float32
            return self.weight * x

    D = Preconditioned(Halves(), Parametrisation())(torch.ones(1, 1, 2, 2), torch.ones(1), None)
    assert D.dtype == torch.float32


def test_a_parametrisation_is_a_record() -> None:
    value = Parametrisation("eps", label=NoiseLabel("ddpm"))
    assert records.load(Parametrisation, records.dump(value), "here") == value


def test_sigma_data_belongs_to_edm() -> None:
    with pytest.raises(InputError, match="only `edm`"):
        Parametrisation("v", sigma_data=0.5)
    with pytest.raises(InputError, match="positive"):
        Parametrisation("edm", sigma_data=0.0)


def test_sigmas_to_train_at_follow_their_laws() -> None:
    count = 20_000
    half_width = 4 / math.sqrt(count)  # four standard errors of a mean of unit deviation
    logs = log_normal(count, torch.Generator().manual_seed(1), mean=-0.8, std=1.6).log()
    assert (logs.mean() + 0.8).abs() < 1.6 * half_width
    assert (logs.std() - 1.6).abs() < 1.6 * half_width
    time = logit_normal(count, torch.Generator().manual_seed(2), shift=3.0)
    time = time / (1 + time)
    plain = logit_normal(count, torch.Generator().manual_seed(2))
    plain = plain / (1 + plain)
    torch.testing.assert_close(time, 3 * plain / (1 + 2 * plain))
    table = ddpm_table(10)
    drawn = uniform_index(count, torch.Generator().manual_seed(3), table=table)
    shares = torch.stack([(drawn == level).float().mean() for level in torch.tensor(table, dtype=torch.float32)])
    assert (shares - 0.1).abs().max() < 0.3 * half_width
