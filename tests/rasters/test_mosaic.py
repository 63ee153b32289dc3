"""Pictures side by side: every square is the middle of its file, however the mosaic is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from patchloom.errors import GeometryError, InputError, MissingError
from patchloom.geometry import Box, PixelSize
from patchloom.rasters.mosaic import Mosaic, mosaic
from patchloom.rasters.source import UInt8

SIZE = PixelSize.parse("0.3m")
SIDE = 6


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, UInt8]]:
    """Six pictures (height, width, 3) of noise, some larger than a square."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    pixels = [random.integers(0, 256, (SIDE + n, SIDE + 2 * n, 3), np.uint8) for n in range(6)]
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return [(folder / f"{number}.png", picture) for number, picture in enumerate(pixels)]


def middles(files: list[tuple[Path, UInt8]], columns: int) -> UInt8:
    """The whole mosaic (3, height, width), by slices alone."""
    squares = []
    for _, picture in files:
        y, x = (picture.shape[0] - SIDE) // 2, (picture.shape[1] - SIDE) // 2
        squares.append(picture[y : y + SIDE, x : x + SIDE].transpose(2, 0, 1))
    rows = [np.concatenate(squares[start : start + columns], axis=2) for start in range(0, len(squares), columns)]
    return np.concatenate(rows, axis=1)


@given(st.integers(0, 11), st.integers(0, 17), st.integers(1, 12), st.integers(1, 18))
def test_any_box_is_that_of_the_whole(files: list[tuple[Path, UInt8]], y: int, x: int, height: int, width: int) -> None:
    field = mosaic([path for path, _ in files], columns=3, side_px=SIDE, pixel_size=SIZE, own=SIZE)
    box = Box(y, x, height, width).meet(field.frame.box)
    assert (field.frame.height, field.frame.width, field.frame.pixel_size) == (2 * SIDE, 3 * SIDE, SIZE)
    assert (field.read(box) == middles(files, 3)[:, *box.inside(field.frame.box)]).all()


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 2), (5, 5), (6, 3)])
def test_as_nearly_square_as_the_number_allows(files: list[tuple[Path, UInt8]], count: int, columns: int) -> None:
    assert mosaic([path for path, _ in files][:count], own=SIZE).columns == columns


def test_pictures_are_brought_to_one_pixel_size(files: list[tuple[Path, UInt8]], tmp_path: Path) -> None:
    Image.new("RGB", (24, 24), (10, 200, 30)).save(tmp_path / "fine.png")
    paths = (tmp_path / "fine.png",)
    field = Mosaic(paths, 1, SIDE, SIZE, PixelSize.parse("0.1m"))
    assert (field.read(field.frame.box) == np.array([10, 200, 30])[:, None, None]).all()
    too_large = Mosaic(paths, 1, 9, SIZE, PixelSize.parse("0.1m"))
    with pytest.raises(GeometryError, match=r"fine.png` is 8 x 8 px at 0.3m, smaller than a square of 9 px"):
        too_large.read(too_large.frame.box)


def test_what_makes_no_mosaic_is_refused(files: list[tuple[Path, UInt8]], tmp_path: Path) -> None:
    paths = [path for path, _ in files]
    with pytest.raises(InputError, match="6 pictures do not fill rows of 4"):
        mosaic(paths, columns=4, own=SIZE)
    with pytest.raises(InputError, match="at least one picture"):
        mosaic([])
    with pytest.raises(InputError, match="--slide-pixel-size"):
        mosaic(paths)
    with pytest.raises(GeometryError, match="squares of 0 px"):
        mosaic(paths, side_px=0, own=SIZE)
    absent = mosaic([*paths[:5], tmp_path / "absent.png"], side_px=SIDE, own=SIZE)
    with pytest.raises(MissingError, match="absent"):
        absent.read(absent.frame.box)
