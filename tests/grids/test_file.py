"""The grid's file: what is written is read, and nothing else is."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tests.grids.examples import grids, make_grid

from patchloom.errors import CapacityError, FormatError, MissingError
from patchloom.grids.file import describe, is_grid, read_grid, write_grid
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.reference import Reference

shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@shared_folder
@given(grids())
def test_round_trip(tmp_path: Path, grid: EmbeddingGrid) -> None:
    path = tmp_path / "a.grid"
    write_grid(grid, path)
    found = read_grid(path)
    assert isinstance(found.embeddings, np.memmap)
    assert found.embeddings.dtype == grid.embeddings.dtype
    np.testing.assert_array_equal(found.embeddings, grid.embeddings)
    np.testing.assert_array_equal(found.valid, grid.valid)
    assert found.header == grid.header
    assert found.digest() == grid.digest()


@shared_folder
@given(grids())
def test_the_digest_is_sha256_of_the_file(tmp_path: Path, grid: EmbeddingGrid) -> None:
    path = tmp_path / "a.grid"
    write_grid(grid, path)
    assert grid.digest() == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_the_file_is_what_the_safetensors_library_reads(tmp_path: Path) -> None:
    grid = make_grid(dtype="float16")
    write_grid(grid, tmp_path / "a.grid")
    arrays = load_file(tmp_path / "a.grid")
    np.testing.assert_array_equal(arrays["embeddings"], grid.embeddings)
    np.testing.assert_array_equal(arrays["valid"], grid.valid)
    with safe_open(tmp_path / "a.grid", "numpy") as file:
        assert json.loads(file.metadata()["grid"])["encoder"]["name"] == "tiny"


def test_a_georeferenced_reference_survives(tmp_path: Path) -> None:
    reference = Reference("a.tif", 10, 20, None, "EPSG:32633", (0.6, 0.0, 5e5, 0.0, -0.6, 4.2e6))
    write_grid(replace(make_grid(), reference=reference), tmp_path / "a.grid")
    assert read_grid(tmp_path / "a.grid").reference == reference


def test_description_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "a.grid"
    grid = make_grid()
    write_grid(grid, path)
    code = (
        "import json, sys; from patchloom.grids.file import describe; "
        "print(json.dumps(describe(sys.argv[1]))); assert 'torch' not in sys.modules"
    )
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    told = json.loads(out.stdout)
    assert told == describe(path)
    assert (told["rows"], told["cols"], told["dim"]) == (3, 4, 5)
    assert told["valid_cells"] == int(grid.valid.sum())
    assert told["pixel_size"] == "0.5um"
    assert told["encoder"]["name"] == "tiny"


@shared_folder
@given(data=st.data())
def test_a_file_cut_short_or_grown_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.grid"
    write_grid(make_grid(), path)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    for content in (whole[:cut], whole + b"x"):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"a\.grid"):
            read_grid(path)
        with pytest.raises(FormatError):
            describe(path)


@shared_folder
@given(data=st.data())
def test_a_damaged_header_is_an_error_of_ours_or_the_same_grid(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.grid"
    grid = make_grid()
    write_grid(grid, path)
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    content[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = read_grid(path)
    except FormatError:
        return
    assert found.embeddings.shape == grid.embeddings.shape


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a grid"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a grid"),
        ((2).to_bytes(8, "little") + b"[]", "not a JSON mapping"),
        ((2).to_bytes(8, "little") + b"{}", "not a grid"),
        ((2**60).to_bytes(8, "little") + bytes(100), "not a grid"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.grid"
    path.write_bytes(content)
    assert not is_grid(path)
    with pytest.raises(FormatError, match=message):
        read_grid(path)


def test_a_missing_file_and_a_folder_are_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "none.grid", tmp_path):
        assert not is_grid(path)
        with pytest.raises(MissingError, match="no grid file"):
            read_grid(path)


def rewritten(path: Path, arrays: dict[str, Any] | None = None, **changes: str) -> None:
    """The file written again by the library, some arrays and metadata changed."""
    with safe_open(path, "numpy") as file:
        metadata = file.metadata() | changes
    save_file(arrays if arrays is not None else load_file(path), path, metadata)


def test_each_wrong_part_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.grid"

    def refused(message: str, arrays: dict[str, Any] | None = None, **changes: str) -> None:
        write_grid(make_grid(), path)
        rewritten(path, arrays, **changes)
        with pytest.raises(FormatError, match=message):
            read_grid(path)

    write_grid(make_grid(), path)
    assert is_grid(path)
    parts = load_file(path)
    nan = parts["embeddings"].copy()
    nan[0, 0, 0] = np.nan
    refused("version 2", version="2")
    refused("not a grid", format="other")
    refused("not JSON", grid="{")
    refused("missing `cell_px`", grid="{}")
    refused(r"holds `embeddings` and `valid`", {"valid": parts["valid"]})
    refused(r"holds `embeddings` and `valid`", parts | {"more": parts["valid"]})
    refused("NaN or infinity", parts | {"embeddings": nan})
    refused("F64", parts | {"embeddings": parts["embeddings"].astype(np.float64)})
    refused("do not fit", parts | {"valid": parts["valid"][:2].copy()})
    refused("no valid cell", parts | {"valid": np.zeros_like(parts["valid"])})


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.grid"
    write_grid(make_grid(), path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(CapacityError, match=r"needs 80,400 bytes"):
            write_grid(make_grid(rows=20, cols=20, dim=50), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["a.grid"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no folder"):
        write_grid(make_grid(), tmp_path / "none" / "a.grid")
