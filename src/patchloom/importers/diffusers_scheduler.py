"""What a scheduler of diffusers says about the training: its table of betas, and what was predicted.

How it walks down the levels is a matter of samplers and changes nothing here. A class that has no such table, a table
that is changed after it was made, and a key that is not known are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from patchloom.diffusion.levels import Spacing
from patchloom.diffusion.parametrisation import NoiseLabel, Parametrisation
from patchloom.errors import FormatError, InputError
from patchloom.importers.diffusers_files import ANY, check_config, read_mapping

SCHEDULER = "scheduler/scheduler_config.json"
_MOST_STEPS = 1 << 20  # beyond anything ever trained: a mistake, or a trap
_KINDS: Mapping[str, Literal["eps", "v", "x0"]] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
_SPACINGS: Mapping[str, Spacing] = {"scaled_linear": "root", "linear": "linear", "squaredcos_cap_v2": "cosine"}
_BETAS, _OTHER_BETAS = (0.0001, 0.02), (0.00085, 0.012)  # first and last, where a config does not say them
TABLES: Mapping[str, tuple[float, float]] = {
    "DDIMInverseScheduler": _BETAS,
    "DDIMParallelScheduler": _BETAS,
    "DDIMScheduler": _BETAS,
    "DDPMParallelScheduler": _BETAS,
    "DDPMScheduler": _BETAS,
    "DEISMultistepScheduler": _BETAS,
    "DPMSolverMultistepInverseScheduler": _BETAS,
    "DPMSolverMultistepScheduler": _BETAS,
    "DPMSolverSDEScheduler": _OTHER_BETAS,
    "DPMSolverSinglestepScheduler": _BETAS,
    "EulerAncestralDiscreteScheduler": _BETAS,
    "EulerDiscreteScheduler": _BETAS,
    "HeunDiscreteScheduler": _OTHER_BETAS,
    "KDPM2AncestralDiscreteScheduler": _OTHER_BETAS,
    "KDPM2DiscreteScheduler": _OTHER_BETAS,
    "LMSDiscreteScheduler": _BETAS,
    "PNDMScheduler": _BETAS,
    "SASolverScheduler": _BETAS,
    "UniPCMultistepScheduler": _BETAS,
}
"""The classes that are read, and the ends of each one's table unless its config says them."""

_WALK = (  # how levels are chosen and walked down
    *("algorithm_type", "clip_sample", "clip_sample_range", "corrector_order", "disable_corrector"),
    *("dynamic_thresholding_ratio", "euler_at_final", "final_sigmas_type", "flow_shift", "interpolation_type"),
    *("lambda_min_clipped", "lower_order_final", "noise_sampler_seed", "predict_x0", "predictor_order"),
    *("sample_max_value", "set_alpha_to_one", "set_alpha_to_zero", "shift_terminal", "sigma_max", "sigma_min"),
    *("skip_prk_steps", "solver_order", "solver_p", "solver_type", "steps_offset", "tau_func", "thresholding"),
    *("time_shift_type", "timestep_spacing", "use_beta_sigmas", "use_exponential_sigmas", "use_karras_sigmas"),
    *("use_lu_lambdas", "variance_type"),
)
_READ = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
_NEUTRAL: Mapping[str, Any] = {
    **dict.fromkeys((*_WALK, *_READ), ANY),
    "trained_betas": None,
    "rescale_betas_zero_snr": False,  # levels up to infinity, where x0 + sigma * noise says nothing
    "timestep_type": "discrete",  # else the network is told the level itself
    "use_flow_sigmas": False,
    "use_dynamic_shifting": False,
}


def read_parametrisation(folder: Path) -> Parametrisation:
    """What the scheduler of a pipeline's folder says. Raises MissingError, or FormatError for another kind of noise."""
    path = folder / SCHEDULER
    told = read_mapping(path, "it says which noise levels the network was trained at; fetch the model's folder whole")
    name = _known(told, "_class_name", None, TABLES, path)
    check_config(told, {"_class_name": name}, _NEUTRAL, path)
    kind = _KINDS[_known(told, "prediction_type", "epsilon", _KINDS, path)]
    spacing = _SPACINGS[_known(told, "beta_schedule", "linear", _SPACINGS, path)]
    first, last = told.get("beta_start", TABLES[name][0]), told.get("beta_end", TABLES[name][1])
    try:
        label = NoiseLabel("ddpm", int(told.get("num_train_timesteps", 1000)), first, last, spacing=spacing)
        if not 2 <= label.steps <= _MOST_STEPS:
            raise InputError(f"no table has {label.steps} timesteps; known are 2 to {_MOST_STEPS}")
        _ = label.table  # a table that can be made
    except (InputError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"`{path}`: {error}") from None
    return Parametrisation(kind, label=label)


def scheduler_config(parametrisation: Parametrisation) -> dict[str, Any]:
    """What diffusers calls a parametrisation. Raises InputError for one that is not of a beta table."""
    label = parametrisation.label
    kinds = {own: theirs for theirs, own in _KINDS.items()}
    if parametrisation.kind not in kinds or label.kind != "ddpm" or label.offset:
        raise InputError(f"a beta table says nothing of {parametrisation}")
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": label.steps,
        "beta_start": label.beta_first,
        "beta_end": label.beta_last,
        "beta_schedule": {own: theirs for theirs, own in _SPACINGS.items()}[label.spacing],
        "prediction_type": kinds[parametrisation.kind],
        "clip_sample": False,
    }


def _known(told: Mapping[str, Any], key: str, default: str | None, known: Mapping[str, Any], path: Path) -> str:
    value = told.get(key, default)
    if not isinstance(value, str) or value not in known:
        raise FormatError(f"`{path}`: `{key}` {value!r:.80} is not computed here; known are {', '.join(known)}")
    return value
