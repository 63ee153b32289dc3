"""Which slides a dataset is made from: a list of files, or a CSV table that also says patient, split and pixel size."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from patchloom.errors import FormatError, InputError, MissingError
from patchloom.geometry import PixelSize
from patchloom.training.dataset import Split

COLUMNS = ("file", "group", "split", "pixel_size", "licence", "label")
_SPLITS: tuple[Split, ...] = ("train", "val", "test")


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


def entries_of(paths: list[Path]) -> list[Entry]:
    """Entries of slides and tables. A slide named by itself is a group of its own; `split_by_group` splits those."""
    entries: list[Entry] = []
    for path in paths:
        if path.suffix.lower() == ".csv":
            entries += read_manifest(path)
        elif path.is_dir():
            raise InputError(
                f"`{path}` is a folder; name the slides in it, as in `{path}/*.svs`, or a CSV table of them"
            )
        else:
            entries.append(Entry(path, path.name, path.stem, "train"))
    repeated = {e.key for e in entries if sum(other.key == e.key for other in entries) > 1}
    if repeated:
        raise InputError(f"slides are named twice: {', '.join(sorted(repeated)[:5])}")
    return entries


def read_manifest(path: Path) -> list[Entry]:
    """Read a table with columns file, group, split and, where needed, pixel_size, licence, label.

    Paths are relative to the table. Raises MissingError, or FormatError with the number of the line.
    """
    if not path.is_file():
        raise MissingError(f"there is no table `{path}`")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        lacking = [name for name in COLUMNS[:3] if name not in (reader.fieldnames or [])]
        if lacking:
            raise FormatError(
                f"`{path}` lacks column {', '.join(lacking)}; its first line must name {', '.join(COLUMNS)}"
            )
        return [_entry(path, reader.line_num, row) for row in reader]


def split_by_group(entries: list[Entry], val: float, test: float) -> list[Entry]:
    """Put whole groups into splits by a hash of their names, so that adding slides moves no group."""
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise InputError(f"shares of val {val} and test {test} must be 0 or more and leave something to train on")

    def split(group: str) -> Split:
        place = int(sha256(group.encode()).hexdigest()[:8], 16) / 2**32
        return "test" if place < test else "val" if place < test + val else "train"

    return [replace(entry, split=split(entry.group)) for entry in entries]


def _entry(path: Path, line: int, row: dict[str, str]) -> Entry:
    for split in _SPLITS:
        if row["split"] == split:
            break
    else:
        raise FormatError(f"`{path}`, line {line}: split `{row['split']}` is none of {', '.join(_SPLITS)}")
    if not row["file"] or not row["group"]:
        raise FormatError(f"`{path}`, line {line}: file and group must not be empty")
    size = row.get("pixel_size") or ""
    return Entry(
        path.parent / row["file"],
        row["file"],
        row["group"],
        split,
        PixelSize.parse(size) if size else None,
        row.get("licence") or "",
        row.get("label") or "",
    )
