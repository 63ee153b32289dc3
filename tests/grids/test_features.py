"""CLAM, TRIDENT and STAMP files: written as those tools write them, read back in any order; hostile ones refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.grids.examples import encoder, make_grid

from patchloom.errors import DependencyError, FormatError, InputError, MismatchError, MissingError
from patchloom.geometry import PixelSize
from patchloom.grids.feature_records import LAYOUTS
from patchloom.grids.features import grid_of, read_features, write_features
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.hdf5 import FeatureFile
from patchloom.grids.layouts import Layout

QUARTER_UM = PixelSize(0.25e-6)


def file_of(grid: EmbeddingGrid, layout: str, order: list[int], coords_dtype: str) -> FeatureFile:
    """What the reader hands over for a grid's file whose rows lie in another order and integer type."""
    record = LAYOUTS[layout](grid, "slide")
    features = record.arrays["feats" if layout == "stamp" else "features"]
    coords = record.arrays["coords"]
    if layout != "stamp":
        coords = coords.astype(coords_dtype)
    told = {
        key: list(v) if isinstance(v, tuple) else v for part in record.attributes.values() for key, v in part.items()
    }
    return FeatureFile("feats" if layout == "stamp" else "features", features[order], coords[order], told)


def same_cells(found: EmbeddingGrid, grid: EmbeddingGrid, tolerance: float) -> None:
    np.testing.assert_array_equal(found.valid, grid.valid)
    np.testing.assert_array_equal(found.embeddings[found.valid], grid.embeddings[grid.valid])
    assert (found.cell_px, found.stride_px) == (grid.cell_px, grid.stride_px)
    assert found.pixel_size.agrees(grid.pixel_size, tolerance)
    lengths = [[part * g.pixel_size.metres for part in g.origin] for g in (found, grid)]
    np.testing.assert_allclose(lengths[0], lengths[1], atol=2 * grid.pixel_size.metres)


@st.composite
def sparse_grids(draw: st.DrawFn) -> EmbeddingGrid:
    """Grids of many strides at many scales; their first cells are neighbours, from which CLAM's stride is found."""
    rows, cols = draw(st.integers(2, 6)), draw(st.integers(2, 6))
    small = make_grid(rows, cols, dtype=draw(st.sampled_from(["float16", "float32"])), seed=draw(st.integers(0, 99)))
    valid = small.valid.copy()
    valid[:2, :2] = True
    assert small.reference is not None
    level0 = PixelSize(draw(st.sampled_from([0.125e-6, 0.25e-6, 0.2527e-6, 0.5e-6])))
    return replace(
        small,
        valid=valid,
        cell_px=256,
        stride_px=draw(st.sampled_from([64, 128, 200, 256, 300])),
        canvas=(rows * 300 + 256, cols * 300 + 256),
        reference=replace(small.reference, pixel_size=level0),
    )


@given(sparse_grids(), st.sampled_from(["clam", "trident", "stamp"]), st.sampled_from(["int32", "int64"]), st.data())
def test_round_trip_in_any_order(grid: EmbeddingGrid, layout: str, coords_dtype: str, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(int(grid.valid.sum()))))
    assert grid.reference is not None
    level0 = grid.reference.pixel_size
    found = grid_of(
        file_of(grid, layout, order, coords_dtype),
        "slide",
        pixel_size=level0,
        patch_px=None,
        encoder=grid.encoder,
        reference=None,
        tolerance=0.01,
        max_bytes=1 << 30,
    )
    whole_pixels = level0 != PixelSize(0.2527e-6)
    same_cells(found, grid, 1e-6 if whole_pixels else 0.01)
    assert found.encoder == grid.encoder


@pytest.mark.parametrize("layout", ["clam", "trident", "stamp"])
def test_a_single_patch_survives(layout: str) -> None:
    grid = replace(make_grid(1, 1), cell_px=256, stride_px=256)
    found = grid_of(
        file_of(grid, layout, [0], "int64"),
        "slide",
        pixel_size=QUARTER_UM,
        patch_px=None,
        encoder=None,
        reference=None,
        tolerance=0.01,
        max_bytes=1 << 30,
    )
    same_cells(found, grid, 1e-6)


@pytest.mark.parametrize("layout", ["clam", "trident", "stamp"])
def test_round_trip_through_files(tmp_path: Path, layout: Layout) -> None:
    grid = replace(make_grid(rows=5, cols=6), cell_px=64, stride_px=32)
    path = tmp_path / "slide.h5"
    write_features(grid, path, layout)
    found = read_features(path, pixel_size=QUARTER_UM, encoder=grid.encoder)
    same_cells(found, grid, 1e-6)
    write_features(grid, tmp_path / "again.h5", layout)
    assert path.read_bytes() == (tmp_path / "again.h5").read_bytes()
    if layout == "trident":
        assert found.reference == replace(grid.reference, name="slide")  # type: ignore[type-var]


