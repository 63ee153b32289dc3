"""A batch that does not fit goes through in halves; anything else that fails is not hidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from tests.loom.test_orders import FRAME, WIDE, run, stages, whole
from torch import Tensor

from patchloom.errors import CapacityError
from patchloom.fields.weave import Work
from patchloom.loom.memory import Sparing, is_out_of_memory
from patchloom.loom.orders import weave_canvas
from patchloom.loom.run import works
from patchloom.loom.workers import Workers
from patchloom.testing.gaussian import Means

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
]


@dataclass
class Small:
    """A denoiser whose memory holds so many windows."""

    room: int
    error: Exception = field(default_factory=lambda: ERRORS[0])
    sizes: list[int] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Means) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise self.error
        return WIDE(x, sigma, condition)


@pytest.mark.parametrize("error", ERRORS)
def test_a_batch_that_does_not_fit_is_halved_and_the_run_continues(error: Exception) -> None:
    small, crew = Small(3, error), Sparing()
    one = run(denoiser=small, batch=8)
    made = weave_canvas(one, crew=crew).read(FRAME.box)
    assert crew.portion == 2
    assert small.sizes[:3] == [8, 4, 2]
    assert set(small.sizes[2:]) == {2}, "once halved it stays so"
    np.testing.assert_allclose(made, whole(run(batch=8)), atol=1e-5)
    np.testing.assert_array_equal(made, whole(run(batch=2)))


def test_with_enough_memory_nothing_is_said() -> None:
    crew = Sparing()
    np.testing.assert_array_equal(weave_canvas(run(), crew=crew).read(FRAME.box), whole(run()))
    assert crew.portion is None


def test_a_window_that_does_not_fit_alone_is_said() -> None:
    with pytest.raises(CapacityError, match=r"one window of `meeting-0000` alone does not fit in memory \(CUDA out"):
        weave_canvas(run(denoiser=Small(0)), crew=Sparing())


def test_other_failures_are_not_taken_for_a_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shapes"):
        weave_canvas(run(denoiser=Small(0, RuntimeError("shapes cannot be multiplied"))), crew=Sparing())


def small_works(number: int) -> Mapping[str, Work]:
    return works(run(denoiser=Small(2), stages=stages("euler", 2)))


def test_workers_halve_too_and_tell() -> None:
    with Workers(1, small_works) as crew:
        weave_canvas(run(stages=stages("euler", 2)), crew=crew)
        assert crew.portion == 2
