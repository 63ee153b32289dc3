from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from patchloom.errors import FormatError, GeometryError, InputError, MissingError
from patchloom.evaluation.patches import (
    IN_MEMORY,
    codec_of,
    crops,
    from_arrays,
    from_folder,
    joined,
    lattice_boxes,
    lossy,
    random_boxes,
)
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box

UInt8 = NDArray[np.uint8]


def picture(height: int, width: int, seed: int) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)


def save(path: Path, pixels: UInt8) -> None:
    Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1))).save(path)


def test_a_folder_gives_its_pictures_in_the_order_of_names(tmp_path: Path) -> None:
    for name, seed in (("b_2.png", 1), ("a_1.bmp", 0), ("c_2.tif", 2)):
        save(tmp_path / name, picture(20, 20, seed))
    (tmp_path / "notes.txt").write_text("not a picture")
    found = from_folder(tmp_path, group_of=lambda path: path.stem[-1])
    assert found.n == 3
    assert all(np.array_equal(found.read(n), picture(20, 20, n)) for n in range(3))
    assert found.groups is not None
    assert found.groups.tolist() == ["1", "2", "2"]
    assert found.codec.split(" + ") == ["bmp", "png", codec_of(tmp_path / "c_2.tif")]
    assert from_folder(tmp_path).groups is None


@pytest.mark.parametrize(
    ("name", "codec", "loses"), [("a.png", "png", False), ("a.jpg", "jpeg", True), ("a.bmp", "bmp", False)]
)
def test_codec_of_pictures(tmp_path: Path, name: str, codec: str, loses: bool) -> None:
    save(tmp_path / name, picture(16, 16, 0))
    assert codec_of(tmp_path / name) == codec
    assert lossy(codec) is loses


@pytest.mark.parametrize(
    ("compression", "word", "loses"), [("jpeg", "jpeg", True), ("zlib", "deflate", False), (None, "none", False)]
)
def test_codec_of_tiffs(tmp_path: Path, compression: str | None, word: str, loses: bool) -> None:
    path = tmp_path / "a.tif"
    pixels = np.moveaxis(picture(64, 64, 0), 0, -1)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), compression=compression)
    assert word in codec_of(path)
    assert lossy(codec_of(path)) is loses


def test_one_lossy_codec_makes_the_whole_lossy() -> None:
    assert lossy("jpeg + png")
    assert not lossy(IN_MEMORY)


@given(height=st.integers(8, 40), width=st.integers(8, 40), step=st.integers(1, 9), y=st.integers(-5, 5))
def test_lattice_crops_lie_inside_and_leave_less_than_a_step(height: int, width: int, step: int, y: int) -> None:
    whole = Box(y, 2, height, width)
    boxes = lattice_boxes(whole, 8, step)
    assert all(whole.contains(box) for box in boxes)
    assert len(set(boxes)) == len(boxes)
    assert whole.stop_y - max(box.stop_y for box in boxes) < step
    assert whole.stop_x - max(box.stop_x for box in boxes) < step


def test_random_crops_reach_every_place_and_repeat_with_their_seed() -> None:
    whole = Box(3, 4, 10, 9)
    boxes = random_boxes(whole, 8, 500, seed=1)
    assert {(box.y, box.x) for box in boxes} == {(y, x) for y in (3, 4, 5) for x in (4, 5)}
    assert boxes == random_boxes(whole, 8, 500, seed=1)
    assert boxes != random_boxes(whole, 8, 500, seed=2)


def test_crops_are_the_pictures_own_pixels() -> None:
    whole = picture(32, 48, 0)
    found = crops(ArrayField(whole), lattice_boxes(Box(0, 0, 32, 48), 16), "slide", codec="png")
    assert found.n == 6
    assert np.array_equal(found.read(4), whole[:, 16:32, 16:32])
    assert found.groups is not None
    assert set(found.groups) == {"slide"}
    with pytest.raises(GeometryError, match="not a square inside `slide`, 48x32"):
        crops(ArrayField(whole), [Box(20, 0, 16, 16)], "slide")
    with pytest.raises(GeometryError, match="crops of 40 px cannot be cut from 48x32 px"):
        lattice_boxes(Box(0, 0, 32, 48), 40)


def test_joined_sets_keep_order_groups_and_codecs() -> None:
    parts = [
        from_arrays([picture(8, 8, n), picture(8, 8, n + 1)], f"set{n}", groups=np.array(["x", n])) for n in (0, 5)
    ]
    whole = joined([*parts, from_arrays([picture(8, 8, 9)], groups=np.array(["z"]), codec="png + jpeg")], "all")
    assert whole.n == 5
    assert [np.array_equal(whole.read(i), picture(8, 8, s)) for i, s in enumerate((0, 1, 5, 6, 9))] == [True] * 5
    assert whole.groups is not None
    assert whole.groups.tolist() == ["x", "0", "x", "5", "z"]
    assert whole.codec == "jpeg + none (arrays) + png"
    with pytest.raises(InputError, match="some parts have groups"):
        joined([parts[0], from_arrays([picture(8, 8, 0)])], "all")


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no folder"):
        from_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no picture"):
        from_folder(tmp_path)
    save(tmp_path / "wide.png", picture(10, 20, 0))
    with pytest.raises(InputError, match="square RGB picture"):
        from_folder(tmp_path).read(0)
    assert np.array_equal(from_folder(tmp_path, crop_px=8).read(0), picture(10, 20, 0)[:, 1:9, 6:14])
    with pytest.raises(InputError, match="20x10 px, too small for a crop of 12 px"):
        from_folder(tmp_path, crop_px=12).read(0)
    (tmp_path / "wide.png").write_bytes((tmp_path / "wide.png").read_bytes()[:60])
    with pytest.raises(FormatError, match="damaged"):
        from_folder(tmp_path).read(0)
    with pytest.raises(InputError, match="holds no picture"):
        from_arrays([], "nothing")
    with pytest.raises(InputError, match="1 pictures need 1 group labels, found 2"):
        from_arrays([picture(8, 8, 0)], groups=np.array([1, 2]))
    with pytest.raises(InputError, match=r"`arrays\[0\]`: expected a square RGB picture"):
        from_arrays([np.zeros((8, 8, 3), np.uint8)]).read(0)
