"""What variations are worth to a classifier: trained on real images, on their variations, and on both.

    python benchmarks/vary_sets.py --he ../shared/data/he --out work/labelled
    python benchmarks/vary_classifier.py work/labelled/brca_m2c.csv --pipeline he-foundation --out work/varied/brca
    python benchmarks/vary_classifier.py ... --fraction 0.1 --classifier linear --minutes 8

For each share of the training images and each seed some images are drawn, each label by its share, and varied by
`patchloom vary`; the classifiers see the drawn images (`real`), their variations (`synthetic`), or `both`, and are
judged on all test images, which are never varied. `linear` is a logistic regression on a frozen encoder, its penalty
chosen on held-out groups of what it is trained on; `network` is a small convolutional network, trained through for so
many steps whatever the set, from the weights of `--network` or from none. Differences from `real` are paired; their
intervals draw seeds and test groups again. The same command goes on where it was; with `--minutes` it stops in time,
with exit status 3.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from vary_networks import network_guesses

from patchloom.encoders.embed import encode
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.registry import load_encoder
from patchloom.errors import InputError
from patchloom.evaluation.intervals import centred, resampled_counts
from patchloom.evaluation.matrices import Rows
from patchloom.evaluation.probe import chosen_strength, linear_scores
from patchloom.evaluation.probe_labelled import Labelled, open_labelled
from patchloom.machine import choose_device, choose_dtype
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.settings import Settings
from patchloom.pipelines.vary import vary
from patchloom.training.manifest import read_manifest

ARMS = ("real", "synthetic", "both")
CLASSIFIERS = ("linear", "network")
REPEATS = 1000
UInt8 = NDArray[np.uint8]


class OutOfTimeError(Exception):
    """The minutes are over."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One draw of training images, judged by one classifier: what `pieces/NAME.json` holds."""

    fraction: float
    seed: int
    classifier: str
    encoder: str  # what `linear` looks through, or `network` starts from
    real: int  # images drawn
    synthetic: int
    right: dict[str, list[int]]  # by arm: 1 where the test image was told rightly
    train: tuple[str, ...]  # files of the drawn images


