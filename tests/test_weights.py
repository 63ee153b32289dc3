"""Weights on disk: they fit exactly or every fault is listed, and files appear whole."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from patchloom import weights
from patchloom.errors import CapacityError, FormatError, MissingError


def test_every_fault_is_listed() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    tensors = {"0.weight": torch.zeros(3, 2), "0.bias": torch.zeros(4), "2.weight": torch.zeros(1)}
    with pytest.raises(FormatError) as error:
        weights.load_exactly(module, tensors, "`file`")
    assert str(error.value) == (
        "`file` does not fit the network that its record describes: "
        "missing: 1.bias, 1.weight; unknown: 2.weight; misshapen: 0.bias is (4,), not (3,)"
    )


def test_long_lists_are_counted() -> None:
    unknown = {str(i): torch.zeros(1) for i in range(20)}
    with pytest.raises(FormatError, match="and 12 more"):
        weights.load_exactly(nn.Identity(), unknown, "`file`")


def test_a_fault_changes_nothing() -> None:
    module = nn.Linear(2, 2)
    before = module.weight.clone()
    with pytest.raises(FormatError):
        weights.load_exactly(module, {"weight": torch.zeros(2, 2)}, "`file`")
    assert torch.equal(module.weight, before)


def test_weights_of_another_precision_are_taken_in_the_module_s() -> None:
    module = nn.Linear(2, 2)
    weights.load_exactly(module, {k: v.bfloat16() for k, v in module.state_dict().items()}, "`file`")
    assert module.weight.dtype == torch.float32


def test_tensors_and_metadata_return_whatever_their_memory_order(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "b": torch.arange(12).reshape(3, 4).T,
        "c": torch.tensor(1.5, dtype=torch.bfloat16),
    }
    weights.write_tensors(tensors, tmp_path / "file", {"key": "value"})
    again = weights.read_tensors(tmp_path / "file")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], value) for name, value in tensors.items())


def test_one_content_one_digest(tmp_path: Path) -> None:
    for name in ("a", "b"):
        weights.write_tensors({"w": torch.ones(3)}, tmp_path / name)
    weights.write_tensors({"w": torch.zeros(3)}, tmp_path / "c")
    first, second, third = (weights.digest(tmp_path / name) for name in "abc")
    assert first == second != third
    assert weights.digest_of([first, third]) != weights.digest_of([third, first])


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    weights.write_tensors({"w": torch.ones(3)}, path)
    (tmp_path / ".file.part").mkdir()  # the place where a whole file would be put first
    with pytest.raises((CapacityError, OSError)):
        weights.write_tensors({"w": torch.zeros(3)}, path)
    assert torch.equal(weights.read_tensors(path)["w"], torch.ones(3))


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Files end there, as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_with_the_size_needed_and_leaves_no_part(tmp_path: Path) -> None:
    with at_most(2**16), pytest.raises(CapacityError, match=r"needs 4\.0 MiB"):
        weights.write_tensors({"w": torch.zeros(2**20)}, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no weight file"):
        weights.read_tensors(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"PK\x03\x04 a pickle")
    with pytest.raises(FormatError, match="damaged or not safetensors"):
        weights.read_tensors(tmp_path / "bad")
