"""The benchmark of variations: draws that are fair, gains that were planted, and pieces that are not made twice."""

from __future__ import annotations

import json
import sys
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import ROOT
from tests.pipelines.conftest import tissue

from patchloom.evaluation.probe_labelled import Labelled

NETWORK = ("both", "real", "synthetic")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = util.spec_from_file_location("vary_classifier", ROOT / "benchmarks" / "vary_classifier.py")
        assert spec is not None
        assert spec.loader is not None
        module = util.module_from_spec(spec)
        sys.modules["vary_classifier"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return module


def labelled(n: int = 120) -> Labelled:
    labels = np.array([f"class {k % 3}" for k in range(n)])
    groups = np.array([f"patient {k // 4}" for k in range(n)])
    return Labelled("planted", labels, groups, np.arange(n) < n // 2)


def test_draws_are_training_images_by_label_and_grow(bench: ModuleType) -> None:
    truth = labelled()
    for seed in range(5):
        few, more, every = (bench.drawn(truth, fraction, seed) for fraction in (0.1, 0.3, 1.0))
        assert truth.train[every].all()
        assert len(every) == 60
        assert set(few) < set(more) < set(every)
        assert np.bincount(truth.numbers[more]).tolist() == [6, 6, 6]
        assert np.bincount(truth.numbers[few]).tolist() == [2, 2, 2]
        for label in range(3):
            assert len(set(truth.groups[few][truth.numbers[few] == label])) == 2
    pool = bench.drawn(truth, 0.3, 0)
    halves = [bench.drawn(truth, 0.15, seed, pool) for seed in range(5)]
    assert all(len(half) == 9 and set(half) < set(pool) for half in halves)
    assert len({tuple(half) for half in halves}) > 1
    assert bench.drawn(truth, 0.1, 0).tolist() != bench.drawn(truth, 0.1, 1).tolist()


def test_a_planted_gain_is_found_and_no_gain_is_not(bench: ModuleType) -> None:
    truth = labelled(480)
    test, rng = truth.numbers[~truth.train], np.random.default_rng(0)
    real = (rng.random((5, 240)) < 0.6).astype(float)
    better = np.maximum(real, rng.random((5, 240)) < 0.3)
    shuffled = rng.permuted(real, axis=1)
    told = sys.modules["vary_summary"]
    for weight in told.weights(test).values():
        assert weight.sum() == pytest.approx(1)
        gain = told.difference(better - real, weight, truth.groups[~truth.train])
        assert 0 < gain["low"] < gain["value"] < gain["high"]
        nothing = told.difference(shuffled - real, weight, truth.groups[~truth.train])
        assert nothing["low"] < 0 < nothing["high"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = ["file,group,split,pixel_size,licence,label"]
    for number in range(16):
        Image.fromarray(tissue(number, 96, 96)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,p{number},{'train' if number < 8 else 'test'},0.5um,CC0-1.0,{'ab'[number % 2]}")
    (tmp_path / "set.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "set.csv"


def test_it_goes_on_where_it_was_and_never_varies_test_images(
    bench: ModuleType, table: Path, pipeline_folder: Path, tmp_path: Path
) -> None:
    recipe = bench.Recipe(str(pipeline_folder), copies=1, strength=0.5, encoder="tiny", steps=1)

    def opened(ends: float = float("inf"), judge: str = "test") -> Any:
        return bench.Bench(table, tmp_path / "out", recipe, judge, ends)

    def made() -> list[dict[str, Any]]:
        run = opened()
        return list(bench.summary(run.go([0.5], 1, ["linear", "network"], []), run.labelled))

    with pytest.raises(bench.OutOfTimeError):
        opened(ends=0.0).go([0.5], 1, ["linear", "network"], [])
    rows = made()
    pieces = sorted((tmp_path / "out" / "pieces").iterdir())
    arms = ["linear-both", "linear-real", "linear-synthetic", "linear-views", *(f"network-{arm}" for arm in NETWORK)]
    assert [path.stem.rpartition("-")[0] for path in pieces] == [f"test-0.5-0-{arm}" for arm in arms]
    assert [row["classifier"] for row in rows] == ["linear", "network"]
    assert {row["real images"] for row in rows} == {4}
    assert rows[0]["beside them"] == {"real": 0, "views": 28, "synthetic": 4, "both": 4}
    assert "accuracy, both minus views" in rows[0]
    assert "accuracy, both minus views" not in rows[1]
    stamps = [path.stat().st_mtime_ns for path in pieces]
    assert made() == rows
    assert [path.stat().st_mtime_ns for path in pieces] == stamps
    varied = {path.name.partition("-")[0] for path in (tmp_path / "out" / "variations-0.5" / "images").iterdir()}
    assert varied <= {str(number) for number in range(8)}
    found = json.loads(pieces[0].read_text())
    assert found["told"]["strength"] == 0.5
    assert len(found["right"]) == 8
    with pytest.raises(bench.InputError, match="is a test image and is never varied"):
        opened().variations(8)


def test_validation_images_stand_in_for_the_test_and_no_test_image_is_seen(
    bench: ModuleType, table: Path, tmp_path: Path
) -> None:
    text = table.read_text()
    for number in range(12, 16):
        text = text.replace(f"p{number},test", f"p{number},val")
    table.write_text(text)
    run = bench.Bench(table, tmp_path / "out", bench.Recipe("none"), "val")
    assert [entry.path.stem for entry in run.entries] == [str(number) for number in (*range(8), *range(12, 16))]
    assert run.labelled.train.tolist() == [True] * 8 + [False] * 4


def test_batches_are_parted_by_the_shares(bench: ModuleType) -> None:
    parts = sys.modules["vary_networks"].parts_of_a_batch
    assert parts([1.0]) == [16]
    assert parts([0.5, 0.5]) == [8, 8]
    assert parts([0.75, 0.25]) == [12, 4]
    assert parts([0.999, 0.001])[1] >= 1