@dataclass
class Bench:
    """A labelled table, a pipeline, and a folder where everything that was computed lies."""

    table: Path
    pipeline: str
    out: Path
    copies: int
    encoder: str
    network: Path | None
    steps: int
    ends: float

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        self.entries = [entry for entry in read_manifest(self.table) if entry.label and entry.split != "val"]
        pictures = open_labelled(self.table)
        self.patches, self.labelled = pictures.patches, pictures.labelled
        self.varied: dict[str, tuple[Path, ...]] = {}
        self._loaded: tuple[Pipeline, Encoder] | None = None

    def go(self, fractions: list[float], seeds: int, classifiers: list[str]) -> list[Piece]:
        """Every piece, read where it is there and made where it is not; raises OutOfTimeError between two."""
        wanted = [(f, s, c) for f in fractions for s in range(seeds) for c in classifiers]
        return [self.piece(*each) for each in wanted]

    def piece(self, fraction: float, seed: int, classifier: str) -> Piece:
        """One draw."""
        rows = drawn(self.labelled, fraction, seed)
        files = tuple(self.entries[row].name for row in rows)
        path = self.out / "pieces" / f"{fraction:g}-{seed}-{classifier}.json"
        if path.is_file():
            found = Piece(**json.loads(path.read_text()))
            if tuple(found.train) != files or found.synthetic != self.copies * len(files):
                raise InputError(f"`{path}` is of other images, or of other numbers of variations; name another --out")
            return found
        pictures = {row: self.variations(row) for row in rows}
        self.in_time()
        right = self.linear(rows, pictures) if classifier == "linear" else self.fine_tuned(rows, pictures, seed)
        name = self.encoder if classifier == "linear" else str(self.network or "none")
        synthetic = sum(map(len, pictures.values()))
        made = Piece(fraction, seed, classifier, name, len(rows), synthetic, right, files)
        write_json(path, {field.name: getattr(made, field.name) for field in fields(Piece)})
        return made

    def variations(self, row: int) -> tuple[Path, ...]:
        """The pictures that `patchloom vary` makes of one training image."""
        entry = self.entries[row]
        if entry.split != "train":
            raise InputError(f"`{entry.name}` is a {entry.split} image and is never varied")
        if entry.name not in self.varied:
            self.in_time()
            self.vary([row])
        return self.varied[entry.name]

    def vary(self, rows: list[int]) -> None:
        """Vary some images; what is there already is kept."""
        table = self.out / "wanted.csv"
        names = {str(rel(self.entries[row].path, self.out)): self.entries[row].name for row in rows}
        write_table(table, [self.entries[row] for row in rows], self.out)
        made = vary(self.loaded[0], table, self.copies, self.out / "variations", Settings(0))
        if made.skipped:
            raise InputError(f"{made.skipped[0].source} could not be varied: {made.skipped[0].reason}")
        for file, name in names.items():
            found = (self.out / "variations" / one.file for one in made.variations if one.source == file)
            self.varied[name] = tuple(found)

    def linear(self, rows: Rows, pictures: dict[int, tuple[Path, ...]]) -> dict[str, list[int]]:
        """The linear probe of each arm."""
        numbers, classes = self.labelled.numbers, len(self.labelled.classes)
        asked, truth = self.real[~self.labelled.train], numbers[~self.labelled.train]
        right: dict[str, list[int]] = {}
        for arm in ARMS:
            sources, features = self.features(arm, rows, pictures)
            labels, groups = numbers[sources], self.labelled.groups[sources]
            strength = chosen_strength(features, labels, groups, classes)
            guesses = linear_scores(features, labels, asked, classes, strength).argmax(axis=1)
            right[arm] = (guesses == truth).astype(int).tolist()
        return right

    def features(self, arm: str, rows: Rows, pictures: dict[int, tuple[Path, ...]]) -> tuple[Rows, NDArray[np.float32]]:
        """The image that each training row comes from, and its embedding."""
        known = self.real
        real = [(row, known[row]) for row in rows if arm != "synthetic"]
        made = [(row, self.embedded(path)) for row in rows for path in pictures[row] if arm != "real"]
        sources, embeddings = zip(*real, *made, strict=True)
        return np.array(sources), np.stack(embeddings)

    def fine_tuned(self, rows: Rows, pictures: dict[int, tuple[Path, ...]], seed: int) -> dict[str, list[int]]:
        """The small network of each arm; of `both`, half of each batch is real."""
        numbers, test = self.labelled.numbers, np.flatnonzero(~self.labelled.train)
        asked = [self.patches.read(int(row)) for row in test]
        right: dict[str, list[int]] = {}
        for arm in ARMS:
            real = [(self.patches.read(int(row)), int(numbers[row])) for row in rows if arm != "synthetic"]
            made = [(read(path), int(numbers[row])) for row in rows for path in pictures[row] if arm != "real"]
            pools = [pool for pool in (real, made) if pool]
            guesses = network_guesses(pools, asked, len(self.labelled.classes), self.network, self.steps, seed)
            right[arm] = (guesses == numbers[test]).astype(int).tolist()
            self.in_time()
        return right

    @property
    def loaded(self) -> tuple[Pipeline, Encoder]:
        """The pipeline, and the encoder that the probe looks through."""
        if self._loaded is None:
            place = choose_device("auto")
            dtype = choose_dtype("auto", place)
            self._loaded = load_pipeline(self.pipeline, place, dtype), load_encoder(self.encoder, place, dtype)
        return self._loaded

    @property
    def real(self) -> NDArray[np.float32]:
        """Embeddings of all real images, once."""
        path = self.out / "features" / f"{key(self.encoder)}.npy"
        if not path.is_file():
            parts = [self.encoded(self.patches.read(number)) for number in range(self.patches.n)]
            write_array(path, np.stack(parts))
        found: NDArray[np.float32] = np.load(path)
        return found

    def embedded(self, picture: Path) -> NDArray[np.float32]:
        """The embedding of a variation, once."""
        path = self.out / "features" / key(self.encoder) / f"{picture.stem}.npy"
        if not path.is_file():
            write_array(path, self.encoded(read(picture)))
        found: NDArray[np.float32] = np.load(path)
        return found

    def encoded(self, picture: UInt8) -> NDArray[np.float32]:
        """The embedding of one picture."""
        self.in_time()
        embedding: NDArray[np.float32] = encode(self.loaded[1], picture[None], 1)[0]
        return embedding

    def in_time(self) -> None:
        """Raise OutOfTimeError when the minutes are over."""
        if time.monotonic() > self.ends:
            raise OutOfTimeError


def drawn(labelled: Labelled, fraction: float, seed: int) -> Rows:
    """Rows of some training images: of each label its share, at least two, and of at least two groups.

    What a seed draws at one fraction it also draws at a larger one.
    """
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for label in labelled.classes:
        rows = rng.permutation(np.flatnonzero(labelled.train & (labelled.labels == label)))
        other = next(k for k, row in enumerate(rows) if labelled.groups[row] != labelled.groups[rows[0]])
        rows[[1, other]] = rows[[other, 1]]  # the second is of another group than the first
        chosen += rows[: max(2, round(fraction * len(rows)))].tolist()
    return np.sort(np.array(chosen))


