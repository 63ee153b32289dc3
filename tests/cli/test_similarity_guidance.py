"""`patchloom generate --similarity-guidance`: another image, said in its provenance, and refused where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from patchloom.cli.main import main
from patchloom.rasters import describe

HOW = ("--steps", 4, "--window", 16, "--core", 12)


def patchloom(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--device", "cpu", "--dtype", "fp32"])


@pytest.fixture(scope="module")
def grid(pipeline: Path, picture: Path) -> Path:
    """The picture's cells as the tiny pipeline needs them."""
    path = picture.with_name("picture.grid")
    said = patchloom("embed", picture, "-o", path, "--pipeline", pipeline, "--slide-pixel-size", "0.5um", "--batch", 4)
    assert said.exit_code == 0, said.output
    return path


def test_it_makes_another_image_and_says_so(pipeline: Path, grid: Path, tmp_path: Path) -> None:
    for strength, name in ((0, "off.tif"), (0.3, "on.tif")):
        said = ("-o", tmp_path / name, *HOW, "--similarity-guidance", strength)
        result = patchloom("generate", pipeline, "--grid", grid, *said)
        assert result.exit_code == 0, result.output
        assert describe(tmp_path / name)["provenance"]["settings"]["similarity"]["strength"] == strength
    assert (tmp_path / "off.tif").read_bytes() != (tmp_path / "on.tif").read_bytes()


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [(("-1",), 2, "x>=0"), (("0.1", "--null-every", 2, "--guidance", 3), 1, "--null-every")],
)
def test_what_cannot_be_is_refused(
    pipeline: Path, grid: Path, tmp_path: Path, more: tuple[object, ...], code: int, words: str
) -> None:
    out = tmp_path / "out.tif"
    result = patchloom("generate", pipeline, "--grid", grid, "-o", out, *HOW, "--similarity-guidance", *more)
    assert words in result.stderr
    assert result.exit_code == code
    assert not out.exists()
