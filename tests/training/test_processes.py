"""Two real processes over gloo: they share each epoch, stay equal, and what they learn is what one process learns."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import ROOT
from tests.training import toys
from tests.training.toys import DATA, Toy, plan, train

TWO = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port")


def in_two(*arguments: object) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, *TWO, port, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A run of two epochs in two processes, and what each of them says."""
    folder = tmp_path_factory.mktemp("pair")
    in_two(toys.__file__, folder, 2 * DATA, 10**9)
    return folder, [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


def test_each_datum_is_seen_once_an_epoch(pair: tuple[Path, list[dict[str, Any]]]) -> None:
    steps = list(zip(*(rank["seen"] for rank in pair[1]), strict=True))
    assert all(len(first) == len(second) == 4 for first, second in steps)
    shown = [datum for step in steps for share in step for datum in share]
    assert sorted(shown[:DATA]) == sorted(shown[DATA:]) == list(range(DATA))


def test_both_end_with_the_same_weights_and_one_writes(pair: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, (first, second) = pair
    assert first["weights"] == second["weights"]
    assert (first["exported"], second["exported"]) == (True, False)
    assert len(list(folder.glob("events.*"))) == 1


def test_nothing_holds_the_group_when_the_run_is_over(pair: tuple[Path, list[dict[str, Any]]]) -> None:
    """Threads of a group that is held are there when the interpreter ends, and abort the process now and then."""
    assert [rank["group_is_gone"] for rank in pair[1]] == [True, True]


def test_two_learn_what_one_learns(pair: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    alone = Toy()
    train(alone, tmp_path, plan(2 * DATA))
    assert alone.weights() == pytest.approx(pair[1][0]["weights"], abs=1e-5)
    together = [json.loads(line)["loss"] for line in (pair[0] / "log.jsonl").read_text().splitlines()]
    single = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert together == pytest.approx(single, rel=1e-3)  # the log's means are over both


def test_one_goes_on_where_two_stopped(pair: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    alone, after = Toy(), Toy()
    train(alone, tmp_path, plan(3 * DATA))
    assert train(after, pair[0], plan(3 * DATA)).seen == 3 * DATA
    assert after.seen == alone.seen[2 * DATA // 8 :]
    assert torch.tensor(after.weights()).sub(torch.tensor(alone.weights())).abs().max() < 1e-5
