"""A checkpoint outlives new fields of the records that it belongs to, at any depth, and no other change."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.training.test_denoiser import config_of
from tests.training.toys import CPU

from patchloom import records
from patchloom.datasets.dataset import open_dataset
from patchloom.training.checkpoint import NAME
from patchloom.training.config import DenoiserTraining, Optimisation
from patchloom.training.identity import Identity, digest
from patchloom.training.run import identity, train_config


@dataclass(frozen=True)
class Layer:
    width: int


@dataclass(frozen=True)
class Run:
    kind: str
    layers: tuple[Layer, ...]
    label: Layer = field(default_factory=lambda: Layer(3))


@dataclass(frozen=True)
class LaterLayer:
    width: int
    norm: str = "pixel"


@dataclass(frozen=True)
class LaterRun:
    kind: str
    layers: tuple[LaterLayer, ...]
    label: LaterLayer = field(default_factory=lambda: LaterLayer(3))
    heads: int = 1
    tail: LaterLayer = field(default_factory=lambda: LaterLayer(5))


WRITTEN = Identity(Run("unet", (Layer(1), Layer(2)), Layer(4))).metadata()


def later(**changes: Any) -> LaterRun:
    return replace(LaterRun("unet", (LaterLayer(1), LaterLayer(2)), LaterLayer(4)), **changes)


def test_fields_with_defaults_may_come_at_any_depth() -> None:
    assert Identity(later()).differences(WRITTEN) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (later(kind="dit"), "`kind` is 'unet' there, 'dit' here"),
        (later(label=LaterLayer(9)), "`label.width` is 4 there, 9 here"),
        (later(label=LaterLayer(4, "batch")), "`label.norm` is 'batch' here, and not stated there"),
        (later(label=LaterLayer(3)), "`label.width` is 4 there, 3 here"),
        (later(heads=2), "`heads` is 2 here, and not stated there"),
        (later(tail=LaterLayer(5, "none")), "`tail` is {'width': 5, 'norm': 'none'} here, and not stated there"),
        (later(layers=(LaterLayer(1), LaterLayer(3))), "`layers[1].width` is 2 there, 3 here"),
        (later(layers=(LaterLayer(1), LaterLayer(2, "none"))), "`layers[1].norm` is 'none' here, and not stated there"),
        (Layer(1), "`kind` is 'unet' there, and nothing that this version knows"),
    ],
)
def test_every_other_change_is_named(asked: Any, said: str) -> None:
    assert said in Identity(asked).differences(WRITTEN)


def test_a_field_that_went_away_is_named() -> None:
    written = Identity(later(heads=2)).metadata()
    said = Identity(Run("unet", (Layer(1), Layer(2)), Layer(4))).differences(written)
    assert "`heads` is 2 there, and nothing that this version knows" in said


def test_a_default_that_changed_is_another_run() -> None:
    """Which a digest without defaults would not notice: the file says what the default was."""
    assert Identity(Run("unet", ())).differences(Identity(Run("unet", (), Layer(7))).metadata()) == [
        "`label.width` is 7 there, 3 here"
    ]


def test_checkpoints_of_before_bear_a_digest() -> None:
    assert Identity(later(), "abc").differences({"config": "abc"}) == []
    for asked in (Identity(later(), "abd"), Identity(later())):
        assert asked.differences({"config": "abc"}) == ["it is of another network or other data"]
        assert asked.differences({}) == ["it is of another network or other data"]


def test_a_run_goes_on_from_a_checkpoint_of_before(tmp_path: Path) -> None:
    """The digest is written out here as it was made then."""
    config = config_of(tmp_path)
    train_config(config, CPU)
    dataset = open_dataset(Path(config.data))
    parts = [records.dump(part) for part in (config.shape, config.parametrisation, dataset.record)]
    path = Path(config.output) / NAME
    progress = identity_and_progress(path)["progress"]
    save_file(load_file(path), path, {"progress": progress, "config": digest("denoiser", *parts)})
    longer = longer_than(config)
    assert train_config(longer, CPU, resume=True).seen == longer.optimisation.samples
    assert identity_and_progress(path)["identity"] == identity(config, dataset).metadata()["identity"]


def longer_than(config: DenoiserTraining) -> DenoiserTraining:
    return replace(config, optimisation=Optimisation(2 * config.optimisation.samples, config.optimisation.batch))


def identity_and_progress(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        found: dict[str, str] = file.metadata()
    return found
