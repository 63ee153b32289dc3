"""`patchloom generate` of a part alone, of a region of an earlier image, and by workers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tests.cli.test_generate_and_sample import grid, patchloom, pixels

from patchloom.autoencoders.files import load_autoencoder
from patchloom.loom.latents import read_latents
from patchloom.pipelines.edit import latents_beside
from patchloom.rasters import describe

__all__ = ["grid"]  # a fixture


def test_a_part_alone_is_the_crop_of_the_whole(pipeline: Path, grid: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.png", tmp_path / "part.png"
    assert patchloom("generate", pipeline, "--grid", grid, "-o", whole).exit_code == 0
    result = patchloom("generate", pipeline, "--grid", grid, "-o", part, "--only", "41,7,50,33", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["size_px"] == [33, 50]
    assert json.loads(result.stdout)["canvas_px"] == [96, 128]
    np.testing.assert_array_equal(pixels(part), pixels(whole)[:, 7:40, 41:91])
    assert describe(part)["provenance"]["only_xywh"] == [41, 7, 50, 33]
    outside = patchloom("generate", pipeline, "--grid", grid, "-o", part, "--only", "100,0,50,33")
    assert "does not lie inside the image of 128 x 96 px" in outside.stderr


def test_a_region_of_an_earlier_image_is_made_anew(pipeline: Path, grid: Path, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
    again = (pipeline, "--grid", grid, "--region", "64,32,32,40", "--seed", 3)
    assert patchloom("generate", pipeline, "--grid", grid, "-o", first, "--save-latents").exit_code == 0
    result = patchloom("generate", *again, "-o", second, "--keep", first, "--save-latents", "--json")
    assert result.exit_code == 0, result.output
    before, after = (read_latents(latents_beside(path)).array for path in (first, second))
    inside = np.zeros(before.shape[1:], bool)
    inside[4:9, 8:12] = True
    np.testing.assert_array_equal(after[:, ~inside], before[:, ~inside])
    assert (after[:, inside] != before[:, inside]).mean() > 0.9
    reach = read_record_reach(pipeline)
    far = np.ones((96, 128), bool)
    far[max(32 - reach, 0) : 72 + reach, max(64 - reach, 0) : 96 + reach] = False
    np.testing.assert_array_equal(pixels(second)[:, far], pixels(first)[:, far])
    assert describe(second)["provenance"]["edit"]["region_xywh"] == [64, 32, 32, 40]
    whole = json.loads(patchloom("generate", pipeline, "--grid", grid, "-o", third, "--dry-run", "--json").stdout)
    assert 0 < json.loads(result.stdout)["network_evaluations"] < whole["network_evaluations"]
    missing = patchloom("generate", *again, "-o", third, "--keep", tmp_path / "none.png")
    assert f"there is no file `{tmp_path / 'none.png'}` to keep" in missing.stderr
    first.with_name("bare.png").write_bytes(first.read_bytes())
    bare = patchloom("generate", *again, "-o", third, "--keep", first.with_name("bare.png"))
    assert "has no latents beside it" in bare.stderr
    edit = ("generate", pipeline, "--grid", grid, "-o", third, "--keep", first, "--region")
    assert (
        "8 px a side and made anew as a whole; the region around it that does not is 0,8,16,16"
        in patchloom(*edit, "3,9,8,8").stderr
    )
    assert "100,0,50,33 does not lie inside the image of 128 x 96 px" in patchloom(*edit, "100,0,50,33").stderr


def read_record_reach(pipeline: Path) -> int:
    autoencoder = load_autoencoder(pipeline / "autoencoder")
    return autoencoder.receptive_field * autoencoder.factor


def test_workers_make_the_same_file(pipeline: Path, grid: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    assert patchloom("generate", pipeline, "--grid", grid, "-o", one).exit_code == 0
    result = patchloom("generate", pipeline, "--grid", grid, "-o", two, "--workers", 2)
    assert result.exit_code == 0, result.output
    assert two.read_bytes() == one.read_bytes()


def test_a_wrapped_image_is_its_own_and_a_part_of_it_its_crop(pipeline: Path, grid: Path, tmp_path: Path) -> None:
    flat, whole, part = (tmp_path / name for name in ("flat.png", "whole.png", "part.png"))
    wrapped = ("generate", pipeline, "--grid", grid, "--wrap", "both")
    assert patchloom("generate", pipeline, "--grid", grid, "-o", flat).exit_code == 0
    result = patchloom(*wrapped, "-o", whole, "--save-latents")
    assert result.exit_code == 0, result.output
    assert (pixels(whole) != pixels(flat)).any()
    assert describe(whole)["provenance"]["settings"]["wrap"] == "both"
    assert patchloom(*wrapped, "-o", part, "--only", "90,0,38,33").exit_code == 0
    np.testing.assert_array_equal(pixels(part), pixels(whole)[:, :33, 90:])
    edited = patchloom(*wrapped, "-o", flat, "--keep", whole, "--region", "0,0,32,32", "--seed", 4)
    assert edited.exit_code == 0, edited.output
    reach = read_record_reach(pipeline)
    far = slice(32 + reach, 96 - reach), slice(32 + reach, 128 - reach)
    np.testing.assert_array_equal(pixels(flat)[:, *far], pixels(whole)[:, *far])


def test_what_cannot_wrap_is_refused(pipeline: Path, grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    said = patchloom("generate", pipeline, "--grid", grid, "-o", out, "--wrap", "x", "--recipe", "official")
    assert "the official recipe makes images with edges" in said.stderr
    assert "'x', 'y', 'both'" in patchloom("generate", pipeline, "--grid", grid, "-o", out, "--wrap", "z").stderr