def write_h5(path: Path, arrays: dict[str, Any], **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        if "coords" in file:
            file["coords"].attrs.update(attributes)
    return path


def square(count: int = 3, step: int = 512) -> np.ndarray:
    """Column by column, as TRIDENT's default once was; x before y."""
    return np.array([[x * step + 100, y * step + 300] for x in range(count) for y in range(count)])


def test_trident_as_its_tool_writes_it(tmp_path: Path) -> None:
    told = {
        "patch_size": 256,
        "patch_size_level0": 512,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": 0,
        "name": "S1",
        "savetodir": "./out",
        "level0_width": 5000,
        "level0_height": 4000,
    }
    features = np.arange(9 * 4, dtype=np.float32).reshape(9, 4)
    path = write_h5(tmp_path / "S1.h5", {"features": features, "coords": square()[:, :]}, **told)
    grid = read_features(path, pixel_size=QUARTER_UM)
    assert (grid.cell_px, grid.stride_px, grid.pixel_size) == (256, 256, PixelSize(0.5e-6))
    assert (grid.origin, grid.canvas) == ((150.0, 50.0), (768, 768))
    np.testing.assert_array_equal(grid.embeddings[2, 0], features[2])
    np.testing.assert_array_equal(grid.embeddings[0, 1], features[3])
    assert grid.reference is not None
    assert (grid.reference.name, grid.reference.height, grid.reference.width) == ("S1", 4000, 5000)
    assert (grid.encoder.name, grid.encoder.digest, grid.encoder.dim) == ("unknown", "unknown", 4)
    with pytest.raises(MismatchError, match="4-d, but encoder `tiny` gives 7-d"):
        read_features(path, pixel_size=QUARTER_UM, encoder=encoder(7))
    with pytest.raises(InputError, match="do not record the slide's pixel size"):
        read_features(path)


def test_clam_without_attributes_and_with_a_leading_dimension(tmp_path: Path) -> None:
    coords = np.delete(square(step=256), 4, axis=0).astype(np.int32)
    features = np.ones((1, 8, 4), np.float32)
    path = write_h5(tmp_path / "a.h5", {"features": features, "coords": coords[None]})
    with pytest.raises(InputError, match="patch_px=256"):
        read_features(path, pixel_size=QUARTER_UM)
    grid = read_features(path, pixel_size=QUARTER_UM, patch_px=256)
    assert (grid.cell_px, grid.stride_px, grid.pixel_size) == (256, 256, QUARTER_UM)
    assert not grid.valid[1, 1]
    assert grid.valid.sum() == 8


def clam(features: np.ndarray, coords: np.ndarray, **attributes: Any) -> EmbeddingGrid:
    return grid_of(
        FeatureFile("features", features, coords, attributes),
        "slide",
        pixel_size=QUARTER_UM,
        patch_px=None,
        encoder=None,
        reference=None,
        tolerance=attributes.pop("tolerance", 0.01),
        max_bytes=1 << 20,
    )


def test_clam_patches_of_a_lower_level() -> None:
    grid = clam(np.ones((9, 4), np.float32), square(step=1024), patch_size=256, patch_level=1, downsample=[4.0, 4.0002])
    assert (grid.cell_px, grid.stride_px, grid.pixel_size) == (256, 256, PixelSize(1e-6))
    with pytest.raises(InputError, match="cut from level 1"):
        clam(np.ones((9, 4), np.float32), square(), patch_size=256, patch_level=1)
    with pytest.raises(FormatError, match="not square"):
        clam(np.ones((9, 4), np.float32), square(), patch_size=256, patch_level=1, downsample=[4.0, 2.0])


def test_contradictions_are_refused() -> None:
    features = np.ones((9, 4), np.float32)
    with pytest.raises(FormatError, match=r"at \(x, y\) = \(100, 300\) 2 times"):
        clam(features, np.concatenate([square()[:8], square()[:1]]), patch_size=256)
    with pytest.raises(FormatError, match="over the limit"):
        clam(features, np.concatenate([square()[:8], [[100 + 512 * 10**6, 300]]]), patch_size=256)
    with pytest.raises(FormatError, match="no slide has"):
        clam(features, np.full((9, 2), 2**50), patch_size=256)
    with pytest.raises(FormatError, match="300 units apart, but its attributes say 256"):
        clam(features, square(step=300), patch_size=256, patch_size_level0=256, overlap=0)
    with pytest.raises(FormatError, match="cannot overlap by 256"):
        clam(features, square(), patch_size=256, patch_size_level0=256, overlap=256)
    with pytest.raises(InputError, match="not a whole number"):
        clam(features, square(step=18), patch_size=16, patch_size_level0=64)
    with pytest.raises(FormatError, match="expected a positive number"):
        clam(features, square(), patch_size=0)
    with pytest.raises(InputError, match="NaN or infinity"):
        clam(np.full((9, 4), np.nan, np.float32), square(), patch_size=256)


def stamp(coords: np.ndarray, **attributes: Any) -> EmbeddingGrid:
    return grid_of(
        FeatureFile("feats", np.ones((len(coords), 4), np.float16), coords, attributes),
        "slide",
        pixel_size=None,
        patch_px=None,
        encoder=None,
        reference=None,
        tolerance=0.01,
        max_bytes=1 << 20,
    )


def test_stamp_of_each_age() -> None:
    tile = PixelSize(256e-6 / 224)
    told = {"unit": "um", "tile_size_px": 224, "extractor": "uni", "feat_type": "tile"}
    coords = (square(step=256) - [100, 300]).astype(np.float32)
    for name in ("tile_size_um", "tile_size"):
        grid = stamp(coords, **told, **{name: 256.0})
        assert (grid.cell_px, grid.stride_px, grid.encoder.name) == (224, 224, "uni")
        assert grid.pixel_size.agrees(tile, 1e-9)
    old = stamp(square(step=224))
    assert (old.cell_px, old.stride_px) == (224, 224)
    assert old.pixel_size.agrees(tile, 1e-9)
    with pytest.raises(FormatError, match="256 units apart, but its attributes say 224"):
        stamp(square(step=256))
    with pytest.raises(FormatError, match="tile_size_px"):
        stamp(coords, unit="um", tile_size_um=256.0)
    with pytest.raises(FormatError, match="whole slide"):
        stamp(coords, **{**told, "feat_type": "slide"}, tile_size_um=256.0)


def external(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink("other.h5", "/features")
        file["coords"] = square()


def virtual(path: Path) -> None:
    layout = h5py.VirtualLayout((9, 4), np.float32)
    layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "features", (9, 4))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("features", layout)
        file["coords"] = square()


def outside(path: Path) -> None:
    path.with_name("secret").write_bytes(bytes(144))
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (9, 4), np.float32, external=[(str(path.with_name("secret")), 0, 144)])
        file["coords"] = square()


