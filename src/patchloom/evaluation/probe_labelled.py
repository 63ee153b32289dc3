"""Labelled pictures for judging encoders: which rows train a probe, which test it, and what makes that unfair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchloom.datasets.manifest import Entry, read_manifest
from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.matrices import Groups, Rows
from patchloom.evaluation.patches import Patches, UInt8, codec_of
from patchloom.rasters.opening import open_raster

_NAMED = 10


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """The label, group (patient or place) and split of each of n pictures.

    Raises MismatchError, naming them, for groups that are in both splits; InputError for fewer than two labels, a
    label of the test that training has not, and, naming it, a label with one image or one group to train on: a probe
    would learn that patient, and no held-out group could say how well.
    """

    name: str
    labels: NDArray[Any]  # (n,) str
    groups: Groups
    train: NDArray[np.bool_]  # the rest is the test

    def __post_init__(self) -> None:
        _check(self)

    @property
    def classes(self) -> list[str]:
        """Labels in alphabetical order; numbers of labels count in it."""
        return sorted(set(self.labels.tolist()))

    @property
    def numbers(self) -> Rows:
        """The number of each row's label."""
        return np.searchsorted(self.classes, self.labels)


@dataclass(frozen=True, slots=True)
class LabelledPictures:
    """Pictures with their labels, in one order."""

    patches: Patches
    labelled: Labelled
    side_px: int | None  # of every picture; None where they differ, and must be resized to stand in one batch


def open_labelled(path: Path) -> LabelledPictures:
    """The train and test pictures of a CSV table with columns file, group, split and label; `val` is left out.

    Rows without a label are left out too. Raises MissingError or FormatError for the table or a picture, InputError
    for a picture that is not square, and what `Labelled` raises.
    """
    entries = [entry for entry in read_manifest(path) if entry.label and entry.split != "val"]
    if not entries:
        raise InputError(
            f"`{path}` names no picture with a label in split `train` or `test`; it needs a column `label`"
        )
    labels, groups = (np.array([getattr(entry, name) for entry in entries]) for name in ("label", "group"))
    train = np.array([entry.split == "train" for entry in entries])
    labelled = Labelled(path.stem, labels, groups, train)
    sides = {_side_px(entry) for entry in entries}
    codec = " + ".join(sorted({codec_of(entry.path) for entry in entries}))
    patches = Patches(path.stem, codec, len(entries), lambda number: _read(entries[number]), groups)
    return LabelledPictures(patches, labelled, sides.pop() if len(sides) == 1 else None)


def _side_px(entry: Entry) -> int:
    """The side of a picture; an oblong one is refused before anything is embedded."""
    with open_raster(entry.path, entry.pixel_size) as raster:
        frame = raster.frame
    if frame.height != frame.width:
        raise InputError(f"`{entry.path}` is {frame.width} x {frame.height} px; an encoder sees squares, cut some")
    return frame.height


def _read(entry: Entry) -> UInt8:
    with open_raster(entry.path, entry.pixel_size) as raster:
        return raster.read(raster.frame.box)


def _check(labelled: Labelled) -> None:
    name, train = labelled.name, labelled.train
    if not len(labelled.labels) == len(labelled.groups) == len(train):
        raise InputError(f"`{name}`: labels, groups and splits must be as many, found {_lengths(labelled)}")
    both = sorted(set(labelled.groups[train].tolist()) & set(labelled.groups[~train].tolist()))
    if both:
        raise MismatchError(
            f"`{name}`: {len(both)} groups are in train and in test: {', '.join(map(str, both[:_NAMED]))}. Figures on "
            "them would be false; mend the table's split or group column"
        )
    if len(labelled.classes) < 2 or not train.any() or train.all():
        raise InputError(
            f"`{name}` needs two labels or more in both train and test, found {', '.join(labelled.classes)} on "
            f"{int(train.sum())} and {int((~train).sum())} pictures"
        )
    faults = list(_faults(labelled))
    if faults:
        raise InputError(f"`{name}` cannot judge an encoder: {'; '.join(faults[:_NAMED])}; mend or leave out the label")


def _faults(labelled: Labelled) -> Iterator[str]:
    for label in labelled.classes:
        rows = labelled.train & (labelled.labels == label)
        groups = set(labelled.groups[rows].tolist())
        if rows.sum() < 2:
            yield f"label `{label}` has {int(rows.sum())} image to train on"
        elif len(groups) < 2:
            yield f"all {int(rows.sum())} training images of label `{label}` are of one group, `{groups.pop()}`"


def _lengths(labelled: Labelled) -> str:
    return f"{len(labelled.labels)}, {len(labelled.groups)} and {len(labelled.train)}"
