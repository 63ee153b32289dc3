"""A checkpoint holds all of a run, appears whole, and goes on with its own network and data alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load
from tests.training import toys
from tests.training.toys import Toy, plan, train

from patchloom.errors import FormatError, InputError, MismatchError
from patchloom.training.checkpoint import NAME


def test_two_sessions_give_the_bits_of_one(tmp_path: Path) -> None:
    whole, first, second = Toy(), Toy(), Toy()
    train(whole, tmp_path / "whole", plan(64))
    train(first, tmp_path / "parts", plan(32))
    done = train(second, tmp_path / "parts", plan(64))
    assert (done.seen, done.step) == (64, 8)
    assert first.seen + second.seen == whole.seen
    # bit by bit, averages and the optimiser's moments included, though the convolutions lie channels last in memory
    with safe_open(tmp_path / "whole" / NAME, "pt") as one, safe_open(tmp_path / "parts" / NAME, "pt") as two:
        assert sorted(one.keys()) == sorted(two.keys())
        for name in one.keys():  # noqa: SIM118 - not a dict
            assert torch.equal(one.get_tensor(name), two.get_tensor(name)), name


def test_a_run_is_not_overwritten_unasked(tmp_path: Path) -> None:
    train(Toy(), tmp_path, plan(8))
    with pytest.raises(InputError, match="go on with --resume"):
        train(Toy(), tmp_path, plan(16), resume=False)


def test_another_run_s_checkpoint_is_refused(tmp_path: Path) -> None:
    train(Toy(), tmp_path, plan(8))
    with pytest.raises(
        MismatchError, match="another run than this config asks for: `name` is 'toy' there, 'another' here"
    ):
        train(Toy(), tmp_path, plan(16), named="another")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(Toy(), tmp_path, plan(8))
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:-40])
    with pytest.raises(FormatError, match="is damaged"):
        train(Toy(), tmp_path, plan(16))


def test_a_killed_run_leaves_a_whole_checkpoint_and_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(toys.__file__)), str(tmp_path), str(10**8), "8"]  # a checkpoint every step
    with subprocess.Popen(command) as run:
        try:
            found = [steps_of(tmp_path / NAME) for _ in watched(tmp_path / NAME, run)]
        finally:
            run.kill()
    steps = steps_of(tmp_path / NAME)
    assert found == sorted(found)
    done = train(Toy(), tmp_path, plan(8 * (steps + 2)))
    assert done.step == steps + 2
    assert steps > 1


def steps_of(path: Path) -> int:
    """Of a checkpoint that must be whole at this moment, while a run may be replacing it."""
    return int(load(path.read_bytes())["optimiser.step.0.weight"])


def watched(path: Path, run: subprocess.Popen[bytes]) -> Iterator[None]:
    """As often as one can look in half a second, once a run has written a file."""
    while not path.exists():
        assert run.poll() is None
        time.sleep(0.05)
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        yield
