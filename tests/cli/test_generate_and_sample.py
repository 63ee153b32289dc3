"""`patchloom generate` and `patchloom sample` with a tiny pipeline: files, resuming, refusals."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from patchloom.cli.main import main
from patchloom.fields.directory import DirectoryStore
from patchloom.rasters import describe, open_raster

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def patchloom(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--device", "cpu", "--dtype", "fp32"])


def pixels(path: Path) -> Pixels:
    with open_raster(path) as raster:
        return raster.read(raster.frame.box)


@pytest.fixture(scope="module")
def grid(pipeline: Path, picture: Path) -> Path:
    """The picture's cells as the tiny pipeline needs them."""
    path = picture.with_name("picture.grid")
    said = patchloom("embed", picture, "-o", path, "--pipeline", pipeline, "--slide-pixel-size", "0.5um", "--batch", 4)
    assert said.exit_code == 0, said.output
    return path


def test_a_grid_becomes_an_image(pipeline: Path, grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    result = patchloom("generate", pipeline, "--grid", grid, "-o", out, "--compression", "deflate", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["path"], facts["size_px"], facts["pixel_size"]) == (str(out), [96, 128], "0.5um")
    found = describe(out)
    assert (found["size_px"], found["provenance"]["synthetic"]) == ([96, 128], True)
    assert found["pixel_size_m"] == pytest.approx(0.5e-6)
    assert result.stderr.splitlines()[-1] == "write: 96 of 96"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.tif"]


def test_a_reference_is_embedded_on_the_way(pipeline: Path, grid: Path, picture: Path, tmp_path: Path) -> None:
    through_grid, direct = tmp_path / "a.png", tmp_path / "b.png"
    assert patchloom("generate", pipeline, "--grid", grid, "-o", through_grid).exit_code == 0
    said = ("--reference", picture, "--slide-pixel-size", "0.5um")
    assert patchloom("generate", pipeline, *said, "-o", direct).exit_code == 0
    np.testing.assert_array_equal(pixels(direct), pixels(through_grid))


def test_another_seed_is_another_image(pipeline: Path, grid: Path, tmp_path: Path) -> None:
    for seed, name in ((0, "a.png"), (1, "b.png"), (0, "c.png")):
        assert patchloom("generate", pipeline, "--grid", grid, "-o", tmp_path / name, "--seed", seed).exit_code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_a_dry_run_counts_and_makes_nothing(pipeline: Path, grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    once = json.loads(patchloom("generate", pipeline, "--grid", grid, "-o", out, "--dry-run", "--json").stdout)
    twice = ("--guidance", 2, "--dry-run", "--json")
    guided = json.loads(patchloom("generate", pipeline, "--grid", grid, "-o", out, *twice).stdout)
    assert guided["network_evaluations"] == 2 * once["network_evaluations"] > 0
    assert not out.exists()


def test_an_interrupted_image_is_finished_by_the_same_command(
    pipeline: Path, grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.png", tmp_path / "out.png"
    assert patchloom("generate", pipeline, "--grid", grid, "-o", whole, "--batch", 2).exit_code == 0
    put, kept = DirectoryStore.put, []

    def interrupted(store: DirectoryStore, key: str, index: int, tile: Pixels) -> None:
        put(store, key, index, tile)
        kept.append((key, index))
        if len(kept) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(DirectoryStore, "put", interrupted)
    stopped = patchloom("generate", pipeline, "--grid", grid, "-o", out, "--batch", 2)
    assert (stopped.exit_code, stopped.stderr.splitlines()[-1]) == (130, "Interrupted.")
    assert not out.exists()
    other = patchloom("generate", pipeline, "--grid", grid, "-o", out, "--batch", 2, "--seed", 5)
    assert other.exit_code == 1
    assert "Repeat that command to finish it, name another folder with --work" in other.stderr

    assert patchloom("generate", pipeline, "--grid", grid, "-o", out, "--batch", 2).exit_code == 0
    assert len(set(kept)) == len(kept)
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / ".out.png.work").exists()


def test_the_lines_of_the_readme_run(
    pipeline: Path, grid: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("src/patchloom/samples").mkdir(parents=True)
    shutil.copy(grid, "src/patchloom/samples/gallbladder.grid")
    exec(lines.replace("he-foundation", str(pipeline)), {})
    assert describe("section.tif")["size_px"] == [96, 128]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ((), "say what the image should show: either --grid or --reference"),
        (("--grid", "a", "--reference", "b"), "--reference and --region take the place of --grid"),
        (("--grid", "a", "--region", "0,0,9,9"), "--reference and --region take the place of --grid"),
    ],
)
def test_one_source_is_asked_for(pipeline: Path, said: tuple[str, ...], message: str) -> None:
    result = patchloom("generate", pipeline, *said, "-o", "out.png")
    assert result.exit_code == 2
    assert message in result.stderr


def test_what_does_not_belong_together_is_refused(pipeline: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.grid"
    said = ("--slide-pixel-size", "0.5um", "--patch", 32, "--valid", "all", "--encoder", "tiny")
    assert patchloom("embed", picture, "-o", other, *said).exit_code == 0
    result = patchloom("generate", pipeline, "--grid", other, "-o", tmp_path / "out.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "other.grid` see 32 px of 0.5um, those of pipeline `tiny` 64 px of 0.5um" in result.stderr
    both = patchloom("embed", picture, "-o", other, "--pipeline", pipeline, "--patch", 32)
    assert (both.exit_code, "leave out --pixel-size, --patch and --encoder" in both.stderr) == (2, True)
    missing = patchloom("generate", tmp_path / "nowhere", "--grid", other, "-o", tmp_path / "out.png")
    assert missing.stderr.startswith(
        f"Error: `{tmp_path}/nowhere` is neither a folder with a pipeline.json nor a preset"
    )


@pytest.mark.parametrize(
    ("said", "shape"),
    [
        (("--count", 3), (64, 64 * 3 + 4 * 2)),
        (("--cell", "0,1", "--cell", "1,0"), (64, 64 * 2 + 4)),
        (("--cell", "0,1", "--variations", "--count", 2), (64, 64 * 2 + 4)),
        (("--between", "--count", 5), (64, 64 * 5 + 4 * 4)),
    ],
)
def test_contact_sheets(
    pipeline: Path, grid: Path, tmp_path: Path, said: tuple[object, ...], shape: tuple[int, int]
) -> None:
    out = tmp_path / "sheet.png"
    result = patchloom("sample", pipeline, "--grid", grid, "-o", out, *said)
    assert result.exit_code == 0, result.output
    assert np.asarray(Image.open(out)).shape == (*shape, 3)


def test_references_stand_above(pipeline: Path, grid: Path, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    result = patchloom("sample", pipeline, "--grid", grid, "-o", out, "--cell", "1,2", "--reference", picture)
    assert result.exit_code == 0, result.output
    sheet, whole = np.asarray(Image.open(out)), np.asarray(Image.open(picture))
    assert sheet.shape == (64 * 2 + 4, 64, 3)
    np.testing.assert_array_equal(sheet[:64], whole[32:96, 64:128])
    assert "the patches above" not in result.stderr


def test_another_slide_above_is_said(pipeline: Path, grid: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    shutil.copy(picture, other)
    result = patchloom("sample", pipeline, "--grid", grid, "-o", tmp_path / "s.png", "--count", 1, "--reference", other)
    assert f"embedded from `{picture.name}`, the patches above are of `other.png`" in result.stderr


def test_a_cell_that_is_not_there(pipeline: Path, grid: Path, tmp_path: Path) -> None:
    result = patchloom("sample", pipeline, "--grid", grid, "-o", tmp_path / "a.png", "--cell", "99,0")
    assert (result.exit_code, "cell 99,0 is background or outside" in result.stderr) == (1, True)
    wrong = patchloom("sample", pipeline, "--grid", grid, "-o", tmp_path / "a.png", "--cell", "x")
    assert (wrong.exit_code, "cell `x` is not ROW,COL" in wrong.stderr) == (2, True)
