"""A dask cluster gives the bytes of a run alone, and a run outlives its workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.loom.test_orders import FRAME, whole
from tests.loom.test_workers import ONE, Recipe, Trap, broken

from patchloom.errors import CapacityError, InputError
from patchloom.geometry import Box
from patchloom.loom.cluster import Cluster
from patchloom.loom.orders import weave_canvas, weave_down

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    quiet = {"silence_logs": 50, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **quiet) as cluster:
        yield cluster.scheduler_address


def test_a_cluster_makes_the_same_bytes_and_survives_a_worker(address: str) -> None:
    expected = whole(ONE)
    with Cluster(address, Recipe()) as crew:
        np.testing.assert_array_equal(weave_canvas(ONE, crew=crew).read(FRAME.box), expected)
        made = weave_down(ONE, crew=crew)
        first = made.read(Box(0, 0, 5, 43))
        with distributed.Client(address, set_as_default=False) as client:
            victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        np.testing.assert_array_equal(np.concatenate([first, made.read(Box(5, 0, 45, 43))], axis=1), expected)


def test_a_worker_that_dies_in_the_middle_of_a_batch(address: str, tmp_path: Path) -> None:
    with Cluster(address, Recipe(Trap(tmp_path / "x", "dies"))) as crew:
        np.testing.assert_array_equal(weave_canvas(ONE, crew=crew).read(FRAME.box), whole(ONE))
    assert (tmp_path / "x").exists()


def test_a_task_that_kills_every_worker_is_named(address: str, tmp_path: Path) -> None:
    with (
        Cluster(address, Recipe(Trap(tmp_path / "x", "dies", once=False))) as crew,
        pytest.raises(CapacityError, match=r"the same task: windows \d+ to \d+ of `meeting-0001`"),
    ):
        weave_canvas(ONE, crew=crew)


def test_what_goes_wrong_is_said(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(address, broken) as crew, pytest.raises(InputError, match="no such pipeline"):
        weave_canvas(ONE, crew=crew)
    monkeypatch.setattr("patchloom.loom.cluster._PATIENCE", "1s")
    with pytest.raises(InputError, match="no dask scheduler answers"):
        Cluster("tcp://127.0.0.1:1", Recipe())
