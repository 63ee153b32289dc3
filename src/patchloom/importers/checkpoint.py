"""Weights of others, whatever file they lie in: torch's own, safetensors, or shards with an index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from patchloom.errors import FormatError, MissingError
from patchloom.importers.torch_file import Blank, TensorNote, TorchFile, read_torch_file
from patchloom.mistaken import mistaken
from patchloom.weights import read_tensors

_SAID = 8  # names that a message lists
_SAVE = "save the model's `state_dict()` alone"
_INDEX = 1 << 26  # bytes of the longest index of shards that is read


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The tensors of a file by their names there, and what the file holds beside them."""

    path: Path
    tensors: dict[str, Tensor]
    passengers: tuple[str, ...] = ()  # entries beside the weights, such as `callbacks`; none of them was built


def read_checkpoint(path: Path, *, timeout_s: float = 120.0) -> Checkpoint:
    """Read a file by its content, never by its suffix.

    Torch files give their `state_dict`, or themselves where they are one. `*.index.json` gives all its shards. Nothing
    that a file says is executed, and nothing larger than the file is allocated.

    Raises MissingError, or FormatError for a damaged file or one that holds no weights.
    """
    if not path.is_file():
        raise MissingError(f"there is no checkpoint `{path}`{' but a folder of that name' if path.is_dir() else ''}")
    if path.name.endswith(".index.json"):
        return _sharded(path, timeout_s)
    with path.open("rb") as file:
        first = file.read(9)
    if first.startswith(b"PK"):
        return _of_torch(read_torch_file(path, timeout_s=timeout_s))
    if first[8:] == b"{":
        return Checkpoint(path, read_tensors(path))
    if first.startswith(b"\x80"):
        raise FormatError(
            f"`{path}` is a bare pickle, as torch wrote before 1.6; bring it to today's form with "
            "`torch.save(torch.load(OLD, weights_only=True), NEW)`, which runs nothing that it holds"
        )
    told = mistaken(path) or f"is neither a torch checkpoint nor safetensors; it begins with {first[:4]!r}"
    raise FormatError(f"`{path}` {told}")


def _of_torch(file: TorchFile) -> Checkpoint:
    root = file.root
    if not isinstance(root, dict):
        raise FormatError(f"`{file.path}` holds {_kind(root)}, no mapping of weights; {_SAVE}")
    state = root.get("state_dict", root)
    if not isinstance(state, dict):
        raise FormatError(f"`{file.path}`: its `state_dict` is {_kind(state)}, no mapping of weights; {_SAVE}")
    notes = {name: value for name, value in state.items() if isinstance(value, TensorNote)}
    other = [name for name in state if name not in notes]
    if not notes or (state is root and any(isinstance(state[name], dict) for name in other)):
        raise FormatError(
            f"`{file.path}` holds no `state_dict` and is none itself: its entries are {listed(list(state))}; {_SAVE}"
        )
    beside = [name for name in root if name != "state_dict"] if state is not root else []
    return Checkpoint(file.path, file.tensors(notes), tuple(beside + other))


def _kind(value: object) -> str:
    """What a file holds where weights should be."""
    if isinstance(value, Blank):
        return f"an object of `{value.name}`, of which nothing was built"
    return "one tensor" if isinstance(value, TensorNote) else f"a {type(value).__name__}"


def read_part(path: Path, part: str) -> dict[str, Tensor]:
    """The tensors of one entry of a torch file, `ema` or `model` of a training that keeps both side by side.

    Raises MissingError, or FormatError where the file is damaged or has no such entry.
    """
    if not path.is_file():
        raise MissingError(f"there is no checkpoint `{path}`")
    file = read_torch_file(path)
    held = file.root.get(part) if isinstance(file.root, dict) else None
    if not isinstance(held, dict):
        there = ", ".join(list(file.root)[:_SAID]) if isinstance(file.root, dict) else "no mapping"
        raise FormatError(f"`{path}` has no entry `{part}` of weights: it holds {there}")
    return file.tensors({name: value for name, value in held.items() if isinstance(value, TensorNote)})


def _sharded(path: Path, timeout_s: float) -> Checkpoint:
    """All shards of an index; every name must come from the shard that the index says."""
    placed = _index(path)
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(placed.values())):
        if Path(shard).name != shard:
            raise FormatError(f"`{path}` names a shard outside its own folder: `{shard}`")
        held = read_checkpoint(path.with_name(shard), timeout_s=timeout_s).tensors
        wanted = {name for name, place in placed.items() if place == shard}
        if wanted != held.keys():
            odd = sorted(wanted ^ held.keys())
            raise FormatError(f"`{path}` and its shard `{shard}` disagree on {', '.join(odd[:_SAID])}")
        tensors |= held
    return Checkpoint(path, tensors)


def _index(path: Path) -> Mapping[str, str]:
    if path.stat().st_size > _INDEX:
        raise FormatError(f"`{path}` is too long for an index of shards")
    try:
        placed = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(placed, dict) or not placed or not all(isinstance(value, str) for value in placed.values()):
            raise KeyError
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"`{path}` is no index of shards: it has no `weight_map` from names to files") from None
    return placed


def check_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Raise FormatError that lists, by their names in the file, all tensors that do not fit what is expected."""
    faults = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected],
        "misshapen": [
            f"{name} is {tuple(found[name].shape)}, not {tuple(value.shape)}"
            for name, value in expected.items()
            if name in found and found[name].shape != value.shape
        ],
        "not floating": [name for name in expected if name in found and not found[name].is_floating_point()],
        "not finite": [name for name in expected if name in found and not _is_finite(found[name])],
    }
    if any(faults.values()):
        told = "; ".join(f"{len(names)} {fault}: {listed(names)}" for fault, names in faults.items() if names)
        raise FormatError(
            f"`{path}` does not fit its config: {told}; take the config that it was trained with, or the file as it was"
        )


def _is_finite(value: Tensor) -> bool:
    """Whether all values are numbers; the extremes say it without another tensor of that size."""
    if not value.is_floating_point() or not value.numel():
        return True
    return bool(torch.stack(value.aminmax()).isfinite().all())


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - _SAID
    return ", ".join(names[:_SAID]) + (f" and {rest} more" if rest > 0 else "")
