"""Judging encoders: structure that was planted is found, shuffled labels give chance, unfair sets are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.estimates import FeatureSpace, Figure, Side
from patchloom.evaluation.features import Features
from patchloom.evaluation.neighbours import vote
from patchloom.evaluation.probe import (
    STRENGTHS,
    balanced_accuracy,
    chosen_strength,
    folds,
    linear_scores,
    standardised,
)
from patchloom.evaluation.probe_labelled import Labelled, open_labelled
from patchloom.evaluation.probe_report import judge

TRAIN, TEST, PER_GROUP = 60, 60, 4


def labelled(seed: int = 0, classes: int = 3) -> Labelled:
    """Labels in turns, groups of four, a patient in one split."""
    n = TRAIN + TEST
    labels = np.array([f"class {k % classes}" for k in range(n)])
    groups = np.array([f"patient {k // PER_GROUP}" for k in range(n)])
    return Labelled("planted", labels, groups, np.arange(n) < TRAIN)


def planted(truth: Labelled, seed: int = 0, strength: float = 2.0, dim: int = 16, name: str = "one") -> Features:
    """Noise, with the label written into the first dimensions."""
    rows = np.random.default_rng(seed).normal(size=(len(truth.labels), dim)).astype(np.float32)
    rows[np.arange(len(rows)), truth.numbers] += strength
    space = FeatureSpace(name, "sha256:0", dim, "none")
    return Features(rows, space, Side("planted", len(rows), "none (arrays)"), truth.groups)


def test_planted_labels_are_found_shuffled_ones_give_chance_and_differences_are_paired() -> None:
    truth = labelled()
    nothing, clear = planted(truth, strength=0.0), planted(truth, strength=5.0, name="two")
    every = judge([nothing, clear, planted(truth, strength=5.0, name="three")], truth, repeats=100)
    assert all(isinstance(one, Figure) for one in every)
    found = {
        (one.space.network if one.space else "", one.name): one.estimate for one in every if isinstance(one, Figure)
    }
    for classifier in ("linear probe", "20-NN"):
        chance = found["one", f"{classifier}, accuracy"]
        assert 0.1 < chance.value < 0.6
        gain = found["", f"{classifier}, accuracy: two minus one"]
        assert gain.value == pytest.approx(found["", f"{classifier}, accuracy: three minus one"].value)
        assert gain.value > 0.3
        assert gain.interval is not None
        assert gain.interval.excludes_zero
        told = found["two", f"{classifier}, balanced accuracy"]
        assert told.value > 0.9
        assert told.n == (TRAIN, TEST)
        assert told.interval is not None
        assert told.interval.low <= told.value <= told.interval.high <= 1
        assert "15 groups" in told.interval.method
        assert told.floor is not None
        assert 0.15 < told.floor.value < 0.5


@pytest.mark.parametrize("shares", [None, np.full(40, 7.0), np.arange(40) % 4 + 0.5])
def test_the_probe_is_at_the_minimum_of_its_loss(shares: NDArray[np.float64] | None) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 5))
    numbers = np.arange(40) % 3
    known = torch.from_numpy(standardised(rows)[0])
    scores = torch.from_numpy(linear_scores(rows, numbers, rows, 3, 1e-2, shares))
    # Where the loss is least, its gradient vanishes: X'(shares (softmax - truth)) + strength W = 0, in the span of X.
    counted = torch.from_numpy(np.ones(40) if shares is None else shares)[:, None]
    wrong = (scores.softmax(1) - torch.nn.functional.one_hot(torch.from_numpy(numbers), 3)) * counted / counted.sum()
    weights = torch.linalg.lstsq(known, scores - scores.mean(0)).solution  # rows have mean 0: the bias drops out
    assert torch.allclose(known.T @ wrong, -1e-2 * weights, atol=1e-4)
    assert wrong.sum(0).abs().max() < 1e-4


def test_more_dimensions_than_rows_change_nothing() -> None:
    rng = np.random.default_rng(0)
    rows, asked, numbers = rng.normal(size=(30, 8)), rng.normal(size=(20, 8)), np.arange(30) % 3
    few = linear_scores(rows[:, :4], numbers, asked[:, :4], 3, 1e-2)
    twice = [np.tile(each[:, :4], 16) for each in (rows, asked)]  # 64 dimensions that say what 4 say
    assert np.allclose(linear_scores(twice[0], numbers, twice[1], 3, 1e-2), few, atol=1e-3)


def test_scale_and_shift_of_features_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    rows, asked, numbers = rng.normal(size=(30, 8)), rng.normal(size=(20, 8)), np.arange(30) % 3
    scale, shift = rng.uniform(0.1, 30, 8), rng.normal(size=8)
    one = linear_scores(rows, numbers, asked, 3, 1e-3)
    assert np.allclose(linear_scores(rows * scale + shift, numbers, asked * scale + shift, 3, 1e-3), one, atol=1e-4)


def test_a_constant_dimension_says_nothing() -> None:
    rows = np.column_stack([np.full(9, 3.3), np.arange(9.0)])
    assert not standardised(rows)[0][:, 0].any()


def test_the_strength_is_chosen_on_groups_that_were_held_out() -> None:
    """Rows tell the patient and not the label: only a probe that is judged on other patients is held back."""
    truth = labelled()
    members = np.unique(truth.groups[:TRAIN], return_inverse=True)[1]
    numbers = members % 3  # each patient has one label, as with diagnoses
    rng = np.random.default_rng(1)
    told = rng.normal(size=(TRAIN // PER_GROUP, 40))[members] + 0.1 * rng.normal(size=(TRAIN, 40))
    assert linear_scores(told, numbers, told, 3, STRENGTHS[-1]).argmax(axis=1).tolist() == numbers.tolist()
    for held in folds(numbers, truth.groups[:TRAIN]):
        assert not set(members[held]) & set(members[~held])
    assert chosen_strength(told, numbers, truth.groups[:TRAIN], 3) in STRENGTHS
    clear = told + 20 * np.eye(3, 40)[numbers]
    guesses = linear_scores(clear, numbers, clear, 3, chosen_strength(clear, numbers, truth.groups[:TRAIN], 3))
    assert guesses.argmax(axis=1).tolist() == numbers.tolist()


def test_rows_that_are_not_judged_do_not_choose_the_strength() -> None:
    """Half of the rows hardly count in the loss; whether they bear their own labels or others is not asked."""
    rng = np.random.default_rng(0)
    numbers, groups = np.arange(120) % 3, np.arange(120) // 6
    told = rng.normal(size=(120, 60)) + 2 * np.eye(3, 60)[numbers]
    judged = np.arange(120) < 60
    shares = np.where(judged, 1.0, 1e-9)
    wrong = np.where(judged, numbers, (numbers + 1) % 3)  # as many of each label in every group
    own, others = (chosen_strength(told, labels, groups, 3, shares, judged) for labels in (numbers, wrong))
    assert own == others
    assert own != chosen_strength(told, wrong, groups, 3, shares)


def test_folds_hold_every_row_once_and_share_labels() -> None:
    numbers, groups = np.repeat([0, 1], 9), np.arange(18) // 3
    masks = np.array(list(folds(numbers, groups)))
    assert (masks.sum(axis=0) == 1).all()
    assert [np.bincount(numbers[held]).tolist() for held in masks] == [[3, 3]] * 3
    with pytest.raises(InputError, match="at least two groups"):
        folds(numbers, np.zeros(18))


def test_balanced_accuracy_counts_labels_alike() -> None:
    labels = np.array([0, 0, 0, 0, 1, 3])
    assert balanced_accuracy(labels == 0, labels) == pytest.approx(1 / 3)
    assert balanced_accuracy(np.array([True, True, False, False, True, False]), labels) == pytest.approx(0.5)


def test_the_nearest_vote_and_the_far_do_not() -> None:
    known, numbers = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), np.array([0, 0, 1])
    votes = vote(known, numbers, np.array([[2.0, 0.0], [0.0, 0.1]]), 2, neighbours=2)
    assert votes.argmax(axis=1).tolist() == [0, 1]
    assert votes[0, 1] == 0
    assert votes[0, 0] > votes[1, 0]
    with pytest.raises(InputError, match="all zeros"):
        vote(known, numbers, np.zeros((1, 2)), 2)


def changed(column: str, where: Any, value: str) -> Labelled:
    truth = labelled()
    columns = {"labels": truth.labels.astype("U32"), "groups": truth.groups.astype("U32"), "train": truth.train}
    columns[column][where] = value
    return Labelled("planted", columns["labels"], columns["groups"], columns["train"])


def test_leaking_groups_are_refused_by_name() -> None:
    with pytest.raises(MismatchError, match=r"1 groups are in train and in test: patient 0\b"):
        changed("groups", TRAIN + 1, "patient 0")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([0], "label `rare` has 1 image to train on"),
        ([0, 1, 2], "all 3 training images of label `rare` are of one group, `patient 0`"),
        ([TRAIN], "label `rare` has 0 image to train on"),
    ],
)
def test_a_label_with_one_image_or_one_group_is_refused_by_name(where: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        changed("labels", where, "rare")


def test_one_label_alone_is_refused() -> None:
    with pytest.raises(InputError, match="two labels or more"):
        changed("labels", slice(None), "all")


def test_features_with_nan_or_of_other_pictures_are_refused() -> None:
    truth = labelled()
    features = planted(truth)
    rows = features.rows.copy()
    rows[7, 3] = np.nan
    with pytest.raises(InputError, match="NaN or infinity, the first is row 7"):
        judge([Features(rows, features.space, features.side)], truth)
    with pytest.raises(MismatchError, match="119 rows of features for 120"):
        judge([Features(features.rows[1:], features.space, features.side)], truth)


def write_table(folder: Path, rows: list[str], sides: tuple[int, int] = (8, 8)) -> Path:
    for number in range(len(rows)):
        pixels: NDArray[np.uint8] = np.full((*sides, 3), 10 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    lines = [f"{number}.png,{row}" for number, row in enumerate(rows)]
    (folder / "set.csv").write_text("\n".join(["file,group,split,label", *lines]) + "\n")
    return folder / "set.csv"


ROWS = ["a,train,x", "b,train,x", "c,train,y", "d,train,y", "v,val,x", "e,test,x", "f,test,", "g,test,y"]


def test_a_table_gives_pictures_without_validation_and_unlabelled(tmp_path: Path) -> None:
    opened = open_labelled(write_table(tmp_path, ROWS))
    patches, truth = opened.patches, opened.labelled
    assert opened.side_px == 8
    assert (patches.n, patches.codec) == (6, "png")
    assert truth.train.tolist() == [True] * 4 + [False] * 2
    assert [int(patches.read(number)[0, 0, 0]) for number in range(6)] == [0, 10, 20, 30, 50, 70]


def test_a_table_without_labels_and_oblong_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no picture with a label"):
        open_labelled(write_table(tmp_path, ["a,train,", "b,test,"]))
    with pytest.raises(InputError, match="12 x 8 px"):
        open_labelled(write_table(tmp_path, ROWS, (8, 12)))


def test_a_test_of_one_group_is_refused() -> None:
    truth = labelled()
    groups = np.where(truth.train, truth.groups, "everyone")
    alone = Labelled("planted", truth.labels, groups, truth.train)
    with pytest.raises(InputError, match="one group, `everyone`"):
        judge([planted(alone)], alone, repeats=10)
