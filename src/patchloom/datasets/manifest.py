"""Which slides a dataset is made from: a list of files, or a CSV table that also says patient, split and pixel size."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from patchloom.datasets.dataset import Split
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.geometry import PixelSize

COLUMNS = ("file", "group", "split", "pixel_size", "licence", "label")
_SPLITS: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One slide of a dataset to be."""

    path: Path
    name: str  # as the table or the command line names it; plots are named after it
    group: str  # patient or place
    split: Split
    pixel_size: PixelSize | None = None  # where the file does not say it, or says it wrongly
    licence: str = ""
    label: str = ""

    @property
    def key(self) -> str:
        """A file name that is unlike any other entry's, though two folders hold files of one name."""
        return f"{Path(self.name).stem}-{sha256(self.name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Shares:
    """How large the splits become that no table gives. Raises InputError where nothing is left to train on."""

    val: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise InputError(
                f"shares of val {self.val} and test {self.test} must be 0 or more and leave something to train on"
            )

    def split(self, group: str) -> Split:
        """Where a whole group goes, by a hash of its name: adding slides moves no group."""
        place = int(sha256(group.encode()).hexdigest()[:8], 16) / 2**32
        return "test" if place < self.test else "val" if place < self.test + self.val else "train"


def entries_of(paths: Sequence[Path], shares: Shares, pixel_size: PixelSize | None = None) -> list[Entry]:
    """Entries of tables and of slides named by themselves, which are groups of their own and have this pixel size.

    Raises what `read_manifest` raises, and InputError for a folder or a slide that is named twice.
    """
    entries: list[Entry] = []
    for path in paths:
        if path.suffix.lower() == ".csv":
            entries += read_manifest(path, shares)
        elif path.is_dir():
            raise InputError(
                f"`{path}` is a folder; name the slides in it, as in `{path}/*.svs`, or a CSV table of them"
            )
        else:
            entries.append(Entry(path, path.name, path.stem, shares.split(path.stem), pixel_size))
    repeated = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
    if repeated:
        raise InputError(
            f"slides are named twice: {', '.join(repeated[:5])}; files of one name in two folders need a CSV table"
        )
    return entries


def read_manifest(path: Path, shares: Shares | None = None) -> list[Entry]:
    """Read a table with columns file, group, split and, where needed, pixel_size, licence, label.

    Paths are relative to the table. Where `shares` are given the column split may be missing. Raises MissingError, or
    FormatError with the number of the line.
    """
    if not path.is_file():
        raise MissingError(f"there is no table `{path}`")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or (), shares)
            return [_entry(path, f"`{path}`, line {reader.line_num}", row, shares) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"`{path}` is no CSV table in UTF-8: {error}") from None


def _check_columns(path: Path, found: Sequence[str], shares: Shares | None) -> None:
    needed = COLUMNS[:2] if shares else COLUMNS[:3]
    lacking = [name for name in needed if name not in found]
    if lacking:
        raise FormatError(f"`{path}` lacks column {', '.join(lacking)}; its first line must name {', '.join(COLUMNS)}")


def _entry(path: Path, where: str, row: Mapping[str, str | None], shares: Shares | None) -> Entry:
    file, group, size = (row.get(name) or "" for name in ("file", "group", "pixel_size"))
    if not file or not group:
        raise FormatError(f"{where}: file and group must not be empty")
    return Entry(
        path.parent / file,
        file,
        group,
        shares.split(group) if shares and "split" not in row else _split(where, row["split"]),
        _pixel_size(where, size) if size else None,
        row.get("licence") or "",
        row.get("label") or "",
    )


def _split(where: str, said: str | None) -> Split:
    if said not in _SPLITS:
        raise FormatError(f"{where}: split `{said}` is none of {', '.join(_SPLITS)}")
    return _SPLITS[said]


def _pixel_size(where: str, said: str) -> PixelSize:
    try:
        return PixelSize.parse(said)
    except InputError as error:
        raise FormatError(f"{where}: {error}") from None
