"""Tables and predictions of diffusers' schedulers, against diffusers' own, class by class and step by step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.importers.recorded import off
from torch import Tensor

from patchloom.diffusion.parametrisation import NoiseLabel, Parametrisation, Preconditioned
from patchloom.diffusion.samplers import ddim, run
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.importers.diffusers_scheduler import SCHEDULER, TABLES, read_parametrisation, scheduler_config

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, of numpy


def told(folder: Path, **values: Any) -> Path:
    """A pipeline's folder whose scheduler says this."""
    path = folder / SCHEDULER
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    return folder


def levels(scheduler: Any) -> Any:
    """Sigma at each timestep, as diffusers has them."""
    kept = scheduler.alphas_cumprod.double().numpy()
    return np.sqrt((1 - kept) / kept)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_class_has_its_table_whole_or_silent(name: str, tmp_path: Path) -> None:
    """As diffusers saves it, and by its class alone, where diffusers' own defaults hold."""
    if name in ("LMSDiscreteScheduler", "DPMSolverSDEScheduler"):
        pytest.importorskip("scipy" if name.startswith("LMS") else "torchsde")
    scheduler = getattr(diffusers, name)()
    scheduler.save_pretrained(tmp_path / "whole" / "scheduler")
    for folder in (tmp_path / "whole", told(tmp_path / "silent", _class_name=name)):
        found = read_parametrisation(folder)
        assert found.kind == "eps"
        np.testing.assert_allclose(found.label.table, levels(scheduler), rtol=1e-4)


class Toy(torch.nn.Module):
    """Some answer that depends on the image and on the timestep."""

    def forward(self, x: Tensor, label: Tensor, condition: None) -> Tensor:
        return torch.sin(2 * x + label[:, None, None, None] / 300) + 0.3 * x.roll(1, -1)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_ddim_of_every_table_and_prediction(betas: str, prediction: str, tmp_path: Path) -> None:
    scheduler = diffusers.DDIMScheduler(
        beta_schedule=betas, prediction_type=prediction, clip_sample=False, set_alpha_to_one=True
    )
    scheduler.save_pretrained(tmp_path / "scheduler")
    scheduler.set_timesteps(8)
    noise, network = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(4)), Toy()
    x = noise
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.expand(2), None), t, x).prev_sample
    own = read_parametrisation(tmp_path)
    stages = ddim(own.label.table[scheduler.timesteps.numpy()])
    denoiser: Preconditioned[None] = Preconditioned(network, own)
    found = run(denoiser, stages, noise * np.sqrt(1 + stages[0].sigma ** 2), None)
    assert off(found, x) < 1e-4


@pytest.mark.parametrize("spacing", ["root", "linear", "cosine"])
@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
def test_there_and_back(kind: Any, spacing: Any, tmp_path: Path) -> None:
    own = Parametrisation(kind, label=NoiseLabel("ddpm", 500, 0.0002, 0.015, spacing=spacing))
    config = scheduler_config(own)
    assert read_parametrisation(told(tmp_path, **config)) == own
    scheduler = diffusers.DDIMScheduler.from_config(config)
    np.testing.assert_allclose(own.label.table, levels(scheduler), rtol=1e-3)  # float32 there: 1 - 0.999 at the end


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"_class_name": "EDMEulerScheduler", "sigma_data": 0.5}, "`_class_name` 'EDMEulerScheduler' is not computed"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "known are DDIMInverseScheduler"),
        ({"_class_name": "LCMScheduler"}, "LCMScheduler"),
        ({}, "`_class_name` None"),
        ({"_class_name": ["DDIMScheduler"]}, "is not computed"),
        ({"rescale_betas_zero_snr": True}, "`rescale_betas_zero_snr` is True; only False is computed"),
        ({"timestep_type": "continuous"}, "`timestep_type` is 'continuous'"),
        ({"trained_betas": [0.1, 0.2]}, "`trained_betas` is"),
        ({"use_flow_sigmas": True}, "`use_flow_sigmas` is True"),
        ({"snr_shift_scale": 3.0}, "`snr_shift_scale` is not known here"),
        (
            {"prediction_type": "flow_prediction"},
            "`prediction_type` 'flow_prediction' .* epsilon, v_prediction, sample",
        ),
        ({"beta_schedule": "sigmoid"}, "`beta_schedule` 'sigmoid' .* known are scaled_linear"),
        ({"beta_schedule": None}, "`beta_schedule` None"),
        ({"beta_start": 0.5, "beta_end": 0.1}, "0 < first < last < 1"),
        ({"beta_end": "high"}, "scheduler_config.json"),
        ({"num_train_timesteps": 10**12}, "no table has 1000000000000 timesteps"),
        ({"num_train_timesteps": None}, "scheduler_config.json"),
    ],
)
def test_other_noise_is_refused_by_name(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        read_parametrisation(told(tmp_path, **({"_class_name": "DDIMScheduler"} if values else {}) | values))


def test_a_folder_without_a_scheduler(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="fetch the model's folder whole"):
        read_parametrisation(tmp_path)
    with pytest.raises(InputError, match="beta table"):
        scheduler_config(Parametrisation("flow", label=NoiseLabel("time")))
