"""A checkpoint is one safetensors file, written whole or not at all, that holds no pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import AdamW

from patchloom import weights
from patchloom.errors import FormatError, MismatchError
from patchloom.training.ema import Average
from patchloom.training.identity import Identity

NAME = "checkpoint.safetensors"


@dataclass(slots=True)
class Progress:
    """How far a run has come."""

    seen: int = 0  # samples, over every process
    step: int = 0
    seconds: float = 0.0  # of training, over every session


def save(
    folder: Path, module: nn.Module, average: Average, optimiser: AdamW, progress: Progress, identity: Identity
) -> None:
    """Write the run's state under its final name once it is whole. Raises CapacityError on a full disk."""
    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.module.state_dict().items()}
    tensors |= _moments(module, optimiser)
    metadata = {"progress": json.dumps(asdict(progress)), **identity.metadata()}
    weights.write_tensors(tensors, folder / NAME, metadata)


def restore(folder: Path, module: nn.Module, average: Average, optimiser: AdamW, identity: Identity) -> Progress:
    """Put a run back where its checkpoint left it.

    Raises MismatchError where the checkpoint is of another run, FormatError where the file is damaged.
    """
    path = folder / NAME
    metadata, tensors = _read(path)
    if differences := identity.differences(metadata):
        raise MismatchError(
            f"`{path}` was written by another run than this config asks for: {'; '.join(differences[:3])}. "
            "Give the new run another `output` folder"
        )
    weights.load_exactly(module, _part(tensors, "module."), f"`{path}`")
    weights.load_exactly(average.module, _part(tensors, "average."), f"`{path}`")
    _restore_moments(module, optimiser, tensors)
    return Progress(**json.loads(metadata["progress"]))


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except SafetensorError as error:
        raise FormatError(f"checkpoint `{path}` is damaged ({error}); delete it to start the run anew") from None


def _moments(module: nn.Module, optimiser: AdamW) -> dict[str, Tensor]:
    named = {name: optimiser.state[p] for name, p in module.named_parameters() if p in optimiser.state}
    return {f"optimiser.{key}.{name}": state[key] for name, state in named.items() for key in state}


def _restore_moments(module: nn.Module, optimiser: AdamW, tensors: dict[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            saved = tensors.get(f"optimiser.{key}.{name}")
            if saved is not None:
                optimiser.state[parameter][key] = _like(saved, parameter, key)


def _like(saved: Tensor, parameter: nn.Parameter, key: str) -> Tensor:
    """A saved moment where the fused optimiser wants it: on the parameter's device, and in its memory order.

    The file holds rows in order; the fused step walks parameter and moments side by side in memory, and would give
    each weight of a channels-last convolution another weight's moments.
    """
    if key == "step":
        return saved.to(parameter.device)
    return torch.empty_like(parameter, requires_grad=False).copy_(saved)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