def vast(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (10**9, 1024), np.float32, chunks=(1, 1024))
        file.create_dataset("coords", (10**9, 2), np.int64, chunks=(1, 2))


def cut_short(path: Path) -> None:
    write_h5(path, {"features": np.ones((9, 400), np.float32), "coords": square()})
    path.write_bytes(path.read_bytes()[:9000])


def chunk_damaged(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=np.ones((9, 40), np.float32), compression="gzip", chunks=(9, 40))
        file["coords"] = square()
        info = file["features"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[info.byte_offset : info.byte_offset + info.size] = bytes(info.size)
    path.write_bytes(content)


def arrays(features: Any = None, coords: Any = None, **attributes: Any) -> Callable[[Path], object]:
    features = np.ones((9, 4), np.float32) if features is None else features
    coords = square() if coords is None else coords
    return lambda path: write_h5(path, {"features": features, "coords": coords}, **attributes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "not an HDF5 file"),
        (cut_short, "not an HDF5 file, or it is damaged"),
        (chunk_damaged, "the HDF5 reader ended with 1"),
        (external, "`features` is a link"),
        (virtual, "not a plain dataset"),
        (outside, "not a plain dataset"),
        (vast, "larger than the limit"),
        (lambda path: write_h5(path, {"imgs": np.zeros(3)}), r"holds \['imgs'\]"),
        (arrays(features=np.ones((8, 4), np.float32)), "8 features but 9 coordinates"),
        (arrays(features=np.ones((9, 4), np.float64)), "`features` is float64"),
        (arrays(features=np.ones(9, np.float32)), "expected \\(patches, dim\\)"),
        (arrays(coords=np.ones((9, 3), np.int64)), "expected \\(patches, 2\\)"),
        (arrays(features=np.ones((0, 4), np.float32), coords=np.ones((0, 2), np.int64)), "holds no patch"),
        (arrays(patch_size=np.arange(100)), "longer than 4 values"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    path = tmp_path / "a.h5"
    make(path)
    with pytest.raises(FormatError, match=message):
        read_features(path, pixel_size=QUARTER_UM, patch_px=512)


def test_a_slow_read_is_given_up(tmp_path: Path) -> None:
    arrays()(tmp_path / "a.h5")
    with pytest.raises(FormatError, match=r"within 0\.01 s"):
        read_features(tmp_path / "a.h5", pixel_size=QUARTER_UM, patch_px=512, timeout_s=0.01)


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingError, match="no feature file"):
        read_features(tmp_path / "none.h5")
    with pytest.raises(MissingError, match="no folder"):
        write_features(make_grid(), tmp_path / "none" / "a.h5", "clam")
    with pytest.raises(InputError, match="known are clam, trident, stamp"):
        write_features(make_grid(), tmp_path / "a.h5", "other")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DependencyError, match=r"patchloom\[features\]"):
        read_features(tmp_path / "a.h5")
    with pytest.raises(DependencyError, match=r"patchloom\[features\]"):
        write_features(make_grid(), tmp_path / "a.h5", "clam")
