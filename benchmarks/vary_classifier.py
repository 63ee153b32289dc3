"""What variations are worth to a classifier: trained on real images, on their variations, and on both.

    python benchmarks/vary_sets.py --he ../shared/data/he --out work/labelled
    python benchmarks/vary_classifier.py work/labelled/brca_m2c.csv --pipeline he-foundation --out work/varied/brca
    python benchmarks/vary_classifier.py ... --fraction 0.1 --classifier linear --minutes 8
    python benchmarks/vary_classifier.py ... --judge val --seeds 1 --strength 0.5 --copies 2

For each share of the training images and each seed some images are drawn, each label by its share, and varied by
`patchloom vary`; the classifiers see the drawn images (`real`), their variations (`synthetic`), or `both`, and are
judged on all test images, which are never varied; with `--judge val` on the validation images, for choosing strength,
copies and weight. `linear` is a logistic regression on a frozen encoder, its penalty chosen on held-out groups of the
real images that it is trained on (of the variations, where it sees nothing else); `network` is a small convolutional
network, trained through for so many steps whatever the set, from the weights of `--network` or from none, on pictures
laid down in random ways. `views` is what the probe makes of the drawn images and their seven other ways to be laid
down: what variations must beat. Of `both` and `views` the added pictures together count as much as `--weight` says.
Differences are paired; their intervals draw seeds and test groups again. The same command goes on where it was; with
`--minutes` it stops in time, with exit status 3. With `--pool` the draws are from one small set, so that little has
to be varied; their intervals then say nothing of other sets.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from vary_networks import Pool, network_guesses
from vary_summary import Piece, summary

from patchloom.datasets.manifest import Entry, read_manifest
from patchloom.datasets.views import VIEWS, lay
from patchloom.encoders.embed import encode
from patchloom.encoders.encoder import Encoder
from patchloom.encoders.registry import load_encoder
from patchloom.errors import InputError
from patchloom.evaluation.matrices import Rows
from patchloom.evaluation.probe import chosen_strength, linear_scores
from patchloom.evaluation.probe_labelled import Labelled, open_labelled
from patchloom.machine import choose_device, choose_dtype
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.settings import Settings
from patchloom.pipelines.vary import vary

ARMS = {"linear": ("real", "views", "synthetic", "both"), "network": ("real", "synthetic", "both")}
UInt8 = NDArray[np.uint8]


class OutOfTimeError(Exception):
    """The minutes are over."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is varied how, and how it is learnt from."""

    pipeline: str
    copies: int = 4  # variations of each image
    strength: float = 1.0
    weight: float = 0.5  # of all added pictures together, of the whole
    encoder: str = "efficientnet-lite0-128"  # that the linear probe looks through
    network: Path | None = None  # that the network starts from
    steps: int = 300  # of the network

    def told(self, arm: str, classifier: str) -> dict[str, Any]:
        """What of it decides an arm of a classifier."""
        linear = classifier == "linear"
        said: dict[str, Any] = {"through": self.encoder} if linear else {"from": str(self.network), "steps": self.steps}
        if arm in ("views", "both"):
            said["weight"] = self.weight
        if arm in ("synthetic", "both"):
            said |= {"pipeline": self.pipeline, "copies": self.copies, "strength": self.strength}
        return said


