"""A pipeline is written into a new folder, an empty one, or over a pipeline; into nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from patchloom.errors import InputError
from patchloom.pipelines.place import check_place


def made(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("x")
    return folder


@pytest.mark.parametrize(
    "held",
    [
        (),
        ("pipeline.json", "README.md", "my-notes.txt"),
        ("autoencoder", "denoiser"),  # what a writing that was stopped leaves
        ("autoencoder", "README.md"),
    ],
)
def test_folders_that_are_taken(held: tuple[str, ...], tmp_path: Path) -> None:
    check_place(made(tmp_path / "a", *held))
    check_place(tmp_path / "b" / "c" / "new")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(held)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (("README.md",), r"other things than a pipeline \(README.md\); name a new folder"),
        (("README.md", "model_index.json", "unet"), r"\(README.md, model_index.json, unet\)"),
        (("a", "b", "c", "d", "e", "denoiser"), r"\(a, b, c, d, \.\.\.\)"),
    ],
)
def test_folders_of_something_else_are_left_alone(held: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        check_place(made(tmp_path / "a", *held))


def test_files_and_folders_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "a", "file")
    with pytest.raises(InputError, match="file` is a file; name a folder"):
        check_place(tmp_path / "a" / "file")
    with pytest.raises(InputError, match=r"cannot be made: `.*file` is a file"):
        check_place(tmp_path / "a" / "file" / "below")
    monkeypatch.setattr(os, "access", lambda place, how: False)  # whoever runs this may be root, who may do all
    with pytest.raises(InputError, match=f"you may not write into `{tmp_path}`; name another"):
        check_place(tmp_path / "new" / "deep")


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_place(Path("new"))
    check_place(Path("new") / "deeper")
