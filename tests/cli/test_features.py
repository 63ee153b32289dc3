"""Feature files that users already have, through `info`, `generate` and `sample`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from patchloom.cli.main import main
from patchloom.geometry import PixelSize
from patchloom.grids.features import write_features
from patchloom.grids.file import read_grid
from patchloom.grids.layouts import Layout

LAYOUTS: tuple[Layout, ...] = ("clam", "trident", "stamp")
ASKED = ("--slide-pixel-size", "0.5um", "--grid-encoder", "tiny")


def patchloom(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture(scope="module")
def grid(pipeline: Path, picture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The picture's cells as the tiny pipeline needs them, every cell valid."""
    path = tmp_path_factory.mktemp("features") / "picture.grid"
    said = ("--pipeline", pipeline, "--slide-pixel-size", "0.5um", "--valid", "all")
    done = patchloom("embed", picture, "-o", path, *said, "--device", "cpu", "--dtype", "fp32")
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture(scope="module", params=LAYOUTS)
def features(request: pytest.FixtureRequest, grid: Path) -> tuple[Path, Layout]:
    """The same cells as another laboratory's tool would have left them."""
    path = grid.with_name(f"{request.param}.h5")
    own = read_grid(grid)
    assert own.reference is not None
    at_half = replace(own, reference=replace(own.reference, pixel_size=PixelSize(0.5e-6)))
    write_features(replace(at_half, embeddings=at_half.embeddings.astype(np.float32)), path, request.param)
    return path, request.param


def test_info_says_what_a_feature_file_holds(features: tuple[Path, Layout]) -> None:
    path, layout = features
    facts = json.loads(patchloom("info", path, "--json").stdout)
    assert (facts["kind"], facts["layout"], facts["patches"], facts["dtype"]) == ("features", layout, 6, "float32")
    assert facts["patch_px"] == 64
    assert facts["pixel_size_m"] == (pytest.approx(0.5e-6) if layout == "stamp" else None)
    assert facts["encoder"] == ("tiny" if layout == "stamp" else None)


def test_info_of_a_feature_file_loads_no_torch_and_no_array(features: tuple[Path, Layout]) -> None:
    code = (
        "import sys; from pathlib import Path; from patchloom.pipelines.facts import facts_of;"
        "facts_of(Path(sys.argv[1]));"
        "sys.exit('torch' in sys.modules or 'h5py' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(features[0])], check=False).returncode == 0


def test_a_feature_file_makes_the_image_of_its_grid(
    features: tuple[Path, Layout], pipeline: Path, grid: Path, tmp_path: Path
) -> None:
    path, layout = features
    said = ASKED if layout != "stamp" else ASKED[2:]
    here = ("--device", "cpu", "--dtype", "fp32")
    through, direct = tmp_path / "a.png", tmp_path / "b.png"
    made = patchloom("generate", pipeline, "--grid", path, *said, "-o", through, *here)
    assert made.exit_code == 0, made.output
    assert "does not say which weights made it; they are taken to be those of `tiny`" in made.stderr
    assert patchloom("generate", pipeline, "--grid", grid, "-o", direct, *here).exit_code == 0
    one, other = (np.asarray(Image.open(image)).astype(int) for image in (through, direct))
    assert one.shape == other.shape
    assert np.abs(one - other).mean() < 1  # the grid is float16, and tells its canvas
    sheet = patchloom("sample", pipeline, "--grid", path, *said, "-o", tmp_path / "sheet.png", "--count", 2, *here)
    assert sheet.exit_code == 0, sheet.output
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape == (64, 64 * 2 + 4, 3)


@pytest.mark.parametrize("verb", ["generate", "sample"])
def test_what_a_feature_file_leaves_out_is_asked_for(verb: str, pipeline: Path, grid: Path, tmp_path: Path) -> None:
    own, clam = read_grid(grid), tmp_path / "clam.h5"
    write_features(own, clam, "clam")

    def told(path: Path, *said: object) -> str:
        result = patchloom(verb, pipeline, "--grid", path, *said, "-o", tmp_path / "a.png", "--device", "cpu")
        assert result.exit_code == 1, result.output
        return result.stderr

    assert "say so with --grid-encoder tiny" in told(clam)
    assert "such as --slide-pixel-size 0.2527um" in told(clam, *ASKED[2:])
    assert "holds embeddings of `uni`, pipeline `tiny` follows those of `tiny`" in told(clam, "--grid-encoder", "uni")
    assert "64 px of 0.25um, those of pipeline `tiny` 64 px of 0.5um" in told(
        clam, *ASKED[2:], "--slide-pixel-size", "0.25um"
    )
    assert "is no feature file in HDF5" in told(grid, *ASKED)
    short = tmp_path / "short.h5"
    short.write_bytes(clam.read_bytes()[:900])
    assert "damaged or cut short" in told(short, *ASKED)
    assert not (tmp_path / "a.png").exists()
