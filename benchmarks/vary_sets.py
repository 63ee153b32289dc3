"""Labelled sets as tables that `evaluate encoders`, `vary` and `vary_classifier.py` read: file, group, split, label.

    python benchmarks/vary_sets.py --he ../shared/data/he --aerial ../shared/data/aerial --out work/labelled

- `brca_m2c.csv`: windows of 224 px of breast cancer at 0.5 um/px, cut losslessly; `mixed` and `sparse`, which are no
  tissue, are left out; groups are patients.
- `lc25000_lung.csv`: three kinds of lung at an unknown pixel size; groups are those of the set. For measurements only.
- `ucmerced.csv`: 21 land uses at 0.3048 m/px. The set names no places; neighbouring numbers often come from one
  photograph, so a group is four numbers of a class in a row.

Splits are those of the sets' own manifests. The tables point at the pictures; only what had to be cut is copied.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

COLUMNS = ("file", "group", "split", "pixel_size", "licence", "label")
_IN_A_ROW = 4
_NO_TISSUE = ("mixed", "sparse")
Row = tuple[str, str, str, str, str, str]


def main() -> None:
    """Write the tables of the sets that were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--he", type=Path, help="folder with brca_m2c/ and evaluation_only/lc25000_lung/")
    parser.add_argument("--aerial", type=Path, help="folder with manifest_scenes_ucmerced.csv")
    parser.add_argument("--out", type=Path, required=True)
    said = parser.parse_args()
    said.out.mkdir(parents=True, exist_ok=True)
    if said.he:
        write(said.out / "brca_m2c.csv", breast(said.he, said.out))
        write(said.out / "lc25000_lung.csv", lung(said.he, said.out))
    if said.aerial:
        write(said.out / "ucmerced.csv", land(said.aerial, said.out))


def breast(data: Path, out: Path) -> Iterator[Row]:
    """The windows of BRCA-M2C, each cut from its picture once."""
    (out / "brca_m2c").mkdir(exist_ok=True)
    for row in rows_of(data / "brca_m2c" / "patches.csv"):
        if row["label"] in _NO_TISSUE:
            continue
        file = f"brca_m2c/{Path(row['file']).stem}-y{row['y']}-x{row['x']}.png"
        if not (out / file).is_file():
            x, y, width, height = (int(row[name]) for name in ("x", "y", "width", "height"))
            Image.open(data / row["file"]).convert("RGB").crop((x, y, x + width, y + height)).save(out / file)
        yield file, row["patient"], row["split"], "0.5um", "BSD-3-Clause", row["label"]


def lung(data: Path, out: Path) -> Iterator[Row]:
    """One picture of each group of LC25000's lung classes; 0.5 um/px is said for lack of a stated one."""
    for row in rows_of(data / "evaluation_only" / "lc25000_lung" / "manifest.csv"):
        yield beside(data / row["file"], out), row["group"], row["split"], "0.5um", "measurements only", row["label"]


def land(data: Path, out: Path) -> Iterator[Row]:
    """UC Merced's scenes."""
    for row in rows_of(data / "manifest_scenes_ucmerced.csv"):
        number = re.search(r"(\d+)\.jpg$", row["file"])
        block = int(number[1]) // _IN_A_ROW if number else 0
        group = f"{row['label']} {_IN_A_ROW * block} to {_IN_A_ROW * block + _IN_A_ROW - 1}"
        yield (
            square(data / row["file"], out / "ucmerced", out),
            group,
            row["split"],
            "0.3048m",
            row["licence"],
            row["label"],
        )


def square(path: Path, cut: Path, folder: Path) -> str:
    """A picture as a table names it; of an oblong one the middle, cut losslessly."""
    with Image.open(path) as image:
        side = min(image.size)
        if image.size == (side, side):
            return beside(path, folder)
        x, y = ((length - side) // 2 for length in image.size)
        cut.mkdir(exist_ok=True)
        image.convert("RGB").crop((x, y, x + side, y + side)).save(cut / f"{path.stem}.png")
    return beside(cut / f"{path.stem}.png", folder)


def beside(path: Path, folder: Path) -> str:
    """A path as it is written in a table of a folder."""
    return os.path.relpath(path, folder)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a manifest."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Iterable[Row]) -> None:
    """A table that appears whole."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows)
    part.replace(path)


if __name__ == "__main__":
    main()