def summary(pieces: list[Piece], labelled: Labelled) -> Iterator[dict[str, Any]]:
    """A row for each fraction and classifier: means over seeds, and differences from `real` with their intervals."""
    test = ~labelled.train
    for fraction, classifier in dict.fromkeys((piece.fraction, piece.classifier) for piece in pieces):
        some = [piece for piece in pieces if (piece.fraction, piece.classifier) == (fraction, classifier)]
        right = {arm: np.array([piece.right[arm] for piece in some], dtype=float) for arm in ARMS}
        row = {"fraction": fraction, "classifier": classifier, "seeds": len(some), "test": int(test.sum())}
        row |= {"real images": some[0].real, "variations": some[0].synthetic, "through": some[0].encoder}
        for what, weight in weights(labelled.numbers[test]).items():
            row |= {f"{what}, {arm}": float((right[arm] @ weight).mean()) for arm in ARMS}
            for arm in ARMS[1:]:
                row[f"{what}, {arm} minus real"] = difference(right[arm] - right["real"], weight, labelled.groups[test])
        yield row


def weights(truth: Rows) -> dict[str, NDArray[np.float64]]:
    """What a test image weighs in accuracy, and in balanced accuracy."""
    counts = np.bincount(truth)
    return {"accuracy": np.full(len(truth), 1 / len(truth)), "balanced": 1 / counts[truth] / (counts > 0).sum()}


def difference(gained: NDArray[np.float64], weight: NDArray[np.float64], groups: NDArray[Any]) -> dict[str, float]:
    """The weighted mean of gains (seeds, test images), its interval over seeds and test groups drawn again."""
    rng = np.random.default_rng(0)
    draws = []
    for counts in resampled_counts(gained.shape[1], REPEATS, 0, groups):
        seeds = rng.integers(len(gained), size=len(gained))
        share = counts * weight
        draws.append(float((gained[seeds] @ share).mean() / share.sum()))
    value = float((gained @ weight).mean())
    interval = centred(value, draws, 0.95, "seeds and test groups drawn again")
    return {"value": value, "low": interval.low, "high": interval.high}


def read(path: Path) -> UInt8:
    """A picture (3, h, w), cut to its middle square."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    side = min(pixels.shape[:2])
    y, x = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return np.ascontiguousarray(pixels[y : y + side, x : x + side].transpose(2, 0, 1))


def key(name: str) -> str:
    """A folder's name for an encoder's."""
    return name.strip("./").replace("/", "-").replace(":", "-")


def rel(path: Path, folder: Path) -> Path:
    """A path as a table in a folder names it."""
    return Path(os.path.relpath(path, folder))


def write_table(path: Path, entries: list[Any], folder: Path) -> None:
    """A table of training images for `vary`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "group", "split", "pixel_size", "licence", "label"))
        for entry in entries:
            size = str(entry.pixel_size or "")
            table.writerow((rel(entry.path, folder), entry.group, entry.split, size, entry.licence, entry.label))


def write_array(path: Path, values: NDArray[np.float32]) -> None:
    """An array that appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part.npy")
    np.save(part, values)
    part.replace(path)


def write_json(path: Path, values: Any) -> None:
    """A JSON file that appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(values) + "\n")
    part.replace(path)


def main() -> None:
    """Make what is missing, then print a row for each fraction and classifier as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV with columns file, group, split, label")
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fraction", type=float, action="append", help="of the training images; default: 0.1, 0.3, 1")
    parser.add_argument("--classifier", choices=CLASSIFIERS, action="append", help="default: both")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--copies", type=int, default=4, help="variations of each image")
    parser.add_argument("--encoder", default="efficientnet-lite0-128", help="that the linear probe looks through")
    parser.add_argument("--network", type=Path, help="encoder folder of `patchloom train` that the network starts from")
    parser.add_argument("--steps", type=int, default=300, help="of the network's training")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    said = parser.parse_args()
    ends = time.monotonic() + 60 * said.minutes
    bench = Bench(said.table, said.pipeline, said.out, said.copies, said.encoder, said.network, said.steps, ends)
    try:
        pieces = bench.go(said.fraction or [0.1, 0.3, 1.0], said.seeds, said.classifier or list(CLASSIFIERS))
    except OutOfTimeError:
        done = len(list((said.out / "pieces").glob("*.json")))
        sys.stderr.write(f"the minutes are over; {done} pieces are done; the same command goes on\n")
        sys.exit(3)
    for row in summary(pieces, bench.labelled):
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
