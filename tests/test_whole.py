"""A file appears whole or not at all, and what lay there before stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.test_weights import at_most

from patchloom.errors import CapacityError, MissingError
from patchloom.whole import whole_file, write_text


def test_what_is_written_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with whole_file(path) as part:
        part.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, PermissionError])
def test_a_failure_leaves_what_was_there(failure: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def write_half() -> None:
        with whole_file(path) as part:
            part.write_text("half")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with at_most(1000), pytest.raises(CapacityError, match=r"`.*file` could not be written \(.*\): free some space"):
        write_text(path, "a" * 100_000)
    said = lambda: "after 3 of 8 rows"  # noqa: E731
    with at_most(1000), pytest.raises(CapacityError, match="after 3 of 8 rows"), whole_file(path, said) as part:
        part.write_bytes(bytes(100_000))
    assert list(tmp_path.iterdir()) == []


def test_what_a_writer_said_itself_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(CapacityError, match=r"^three shelves$"), whole_file(tmp_path / "file"):
        raise CapacityError("three shelves")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"there is no folder `.*gone` to write `file` into"):
        write_text(tmp_path / "gone" / "file", "")


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "0.5 µm")
    assert (tmp_path / "file").read_bytes() == "0.5 µm".encode()
