"""`patchloom info` on files and folders of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from patchloom import records
from patchloom.cli.main import main
from patchloom.geometry import PixelSize
from patchloom.grids.file import write_grid
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.reference import Reference
from patchloom.grids.spec import EncoderSpec
from patchloom.pipelines.record import ConditionSpec, PipelineRecord, Training


def info(*arguments: str | Path) -> tuple[int, list[str], list[str]]:
    result = CliRunner().invoke(main, ["info", *map(str, arguments)])
    return result.exit_code, result.stdout.splitlines(), result.stderr.splitlines()


def test_a_dataset_counts_its_plots(tmp_path: Path) -> None:
    plots = [{"name": name, "split": split} for name, split in (("a", "train"), ("b", "test"), ("c", "train"))]
    record = {"format": 1, "patch_px": 256, "encoder": {"name": "uni"}, "plots": plots}
    (tmp_path / "dataset.json").write_text(json.dumps(record))
    said = [
        "kind: dataset",
        "format: 1",
        "patch: 256 px",
        "encoder:",
        "  name: uni",
        "plots:",
        "  train: 2",
        "  test: 1",
    ]
    assert info(tmp_path) == (0, said, [])
    status, lines, _ = info(tmp_path, "--json")
    assert status == 0
    assert json.loads("\n".join(lines)) == {"kind": "dataset", **record, "plots": {"train": 2, "test": 1}}


def test_a_pipeline(tmp_path: Path) -> None:
    spec = EncoderSpec("uni", 4, 224, (0.5,) * 3, (0.5,) * 3, "MIT", "sha256:" + "0" * 64)
    condition, training = ConditionSpec(256, (128, 256)), Training("sections", "CC0-1.0", 10, 0.5, "a CPU")
    record = PipelineRecord(1, "small", "0.5um", 256, 8, 4, spec, condition, (243, 242, 244), {}, training)
    (tmp_path / "pipeline.json").write_text(json.dumps(records.dump(record)))
    status, lines, _ = info(tmp_path)
    assert status == 0
    assert {"kind: pipeline", "name: small", "pixel size: 0.5um", "patch: 256 px", "  name: uni"} <= set(lines)


def test_what_is_not_there(tmp_path: Path) -> None:
    assert info(tmp_path / "gone") == (1, [], [f"Error: there is no file or folder `{tmp_path}/gone`"])


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    message = (
        f"Error: folder `{tmp_path}` holds neither dataset.json nor pipeline.json, so it is no dataset and no pipeline"
    )
    assert info(tmp_path) == (1, [], [message])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dataset.json", "{", "is no record of a dataset: JSONDecodeError"),
        ("dataset.json", "[1]", "is no record of a dataset"),
        ("pipeline.json", "{", "is not JSON"),
        ("pipeline.json", '{"formt": 1}', "unknown key `formt`; did you mean `format`?"),
    ],
)
def test_a_broken_record(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    status, lines, (error,) = info(tmp_path)
    assert (status, lines) == (1, [])
    assert f"{tmp_path}/{name}" in error
    assert message in error


def test_a_grid(tmp_path: Path) -> None:
    encoder = EncoderSpec("uni", 4, 224, (0.5,) * 3, (0.5,) * 3, "MIT", "sha256:" + "0" * 64)
    cells = np.ones((2, 3, 4), np.float16)
    valid = np.array([[True, True, False], [True, True, True]])
    reference = Reference("a.svs", 900, 1000, PixelSize(0.25e-6))
    grid = EmbeddingGrid(cells, valid, 256, 128, (0.0, 0.0), (384, 512), PixelSize(0.5e-6), encoder, reference)
    write_grid(grid, tmp_path / "a.grid")
    status, lines, _ = info(tmp_path / "a.grid")
    assert status == 0
    said = {"kind: grid", "rows: 2", "cols: 3", "valid cells: 5", "stride: 128 px", "pixel size: 0.5um", "  name: uni"}
    assert said <= set(lines)
    assert {"  name: a.svs", "  pixel size: 0.25um"} <= set(lines)


def test_a_slide(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.full((32, 48, 3), 200, np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(16, 16), resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    status, lines, _ = info(path)
    assert status == 0
    assert {"kind: slide", "name: a.tif", "size: 48 x 32 px (width x height)", "pixel size: 0.5um"} <= set(lines)


def test_what_is_neither(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing to see")
    status, lines, errors = info(path)
    assert (status, lines) == (1, [])
    assert errors[0].startswith(f"Error: `{path}` is no picture that Patchloom reads")
    assert errors[0].endswith("nor is it a grid, or a feature file of CLAM, TRIDENT or STAMP")
