"""One part of a folder of diffusers: `config.json` and its weights, read strictly and written whole.

A config must say what our networks do: a key that we do not know, or a value that we do not compute, is refused by
name. No code of diffusers is needed here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from patchloom import weights
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.importers.checkpoint import check_fit, read_checkpoint
from patchloom.importers.ldm_names import Table, to_ours, to_theirs

N = TypeVar("N", bound=nn.Module)
S = TypeVar("S")
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
ANY = object()  # stands for a value that changes nothing that is computed
_PICKLED = "diffusion_pytorch_model.bin"
_LONGEST = 1 << 20  # bytes of a config
_UNSAID = ("shift_factor", "vq_embed_dim")  # that may be null, for what is computed anyhow


def read_mapping(path: Path, missing: str) -> dict[str, Any]:
    """A JSON mapping. Raises MissingError with a message, or FormatError for anything else."""
    if not path.is_file():
        raise MissingError(f"there is no `{path}`: {missing}")
    if path.stat().st_size > _LONGEST:
        raise FormatError(f"`{path}` is {path.stat().st_size} bytes long, which no config is")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"`{path}` is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise FormatError(f"`{path}` is not a JSON mapping")
    return values


def read_part(folder: Path, *classes: str) -> dict[str, Any]:
    """The config of a part of one of these classes. Raises MissingError, or FormatError for another class."""
    config = read_mapping(folder / CONFIG, "a folder of diffusers has one in each of its parts")
    if config.get("_class_name") not in classes:
        told = config.get("_class_name")
        raise FormatError(f"`{folder / CONFIG}`: class `{told!s:.80}` is not run here; known are {', '.join(classes)}")
    return config


def shaped(make: Callable[[Mapping[str, Any]], S], config: Mapping[str, Any], folder: Path) -> S:
    """What a config says, in our words. Raises FormatError for what it leaves out or what cannot be."""
    try:
        return make(config)
    except KeyError as error:
        raise FormatError(f"`{folder / CONFIG}` does not say {error}") from None
    except (InputError, TypeError, ValueError, AttributeError, ArithmeticError, IndexError) as error:
        raise FormatError(f"`{folder / CONFIG}`: {error}") from None


def check_config(config: Mapping[str, Any], wanted: Mapping[str, Any], neutral: Mapping[str, Any], path: Path) -> None:
    """Every key of a config must be one that we compute, with the value that we compute it for."""
    known = {**neutral, **wanted}
    for key, value in config.items():
        if key.startswith("_") and key != "_class_name":
            continue
        if key not in known:
            raise FormatError(f"`{path}`: `{key}` is not known here, so what it changes is not computed")
        expected = known[key]
        each = isinstance(expected, list) and not isinstance(value, list)  # one number stands for every level
        same = all(value == one for one in expected) if each else value == expected
        unsaid = value is None and key in _UNSAID
        if expected is not ANY and not (same or unsaid):
            raise FormatError(f"`{path}`: `{key}` is {value!r:.80}; only {expected!r:.80} is computed here")


def read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The weights beside a config, whole or in shards. Raises MissingError, or FormatError for damaged ones."""
    for name in (f"{WEIGHTS}.index.json", WEIGHTS, f"{_PICKLED}.index.json", _PICKLED):
        if (folder / name).is_file():
            return folder / name, read_checkpoint(folder / name).tensors
    raise MissingError(
        f"`{folder}` holds a config but no weights: neither {WEIGHTS} nor {_PICKLED}, whole or in shards; "
        "fetch it whole"
    )


def read_network(
    folder: Path, make: Callable[[], N], table: Callable[[N], Table], tidy: Callable[[dict[str, Tensor]], Any] = dict
) -> N:
    """A network, laid out without memory first, with a part's weights; `tidy` mends what older files keep otherwise.

    Raises MissingError, or FormatError that lists misfits by their names in the file.
    """
    with torch.device("meta"):
        network = make()
    path, tensors = read_weights(folder)
    names, tensors = table(network), tidy(tensors)
    check_fit(theirs(network, names), tensors, path)
    return weights.fill(network, to_ours(tensors, names), f"`{path}`")


def theirs(network: nn.Module, table: Table) -> dict[str, Tensor]:
    """A network's tensors under their names."""
    return {name.removeprefix("x."): value for name, value in to_theirs(network, table, "x").items()}


def write_part(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """A part's weights, then its config."""
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_tensors(dict(tensors), folder / WEIGHTS)
    write_mapping(folder / CONFIG, config)


def write_mapping(path: Path, values: Mapping[str, Any]) -> None:
    """A JSON file, which appears under its name when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
