"""Tables of slides: what they may leave out, and what is said of a line that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchloom.datasets.manifest import Entry, Shares, entries_of, read_manifest
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.geometry import PixelSize


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(text)
    return path


def test_a_table_says_everything(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        'label,file,group,split,pixel_size,licence\n"a, b",x/1.svs,patient 1,test,20x,CC0-1.0\n,2.svs,p2,train,,\n',
    )
    first, second = read_manifest(path)
    size = PixelSize.parse("20x")
    assert first == Entry(tmp_path / "x/1.svs", "x/1.svs", "patient 1", "test", size, "CC0-1.0", "a, b")
    assert second == Entry(tmp_path / "2.svs", "2.svs", "p2", "train")


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_text("file,group,split\r\n1.svs,p,val\r\n", encoding="utf-8-sig")
    assert [entry.split for entry in read_manifest(path)] == ["val"]


def test_groups_without_a_split_are_divided_whole(tmp_path: Path) -> None:
    rows = "".join(f"{i}.svs,patient {i // 3}\n" for i in range(300))
    entries = read_manifest(table(tmp_path, "file,group\n" + rows), Shares(0.2, 0.2))
    splits: dict[str, set[str]] = {}
    for entry in entries:
        splits.setdefault(entry.group, set()).add(entry.split)
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "val", "test"}
    with pytest.raises(FormatError, match="lacks column split"):
        read_manifest(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,split\n", "lacks column group"),
        ("", "lacks column file, group, split"),
        ("file,group,split\na.svs,p,training\n", "line 2: split `training` is none of train, val, test"),
        ("file,group,split\na.svs,p,train\n,p,train\n", "line 3: file and group must not be empty"),
        ("file,group,split\na.svs\n", "line 2: file and group must not be empty"),
        ("file,group,split,pixel_size\na.svs,p,train,half\n", "line 2: .*half"),
    ],
)
def test_a_fault_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        read_manifest(table(tmp_path, text))


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no table"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_bytes(b"file,group,split\n\xff\xfe\x00,p,train\n")
    with pytest.raises(FormatError, match="no CSV table in UTF-8"):
        read_manifest(tmp_path / "bad.csv")


def test_folders_and_repeated_slides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        entries_of([tmp_path], Shares())
    with pytest.raises(InputError, match=r"named twice: a\.svs"):
        entries_of([Path("x/a.svs"), Path("y/a.svs")], Shares())


@pytest.mark.parametrize("shares", [(-0.1, 0.1), (0.5, 0.5), (float("nan"), 0.1)])
def test_shares_that_leave_nothing_to_train_on_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="leave something to train on"):
        Shares(*shares)


def test_files_of_one_name_in_two_folders_have_different_keys() -> None:
    first, second = (Entry(Path(name), name, "p", "train") for name in ("x/a.svs", "y/a.svs"))
    assert first.key != second.key
