"""Vendors' slides through the verbs, as a user has them: nothing but the file is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.rasters.vendors import HEIGHT, VENDORS, WIDTH

from patchloom.cli.main import main
from patchloom.grids.file import read_grid
from patchloom.rasters import describe

KNOWN = [name for name, vendor in VENDORS.items() if vendor.pixel_um is not None]


def patchloom(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def slide(name: str, folder: Path) -> Path:
    vendor = VENDORS[name]
    path = folder / f"a.{vendor.suffix}"
    vendor.write(path, vendor.told)
    return path


@pytest.mark.parametrize("name", KNOWN)
def test_a_slide_is_described_embedded_and_regenerated(name: str, pipeline: Path, tmp_path: Path) -> None:
    vendor, path, here = VENDORS[name], slide(name, tmp_path), ("--device", "cpu", "--dtype", "fp32")
    facts = json.loads(patchloom("info", path, "--json").stdout)
    assert (facts["kind"], facts["format"], tuple(facts["size_px"])) == ("slide", vendor.format, vendor.size)
    assert vendor.pixel_um is not None
    done = patchloom("embed", path, "-o", tmp_path / "a.grid", "--pipeline", pipeline, "--stride", 64, "--json", *here)
    assert done.exit_code == 0, done.output
    grid, scale = read_grid(tmp_path / "a.grid"), vendor.pixel_um / 0.5
    assert grid.reference is not None
    assert grid.reference.pixel_size is not None
    assert grid.reference.pixel_size.metres == pytest.approx(vendor.pixel_um * 1e-6)
    assert int(grid.valid.sum()) == int(HEIGHT * scale / 64 + 0.1) * int(WIDTH * scale / 64 + 0.1)
    region = ("--region", f"0,0,{round(256 / scale)},{round(128 / scale)}", "--seed", 1, "--stride", 64)
    made = patchloom("generate", pipeline, "--reference", path, "-o", tmp_path / "a.tif", *region, *here)
    assert made.exit_code == 0, made.output
    assert (describe(tmp_path / "a.tif")["size_px"], describe(tmp_path / "a.tif")["pixel_size_m"]) == (
        [128, 256],
        pytest.approx(0.5e-6, rel=0.02),
    )
    for said in (done, made):
        assert ("states an objective of" in said.stderr) == (vendor.objective is not None)


def test_a_pixel_size_that_follows_from_the_objective_says_so(tmp_path: Path) -> None:
    path = slide("aperio, objective alone", tmp_path)
    assert {"pixel size: 0.25um", "pixel size from: the objective, 40x"} <= set(
        patchloom("info", path).stdout.splitlines()
    )
    out = tmp_path / "data"
    said = ("--encoder", "none", "--patch", 64, "--stride", 64, "--plot", 256, "--test", 0, "--val", 0, "--views", 1)
    prepared = patchloom("prepare", path, "-o", out, *said)
    assert prepared.exit_code == 0, prepared.output
    assert prepared.stderr.count("Note: `a.svs` states an objective of 40x") == 1
    told = patchloom("prepare", path, "-o", tmp_path / "told", *said, "--slide-pixel-size", "0.25um")
    assert "Note" not in told.stderr


def test_a_slide_without_pixel_size_and_objective_asks_in_every_verb(pipeline: Path, tmp_path: Path) -> None:
    path = slide("aperio, nothing told", tmp_path)
    assert "pixel size: not stated" in patchloom("info", path).stdout.splitlines()
    asked = "`a.svs` does not say how long its pixels are; say it with `--slide-pixel-size`"
    embedded = patchloom("embed", path, "-o", tmp_path / "a.grid", "--encoder", "tiny")
    made = patchloom("generate", pipeline, "--reference", path, "-o", tmp_path / "a.tif")
    prepared = patchloom("prepare", path, "-o", tmp_path / "data", "--encoder", "none", "--test", 0, "--val", 0)
    assert [asked in said.output for said in (embedded, made, prepared)] == [True] * 3
    assert (embedded.exit_code, made.exit_code, prepared.exit_code) == (1, 1, 1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.svs", "data"]
