"""Slides as scanners' vendors write them: recognised, read by region, and as long in the pixel as they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.rasters.vendors import HEIGHT, VENDORS, WIDTH, Vendor, colours

from patchloom.errors import InputError
from patchloom.geometry import Box, PixelSize
from patchloom.rasters import Raster, Rescaled, describe, open_raster

JPEG = 6  # mean difference of colours that compression leaves


@pytest.fixture(scope="module", params=VENDORS, ids=[name.replace(" ", "-").replace(",", "") for name in VENDORS])
def slide(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Raster, Path, Vendor]]:
    vendor = VENDORS[request.param]
    path = tmp_path_factory.mktemp("vendor") / f"a.{vendor.suffix}"
    vendor.write(path, vendor.told)
    with open_raster(path) as raster:
        yield raster, path, vendor


def test_the_vendor_the_levels_and_the_pixel_size_are_known(slide: tuple[Raster, Path, Vendor]) -> None:
    raster, path, vendor = slide
    said = describe(path)
    assert (said["format"], tuple(said["size_px"])) == (vendor.format, vendor.size)
    assert [level["downsample"] for level in said["levels"]] == [1.0, 2.0]
    expected = None if vendor.pixel_um is None else pytest.approx(vendor.pixel_um * 1e-6)
    assert said["pixel_size_m"] == expected
    assert said.get("pixel_size_from") == (vendor.objective and f"the objective, {vendor.objective:g}x")
    assert len(raster.doubts) == (0 if vendor.objective is None else 1)


def test_pixels_come_by_region_and_what_was_not_scanned_is_white_and_not_valid(
    slide: tuple[Raster, Path, Vendor],
) -> None:
    raster, _, vendor = slide
    box = Box(100, 200, 150, 300)
    wrong = np.abs(raster.read(box).astype(int) - colours().transpose(2, 0, 1)[:, *box.inside(raster.frame.box)])
    assert wrong.mean() < JPEG
    assert raster.valid(box).all()
    if vendor.size != (HEIGHT, WIDTH):
        outside = Box(HEIGHT + 10, WIDTH + 10, 50, 60)
        assert not raster.valid(outside).any()
        assert (raster.read(outside) == 255).all()


def test_a_slide_at_half_its_resolution_is_its_second_level(slide: tuple[Raster, Path, Vendor]) -> None:
    raster, path, vendor = slide
    if vendor.pixel_um is None:
        with pytest.raises(InputError, match="--slide-pixel-size"):
            Rescaled(raster, PixelSize(1e-6))
        return
    with open_raster(path) as again:
        half = Rescaled(again, PixelSize(2 * vendor.pixel_um * 1e-6))
        assert half.frame.box.shape == tuple(side // 2 for side in vendor.size)
        pixels = half.read(Box(10, 20, 64, 64)).astype(int)
    means = colours()[20:148, 40:168].reshape(64, 2, 64, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.abs(pixels - means).mean() < JPEG


def test_the_user_s_word_outweighs_the_objective(tmp_path: Path) -> None:
    vendor = VENDORS["aperio, objective alone"]
    vendor.write(tmp_path / "a.svs", vendor.told)
    with open_raster(tmp_path / "a.svs") as raster:
        (doubt,) = raster.doubts
        assert "`a.svs` states an objective of 40x" in doubt
        assert "0.25um follows from it" in doubt
    with open_raster(tmp_path / "a.svs", PixelSize(0.2e-6)) as raster:
        assert (raster.frame.pixel_size, raster.doubts) == (PixelSize(0.2e-6), ())
