"""`patchloom mosaic`: what it writes can be opened again at the right pixel size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from patchloom.cli.main import main
from patchloom.rasters.opening import open_raster


@pytest.mark.parametrize("name", ["town.tif", "town.png"])
def test_a_mosaic_is_lossless_and_knows_its_pixel_size(name: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    said = ["mosaic", *(str(tmp_path / f"{n}.png") for n in range(2)), "-o", str(tmp_path / name), "--side", "32"]
    result = CliRunner().invoke(main, [*said, "--slide-pixel-size", "0.3m", "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["size_px"], facts["rows"], facts["columns"]) == ([32, 64], 1, 2)
    with open_raster(tmp_path / name) as raster:
        assert raster.frame.pixel_size is not None
        assert raster.frame.pixel_size.metres == pytest.approx(0.3)
        joined = np.concatenate([picture[4:36, 4:36] for picture in pixels], axis=1)
        assert (raster.read(raster.frame.box) == joined.transpose(2, 0, 1)).all()


def test_pictures_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    result = CliRunner().invoke(
        main, ["mosaic", str(tmp_path / "small.png"), "-o", str(tmp_path / "m.png"), "--slide-pixel-size", "0.3m"]
    )
    assert (result.exit_code, (tmp_path / "m.png").exists()) == (1, False)
    assert "smaller than a square of 256 px" in result.output


def test_a_suffix_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["mosaic", str(tmp_path / "gone.png"), "-o", str(tmp_path / "m.jpg")])
    assert result.exit_code == 1
    assert "m.jpg` should be; end it in .tif, .ome.tif or .png" in result.stderr
