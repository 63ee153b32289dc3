"""Canvases on disk: whole or not there, equal bytes for equal canvases, and refused where they are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from patchloom.errors import CapacityError, FormatError, MissingError
from patchloom.fields.field import ArrayField, Field
from patchloom.geometry import Box, Frame
from patchloom.loom.latents import read_latents, write_latents
from patchloom.testing.fields import FieldLaws

ARRAY = np.random.default_rng(0).standard_normal((3, 150, 41)).astype(np.float32)
MANIFEST = {"pipeline": {"digest": "sha256:aa"}, "seed": 7, "name": "Zürich"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_latents(ArrayField(ARRAY), tmp_path / "image.tif.latents", MANIFEST)
    return tmp_path / "image.tif.latents"


class TestLatentsAreAField(FieldLaws):
    @pytest.fixture(autouse=True)
    def _written(self, path: Path) -> None:
        self.path = path

    def field(self) -> Field:
        return read_latents(self.path)


def test_what_is_written_is_read(path: Path) -> None:
    latents = read_latents(path)
    np.testing.assert_array_equal(latents.read(Box(0, 0, 150, 41)), ARRAY)
    assert latents.manifest == MANIFEST
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_format_s_own_library_reads_it(path: Path) -> None:
    with safe_open(path, framework="np") as file:
        np.testing.assert_array_equal(file.get_tensor("latents"), ARRAY)
        assert json.loads(file.metadata()["manifest"]) == MANIFEST


def test_equal_canvases_are_equal_bytes(path: Path, tmp_path: Path) -> None:
    told: list[int] = []
    write_latents(ArrayField(ARRAY.copy()), tmp_path / "b", dict(reversed(MANIFEST.items())), told.append)
    assert (tmp_path / "b").read_bytes() == path.read_bytes()
    assert told == [64, 64, 22]


class Failing:
    def __init__(self, error: Exception) -> None:
        self.frame = Frame(150, 41, 3, "float32")
        self.error = error

    def read(self, box: Box) -> NDArray[Any]:
        if box.y > 0:
            raise self.error
        return ARRAY[:, : box.height]


def test_a_failure_leaves_what_was_there(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(InterruptedError):
        write_latents(Failing(InterruptedError()), path, MANIFEST)
    with pytest.raises(CapacityError, match="no room for"):
        write_latents(Failing(OSError(28, "No space left on device")), path, MANIFEST)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_what_is_no_canvas_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="--save-latents"):
        read_latents(tmp_path / "none")
    with pytest.raises(MissingError, match="no folder"):
        write_latents(ArrayField(ARRAY), tmp_path / "no/where", MANIFEST)
    save_file({"latents": ARRAY}, tmp_path / "other")
    with pytest.raises(FormatError, match="holds no latents"):
        read_latents(tmp_path / "other")
    whole = path.read_bytes()
    for cut in (0, 5, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError):
            read_latents(path)
    path.write_bytes(whole.replace(b'"version": "1"', b'"version": "2"'))
    with pytest.raises(FormatError, match="version 2"):
        read_latents(path)
    path.write_bytes(whole.replace(b"[3, 150, 41]", b"[3, -50, 41]"))
    with pytest.raises(FormatError, match="damaged"):
        read_latents(path)
