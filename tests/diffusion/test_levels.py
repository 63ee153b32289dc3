"""Noise levels: their ends, their order, their spacing, and the official tables."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchloom.diffusion.levels import (
    Levels,
    ddpm_betas,
    ddpm_spaced,
    ddpm_table,
    ddpm_timesteps,
    ddpm_uniform,
    flow_uniform,
    karras,
    log_uniform,
    official_canvas,
)
from patchloom.diffusion.parametrisation import NoiseLabel
from patchloom.errors import InputError

CONTINUOUS = [karras, log_uniform, flow_uniform]


@pytest.mark.parametrize("schedule", CONTINUOUS)
@given(count=st.integers(2, 200), low=st.floats(1e-3, 0.5), high=st.floats(1.0, 200), shift=st.floats(0.2, 5))
def test_levels_fall_from_max_to_min(
    schedule: Callable[..., Levels], count: int, low: float, high: float, shift: float
) -> None:
    sigmas = schedule(count, low, high, shift=shift)
    assert sigmas.dtype == np.float64
    assert (sigmas[0], sigmas[-1], len(sigmas)) == (high, low, count)
    assert (np.diff(sigmas) < 0).all()


def test_spacing_is_even_in_each_schedule_s_own_variable() -> None:
    assert np.ptp(np.diff(karras(9, 0.02, 80) ** (1 / 7))) < 1e-12
    assert np.ptp(np.diff(np.log(log_uniform(9, 0.02, 80)))) < 1e-12
    sigmas = flow_uniform(9, 0.02, 80)
    assert np.ptp(np.diff(sigmas / (1 + sigmas))) < 1e-12


def test_golden_karras() -> None:
    """Computed by hand from eq. 5 for three levels: the middle is ((0.002^(1/7) + 80^(1/7)) / 2)^7."""
    assert karras(3, 0.002, 80.0).tolist() == [80.0, pytest.approx(2.51521897614716, rel=1e-13), 0.002]


def test_a_time_shift_is_sd3_s_between_far_ends() -> None:
    """Esser et al. (2024), eq. 23, in sigma: t / (1 - t) is multiplied by the shift."""
    plain, shifted = flow_uniform(11, 1e-7, 1e7), flow_uniform(11, 1e-7, 1e7, shift=3.0)
    np.testing.assert_allclose(shifted[1:-1], 3 * plain[1:-1], rtol=1e-4)
    assert (karras(9, shift=3.0)[1:-1] > karras(9)[1:-1]).all()


def test_official_timesteps() -> None:
    assert ddpm_timesteps(10).tolist() == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]
    assert len(ddpm_timesteps(30)) == 31  # as officially: 1000 // 30 is 33
    assert ddpm_timesteps(3).tolist() == [667, 334, 1]  # officially an index error
    table = ddpm_table()
    assert ddpm_spaced(10).tolist() == [*table[ddpm_timesteps(10)], table[0]]
    assert ddpm_uniform(1000).tolist() == table[::-1].tolist()
    sigmas, etas = official_canvas(50)
    assert sigmas.tolist() == table[np.arange(999, 0, -20)].tolist()
    assert len(etas) == 49
    assert official_canvas(1000)[1] == pytest.approx([1.0] * 999)  # a jump of one step is plain DDPM


def test_a_table_of_evenly_spaced_betas() -> None:
    """Ho et al. (2020), section 4: betas from 0.0001 to 0.02 leave a signal of sqrt(abar) = 0.00635 at the end."""
    assert ddpm_betas(3, 0.0001, 0.02, "linear").tolist() == pytest.approx([0.0001, 0.01005, 0.02])
    last = ddpm_table(1000, 0.0001, 0.02, "linear")[-1]
    assert 1 / math.sqrt(1 + last**2) == pytest.approx(0.00635, rel=1e-3)
    label = NoiseLabel("ddpm", 1000, 0.0001, 0.02, spacing="linear")
    assert label.table.tolist() == ddpm_table(1000, 0.0001, 0.02, "linear").tolist()
    found = label(torch.from_numpy(label.table[[0, 500, 999]]))
    assert found.tolist() == [0, 500, 999]


def test_bad_counts_and_ends() -> None:
    with pytest.raises(InputError, match="not 0, "):
        karras(0)
    with pytest.raises(InputError, match="sigma_min"):
        karras(3, 2.0, 1.0)
    with pytest.raises(InputError, match="shift"):
        log_uniform(3, shift=0.0)
    with pytest.raises(InputError, match="inf"):
        log_uniform(3, 0.1, math.inf)
    with pytest.raises(InputError, match="timesteps"):
        ddpm_timesteps(0)
    with pytest.raises(InputError, match="levels of a table"):
        ddpm_uniform(1001)
    with pytest.raises(InputError, match="DDPM table"):
        ddpm_table(1000, 0.02, 0.01)