@dataclass
class Bench:
    """A labelled table, a recipe, and a folder where everything that was computed lies."""

    table: Path
    out: Path
    recipe: Recipe
    judge: str = "test"
    ends: float = float("inf")
    pool: float | None = None  # all draws are from what seed 0 draws at this fraction

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        if self.judge != "test":
            self.table = judged_table(self.table, self.judge, self.out)
        self.entries = [entry for entry in read_manifest(self.table) if entry.label and entry.split != "val"]
        pictures = open_labelled(self.table)
        self.patches, self.labelled = pictures.patches, pictures.labelled
        self.varied: dict[str, tuple[Path, ...]] = {}
        self._loaded: tuple[Pipeline, Encoder] | None = None

    def go(self, fractions: list[float], seeds: int, classifiers: list[str], without: list[str]) -> list[Piece]:
        """Every piece, read where it is there and made where it is not; raises OutOfTimeError between two."""
        wanted = [(f, s, c, arm) for f in fractions for s in range(seeds) for c in classifiers for arm in ARMS[c]]
        return [self.piece(*each) for each in wanted if each[-1] not in without]

    def piece(self, fraction: float, seed: int, classifier: str, arm: str) -> Piece:
        """One arm of one draw."""
        among = None if self.pool is None else drawn(self.labelled, self.pool, 0)
        rows = drawn(self.labelled, fraction, seed, among)
        names = [self.entries[row].name for row in rows]
        told = {"judge": self.judge, "images": names, **self.recipe.told(arm, classifier)}
        digest = sha256(json.dumps(told).encode()).hexdigest()[:8]
        path = self.out / "pieces" / f"{self.judge}-{fraction:g}-{seed}-{classifier}-{arm}-{digest}.json"
        if path.is_file():
            return Piece(**json.loads(path.read_text()))
        pictures = {row: self.variations(row) for row in rows} if arm in ("synthetic", "both") else {}
        self.in_time()
        added = len(rows) * (VIEWS - 1) if arm == "views" else sum(map(len, pictures.values()))
        learn = self.linear if classifier == "linear" else partial(self.fine_tuned, seed=seed)
        right = learn(rows, pictures, arm)
        made = Piece(fraction, seed, classifier, arm, told, len(rows), added, right)
        write_json(path, asdict(made))
        return made

    def variations(self, row: int) -> tuple[Path, ...]:
        """The pictures that `patchloom vary` makes of one training image."""
        entry = self.entries[row]
        if entry.split != "train":
            raise InputError(f"`{entry.name}` is a {entry.split} image and is never varied")
        if entry.name not in self.varied:
            self.in_time()
            self.varied[entry.name] = self.vary(entry)
        return self.varied[entry.name]

    def vary(self, entry: Entry) -> tuple[Path, ...]:
        """Vary one image; what is there already is kept."""
        table, strength = self.out / "wanted.csv", self.recipe.strength
        folder = self.out / f"variations-{strength:g}"
        write_table(table, [entry], self.out)
        made = vary(self.loaded[0], table, self.recipe.copies, folder, Settings(strength=strength))
        if made.skipped:
            raise InputError(f"{made.skipped[0].source} could not be varied: {made.skipped[0].reason}")
        return tuple(folder / one.file for one in made.variations)

    def linear(self, rows: Rows, pictures: dict[int, tuple[Path, ...]], arm: str) -> list[int]:
        """The linear probe of an arm."""
        numbers, classes = self.labelled.numbers, len(self.labelled.classes)
        test = np.flatnonzero(~self.labelled.train)
        added = [(row, self.embedded(path)) for row in pictures for path in pictures[row]]
        if arm == "views":
            added = [(row, seen) for row in rows for seen in self.views(row)]
        real = [] if arm == "synthetic" else list(zip(rows, self.real(rows), strict=True))
        sources, features = (np.array(part) for part in zip(*real, *added, strict=True))
        labels, groups = numbers[sources], self.labelled.groups[sources]
        first = np.arange(len(sources)) < len(real)
        shares = np.where(first, (1 - self.recipe.weight) / max(len(real), 1), self.recipe.weight / max(len(added), 1))
        judged = first if real else ~first
        penalty = chosen_strength(features, labels, groups, classes, shares, judged)
        guesses = linear_scores(features, labels, self.real(test), classes, penalty, shares).argmax(axis=1)
        return (guesses == numbers[test]).astype(int).tolist()  # type: ignore[no-any-return]

    def fine_tuned(self, rows: Rows, pictures: dict[int, tuple[Path, ...]], arm: str, *, seed: int) -> list[int]:
        """The small network of an arm; of `both`, the weight is what of each batch is synthetic."""
        numbers, test = self.labelled.numbers, np.flatnonzero(~self.labelled.train)
        asked = [self.patches.read(int(row)) for row in test]
        real: Pool = [(self.patches.read(int(row)), int(numbers[row])) for row in rows if arm != "synthetic"]
        made: Pool = [(read(path), int(numbers[row])) for row in pictures for path in pictures[row]]
        both = [(pool, share) for pool, share in ((real, 1 - self.recipe.weight), (made, self.recipe.weight)) if pool]
        pools, shares = [pool for pool, _ in both], [share for _, share in both]
        classes, recipe = len(self.labelled.classes), self.recipe
        guesses = network_guesses(pools, shares, asked, classes, recipe.network, recipe.steps, seed)
        return (guesses == numbers[test]).astype(int).tolist()  # type: ignore[no-any-return]

    @property
    def loaded(self) -> tuple[Pipeline, Encoder]:
        """The pipeline, and the encoder that the probe looks through."""
        if self._loaded is None:
            place = choose_device("auto")
            dtype = choose_dtype("auto", place)
            encoder = load_encoder(self.recipe.encoder, place, dtype)
            self._loaded = load_pipeline(self.recipe.pipeline, place, dtype), encoder
        return self._loaded

    def real(self, rows: Rows) -> NDArray[np.float32]:
        """Embeddings of real images, each computed once."""
        return np.concatenate([self.kept(self.name("real", row), partial(self.of_real, row)) for row in rows])

    def of_real(self, row: int) -> NDArray[np.float32]:
        """The embedding (1, dim) of a real image."""
        return self.encoded(self.patches.read(row)[None])

    def name(self, what: str, row: int) -> str:
        """Of an array that is computed from a real image; the same in every table that names it."""
        path = self.entries[row].path
        return f"{what}-{path.stem}-{sha256(str(path.resolve()).encode()).hexdigest()[:8]}"

    def views(self, row: int) -> NDArray[np.float32]:
        """Embeddings of the seven other ways to lay a real image down, once."""

        def made() -> NDArray[np.float32]:
            picture = torch.from_numpy(self.patches.read(row)).permute(1, 2, 0)
            others = [lay(picture, view).permute(2, 0, 1).numpy() for view in range(1, VIEWS)]
            return self.encoded(np.stack(others))

        return self.kept(self.name("views", row), made)

    def embedded(self, picture: Path) -> NDArray[np.float32]:
        """The embedding of a variation, once."""
        name = f"{picture.parent.parent.name}-{picture.stem}"
        found: NDArray[np.float32] = self.kept(name, lambda: self.encoded(read(picture)[None]))[0]
        return found

    def kept(self, name: str, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """An array that is computed once."""
        path = self.out / "features" / key(self.recipe.encoder) / f"{name}.npy"
        if not path.is_file():
            write_array(path, make())
        found: NDArray[np.float32] = np.load(path)
        return found

    def encoded(self, pictures: UInt8) -> NDArray[np.float32]:
        """The embeddings (n, dim) of pictures (n, 3, h, h)."""
        self.in_time()
        found: NDArray[np.float32] = encode(self.loaded[1], pictures, 1)
        return found

    def in_time(self) -> None:
        """Raise OutOfTimeError when the minutes are over."""
        if time.monotonic() > self.ends:
            raise OutOfTimeError


def judged_table(table: Path, judge: str, out: Path) -> Path:
    """The same table with another split in the place of the test, whose rows are left out."""
    wanted = [entry for entry in read_manifest(table) if entry.split in ("train", judge)]
    path = out / f"{judge}.csv"
    write_table(path, [entry if entry.split == "train" else replace(entry, split="test") for entry in wanted], out)
    return path


def drawn(labelled: Labelled, fraction: float, seed: int, among: Rows | None = None) -> Rows:
    """Rows of some training images: of each label its share, at least two, and of at least two groups.

    What a seed draws at one fraction it also draws at a larger one. `among` are the rows that may be drawn.
    """
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for label in labelled.classes:
        known = np.flatnonzero(labelled.train & (labelled.labels == label))
        rows = rng.permutation(known if among is None else np.intersect1d(known, among))
        other = next(k for k, row in enumerate(rows) if labelled.groups[row] != labelled.groups[rows[0]])
        rows[[1, other]] = rows[[other, 1]]  # the second is of another group than the first
        chosen += rows[: max(2, round(fraction * len(known)))].tolist()
    return np.sort(np.array(chosen))


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
    said = asked()
    ends = time.monotonic() + 60 * said.minutes
    recipe = Recipe(
        said.pipeline, said.copies, said.strength, said.weight, said.encoder, said.network, said.network_steps
    )
    bench = Bench(said.table, said.out, recipe, said.judge, ends, said.pool)
    try:
        pieces = bench.go(said.fraction or [0.1, 0.3, 1.0], said.seeds, said.classifier or list(ARMS), said.without)
    except OutOfTimeError:
        done = len(list((said.out / "pieces").glob("*.json")))
        sys.stderr.write(f"the minutes are over; {done} pieces are done; the same command goes on\n")
        sys.exit(3)
    for row in summary(pieces, bench.labelled):
        sys.stdout.write(json.dumps(row) + "\n")


def asked() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV with columns file, group, split, label")
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fraction", type=float, action="append", help="of the training images; default: 0.1, 0.3, 1")
    parser.add_argument("--classifier", choices=list(ARMS), action="append", help="default: both")
    parser.add_argument("--without", choices=("views", "synthetic", "both"), action="append", default=[], help="an arm")
    parser.add_argument("--judge", choices=("test", "val"), default="test", help="the images that are asked about")
    parser.add_argument("--pool", type=float, help="draw from what seed 0 draws at this fraction: fewer are varied")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--copies", type=int, default=4, help="variations of each image")
    parser.add_argument("--strength", type=float, default=1.0, help="of `patchloom vary`")
    parser.add_argument("--weight", type=float, default=0.5, help="of what is added to real images, of the whole")
    parser.add_argument("--encoder", default="efficientnet-lite0-128", help="that the linear probe looks through")
    parser.add_argument("--network", type=Path, help="encoder folder of `patchloom train` that the network starts from")
    parser.add_argument("--network-steps", type=int, default=300, help="of the network's training")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
