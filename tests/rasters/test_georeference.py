"""Places on Earth: rasterio and the published pixel sizes of real files are the oracles."""

from __future__ import annotations

from math import cos, radians
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import transform as project
from tests.rasters.examples import picture, write_geotiff

from patchloom.errors import GeometryError
from patchloom.geometry import Box
from patchloom.rasters import GeoReference, open_raster
from patchloom.rasters.georeference import ground_pixel_size

numbers = st.floats(-1e6, 1e6)


@given(st.tuples(numbers, numbers, numbers, numbers, numbers, numbers), st.integers(0, 999), st.integers(0, 999))
def test_cropping_moves_the_corner_as_affine_has_it(
    transform: tuple[float, float, float, float, float, float], y: int, x: int
) -> None:
    expected = rasterio.Affine(*transform) @ rasterio.Affine.translation(x, y)
    assert np.allclose(GeoReference("", transform).cropped(Box(y, x, 5, 5)).transform, tuple(expected)[:6])


@given(st.floats(0.01, 100), st.floats(0, 1000), st.floats(0, 1000))
def test_rescaling_keeps_places(factor: float, row: float, col: float) -> None:
    geo = GeoReference("", (0.6, 0.1, 435416.4, 0.2, -0.6, 3774381.6))
    assert np.allclose(geo.rescaled(factor).at(row, col), geo.at(row * factor, col * factor))


def test_rescaling_by_nothing_is_refused() -> None:
    with pytest.raises(GeometryError, match="positive"):
        GeoReference("", (1, 0, 0, 0, -1, 0)).rescaled(0)


@pytest.mark.parametrize("latitude", [0.0, 14.5, 39.0, -60.0])
@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:3395"])
def test_mercator_metres_shrink_with_the_latitude(crs: str, latitude: float) -> None:
    [_], [y] = project("EPSG:4326", crs, [10], [latitude])
    size = ground_pixel_size(CRS.from_string(crs), (0.1, 0, 1e6, 0, -0.1, y), 10, 10)
    assert size is not None
    assert size.metres == pytest.approx(0.1 * cos(radians(latitude)), rel=7e-3)  # the sphere against the ellipsoid


def test_degrees_are_measured_at_their_latitude() -> None:
    size = ground_pixel_size(CRS.from_epsg(4326), (1e-5, 0, 8.5, 0, -1e-5, 47.4), 100, 100)
    assert size is not None
    east, north = 111_320 * cos(radians(47.4)), 111_180
    assert size.metres == pytest.approx(1e-5 * (east * north) ** 0.5, rel=2e-3)


def test_feet_are_turned_into_metres() -> None:
    size = ground_pixel_size(CRS.from_epsg(2263), (1.0, 0, 0, 0, -1.0, 0), 10, 10)  # New York, US survey feet
    assert size is not None
    assert size.metres == pytest.approx(0.3048, rel=1e-5)


def test_a_transform_without_a_system_has_no_length(tmp_path: Path) -> None:
    write_geotiff(tmp_path / "a.tif", picture(20, 20), crs=None)
    with open_raster(tmp_path / "a.tif") as raster:
        assert raster.frame.pixel_size is None
        assert raster.geo == GeoReference("", (0.5, 0.0, 500_000.0, 0.0, -0.5, 5_000_000.0))


def test_declared_nodata_and_masks_are_not_valid(tmp_path: Path) -> None:
    pixels = picture(60, 50) // 2 + 20
    pixels[:, :10] = 7
    write_geotiff(tmp_path / "nodata.tif", pixels, nodata=7)
    alpha = np.where(np.arange(60)[:, None] < 10, 0, 255) * np.ones((1, 50))
    write_geotiff(
        tmp_path / "alpha.tif", np.concatenate([pixels, alpha[None].astype(np.uint8)]), photometric="RGB", alpha="YES"
    )
    pixels[:, :10] = 0
    write_geotiff(tmp_path / "black.tif", pixels)
    for name in ("nodata.tif", "alpha.tif", "black.tif"):
        with open_raster(tmp_path / name) as raster:
            valid = raster.valid(raster.frame.box)
        assert not valid[:10].any(), name
        assert valid[10:].all(), name


def test_overviews_are_levels_unless_they_picked_the_nearest(tmp_path: Path) -> None:
    for name, how in (("average.tif", Resampling.average), ("nearest.tif", Resampling.nearest)):
        write_geotiff(tmp_path / name, picture(600, 500), tiled=True)
        with rasterio.open(tmp_path / name, "r+") as dataset:
            dataset.build_overviews([2, 4], how)
    with open_raster(tmp_path / "nearest.tif") as raster:
        assert len(raster.levels) == 1
    with open_raster(tmp_path / "average.tif") as raster:
        assert [level.downsample for level in raster.levels] == [1, 2, 4]
        small, whole = raster.resized(raster.frame.box, 150, 125), raster.read(raster.frame.box)
        assert np.abs(small - whole.reshape(3, 150, 4, 125, 4).mean(axis=(2, 4))).mean() < 3


@pytest.mark.parametrize(
    ("name", "metres", "holes"),
    [
        ("oam_manila_2048", 0.0968, 0.18),
        ("oam_valencia_2048", 0.0776, 0.25),
        ("oam_kampala_b", 0.0745, 0.0),
        ("nl_gorinchem_1000", 0.25, 0.0),
        ("naip_santa_monica_2020_46", 0.6, 0.0),
        ("naip_northdakota_5m_2018", 5.0, 0.0),
    ],
)
def test_real_files(shared: Path, name: str, metres: float, holes: float) -> None:
    path = shared / "data" / "aerial" / "geotiff" / f"{name}.tif"
    with open_raster(path) as raster, rasterio.open(path) as dataset:
        assert raster.frame.pixel_size is not None
        assert raster.frame.pixel_size.metres == pytest.approx(metres, rel=5e-3)
        assert raster.geo is not None
        assert CRS.from_wkt(raster.geo.crs) == dataset.crs
        assert raster.geo.transform == tuple(dataset.transform)[:6]
        assert np.array_equal(raster.read(raster.frame.box), dataset.read([1, 2, 3]))
        assert 1 - raster.valid(raster.frame.box).mean() == pytest.approx(holes, abs=0.01)
