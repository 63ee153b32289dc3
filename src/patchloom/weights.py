"""Weights on disk: safetensors that fit exactly, appear whole, and have a digest. Nothing here unpickles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from patchloom.errors import CapacityError, FormatError, MissingError
from patchloom.mistaken import mistaken

M = TypeVar("M", bound=nn.Module)
_NAMED = 8  # keys that a message lists before it counts the rest


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """A safetensors file that appears under its name only when whole. Raises CapacityError on a full disk."""
    part = path.with_name(f".{path.name}.part")
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        save_file(tensors, part, metadata)
        part.chmod(0o644)  # safetensors leaves its files to their owner alone
        part.replace(path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        need = sum(value.nbytes for value in tensors.values())
        raise CapacityError(f"`{path}` could not be written, it needs {need / 2**20:.1f} MiB: {error}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file. Raises MissingError or FormatError."""
    if not path.is_file():
        raise MissingError(f"there is no weight file `{path}`")
    try:
        return load_file(path)
    except SafetensorError as error:
        told = mistaken(path) or f"is damaged or not safetensors: {error}; download or copy it again"
        raise FormatError(f"weight file `{path}` {told}") from None


def read_metadata(path: Path) -> dict[str, str]:
    """What a file says of itself, its tensors unread. Raises FormatError for a damaged file."""
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise FormatError(f"`{path}` is damaged or not safetensors: {error}; delete it") from None


def load_exactly(module: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Load weights of whatever floating dtype into a module.

    Raises FormatError that lists every missing, unknown and misshapen tensor.
    """
    expected = module.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - expected.keys())
    misshapen = [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(value.shape)}"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    faults = {"missing": missing, "unknown": unknown, "misshapen": misshapen}
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {_some(names)}" for kind, names in faults.items() if names)
        raise FormatError(f"{where} does not fit the network that its record describes: {listed}")
    module.load_state_dict(tensors)


def fill(module: M, tensors: dict[str, Tensor], where: str) -> M:
    """Weights for a module that was laid out without memory (on `meta`), then in evaluation and without gradients.

    Nothing is allocated where they do not fit. Raises what `load_exactly` raises.
    """
    load_exactly(module, {name: value.to("meta") for name, value in tensors.items()}, where)
    load_exactly(module.to_empty(device="cpu"), tensors, where)
    return module.eval().requires_grad_(False)


def rounded(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """A module's tensors for a file: parameters in a dtype, buffers, which are constants, as they are."""
    parameters = dict(module.named_parameters())
    return {name: value.to(dtype) if name in parameters else value for name, value in module.state_dict().items()}


def cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The same module, its parameters turned into a dtype in place; buffers, which are constants, stay as they are."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
    return module


def digest(path: Path) -> str:
    """`sha256:` and the hash of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(digests: Iterable[str]) -> str:
    """One digest for several, in their order."""
    return "sha256:" + hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _some(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
