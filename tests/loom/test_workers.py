"""Workers give the bytes of a run alone, and a run outlives them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from tests.loom.test_orders import FRAME, WIDE, run, stages, whole
from torch import Tensor

from patchloom.errors import CapacityError, InputError
from patchloom.fields.directory import DirectoryStore
from patchloom.fields.weave import Work
from patchloom.geometry import Box
from patchloom.loom.orders import weave_canvas, weave_down
from patchloom.loom.run import works
from patchloom.loom.workers import Workers
from patchloom.testing.gaussian import Means


@dataclass(frozen=True)
class Trap:
    """A denoiser in whose worker something happens, once (a file remembers) or whenever it is asked at that level."""

    memory: Path
    what: str
    level: float = 3.0
    once: bool = True

    def __call__(self, x: Tensor, sigma: Tensor, condition: Means) -> Tensor:
        if float(sigma[0]) < self.level and not (self.once and self.memory.exists()):
            self.memory.touch()
            if self.what == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("a work that fails")
        return WIDE(x, sigma, condition)


@dataclass(frozen=True)
class Recipe:
    """The works of `ONE`, with another denoiser."""

    denoiser: object = WIDE

    def __call__(self, number: int) -> Mapping[str, Work]:
        return works(run(denoiser=self.denoiser, stages=stages("dpmpp-2m", 3), batch=3))


ONE = run(stages=stages("dpmpp-2m", 3), batch=3)


@pytest.fixture(scope="module")
def crew() -> Iterator[Workers]:
    with Workers(2, Recipe()) as workers:
        yield workers


def test_workers_make_the_same_bytes_in_every_order(crew: Workers) -> None:
    told: list[int] = []
    expected = whole(ONE)
    np.testing.assert_array_equal(weave_canvas(ONE, None, told.append, crew=crew).read(FRAME.box), expected)
    assert sum(told) == sum(map(len, ONE.lattices))
    np.testing.assert_array_equal(weave_down(ONE, crew=crew).read(FRAME.box), expected)


def test_a_worker_that_is_killed_is_replaced_and_its_batch_redone(crew: Workers) -> None:
    made = weave_down(ONE, crew=crew)
    before = crew.processes
    first = made.read(Box(0, 0, 5, 43))
    os.kill(before[1], signal.SIGKILL)
    np.testing.assert_array_equal(np.concatenate([first, made.read(Box(5, 0, 45, 43))], axis=1), whole(ONE))
    assert (crew.processes[0] == before[0], crew.processes[1] == before[1]) == (True, False)


def test_a_worker_that_dies_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    with Workers(1, Recipe(Trap(tmp_path / "x", "dies"))) as crew:
        np.testing.assert_array_equal(weave_canvas(ONE, crew=crew).read(FRAME.box), whole(ONE))
    assert (tmp_path / "x").exists()


def test_a_task_that_kills_every_worker_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "x", "dies", once=False)
    with DirectoryStore(tmp_path / "s", {}) as store, Workers(1, Recipe(trap)) as crew:
        with pytest.raises(CapacityError, match=r"SIGKILL.* same task: windows 0 to 2 of `meeting-0001`"):
            weave_canvas(ONE, store, crew=crew)
        told: list[int] = []
        made = weave_canvas(ONE, store, told.append)
        assert told[0] == len(ONE.lattices[0])
        np.testing.assert_array_equal(made.read(FRAME.box), whole(ONE))


def test_what_a_work_raises_is_raised_here(tmp_path: Path) -> None:
    with Workers(1, Recipe(Trap(tmp_path / "x", "fails"))) as crew:
        with pytest.raises(ValueError, match="a work that fails"):
            weave_canvas(ONE, crew=crew)
        np.testing.assert_array_equal(weave_canvas(ONE, crew=crew).read(FRAME.box), whole(ONE))


def broken(number: int) -> Mapping[str, Work]:
    raise InputError("no such pipeline here")


def test_a_recipe_that_fails_says_why() -> None:
    with Workers(1, broken) as crew, pytest.raises(InputError, match="no such pipeline"):
        weave_canvas(ONE, crew=crew)
    with pytest.raises(InputError, match="at least one worker"):
        Workers(0, broken)


def test_no_process_is_left_behind() -> None:
    with Workers(2, Recipe()) as crew:
        numbers = crew.processes
        weave_canvas(replace(ONE, seed=1), crew=crew)
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
