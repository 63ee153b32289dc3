"""From pixels to a grid: every cell is the right pixels, read once, and alone decides its embedding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.encoders.fakes import Watched, tiny_encoder

from patchloom.encoders.embed import cells_of, embed, encode
from patchloom.errors import GeometryError, InputError
from patchloom.fields.field import ArrayField
from patchloom.geometry import PixelSize
from patchloom.grids.reference import Reference

HALF_UM = PixelSize(0.5e-6)


def picture(height: int = 96, width: int = 120, channels: int = 3) -> ArrayField:
    pixels = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (channels, height, width), np.uint8)
    return ArrayField(pixels, HALF_UM)


@given(
    cell=st.integers(1, 40),
    stride=st.integers(1, 50),
    rows=st.integers(1, 4),
    cols=st.integers(1, 4),
    data=st.data(),
)
def test_cells_are_their_pixels_and_no_pixel_row_is_read_twice(
    cell: int, stride: int, rows: int, cols: int, data: st.DataObject
) -> None:
    mask = data.draw(st.lists(st.booleans(), min_size=rows * cols, max_size=rows * cols).filter(any))
    valid = np.array(mask).reshape(rows, cols)
    field = Watched(picture((rows - 1) * stride + cell, (cols - 1) * stride + cell))
    found = {}
    for row, col, pixels in cells_of(field, valid, cell, stride):
        found[row, col] = pixels.copy()
        y, x = row * stride, col * stride
        np.testing.assert_array_equal(pixels, field.source.array[:, y : y + cell, x : x + cell])  # type: ignore[attr-defined]
    assert set(found) == {(int(row), int(col)) for row, col in np.argwhere(valid)}
    lines = [y for box in field.boxes for y in range(box.y, box.stop_y)]
    assert len(lines) == len(set(lines))
    assert max(box.height for box in field.boxes) <= cell


def test_the_grid_says_what_was_embedded() -> None:
    field = picture()
    encoder = tiny_encoder()
    valid = np.ones((2, 3), np.bool_)
    valid[1, 1] = False
    seen: list[tuple[int, int]] = []
    grid = embed(
        field,
        encoder,
        cell_px=48,
        stride_px=32,
        valid=valid,
        batch=2,
        precision="float32",
        origin=(7.0, 8.5),
        reference=Reference("a.png", 200, 300),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (grid.canvas, grid.origin, grid.pixel_size) == ((96, 120), (7.0, 8.5), HALF_UM)
    assert grid.encoder == encoder.spec
    assert seen == [(2, 5), (4, 5), (5, 5)]
    for row, col in np.argwhere(valid):
        pixels = field.array[:, row * 32 : row * 32 + 48, col * 32 : col * 32 + 48]
        expected = encoder(torch.from_numpy(pixels.copy()).expand(2, -1, -1, -1))[0]
        np.testing.assert_array_equal(grid.embeddings[row, col], expected.numpy())
    assert not grid.embeddings[1, 1].any()


@settings(max_examples=15)
@given(st.integers(1, 2**12 - 1), st.integers(2, 7))
def test_an_embedding_does_not_depend_on_the_other_cells(mask: int, batch: int) -> None:
    field, encoder = picture(64, 64), tiny_encoder()
    valid = np.array([mask >> bit & 1 for bit in range(12)], np.bool_).reshape(3, 4)
    options = {"cell_px": 16, "stride_px": 15, "batch": batch}
    everything = embed(field, encoder, valid=np.ones((3, 4), np.bool_), precision="float32", **options)  # type: ignore[arg-type]
    some = embed(field, encoder, valid=valid, precision="float32", **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(some.embeddings[valid], everything.embeddings[valid])


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_any_number_of_pictures_is_encoded(count: int) -> None:
    encoder = tiny_encoder()
    pictures = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (count, 3, 20, 20), np.uint8)
    embeddings = encode(encoder, pictures, batch=4)
    assert embeddings.shape == (count, 6)
    if count:
        np.testing.assert_allclose(embeddings, encoder(torch.from_numpy(pictures)).numpy(), atol=1e-5)


def test_parts_that_do_not_fit_are_refused() -> None:
    field, encoder, valid = picture(), tiny_encoder(), np.ones((2, 2), np.bool_)
    with pytest.raises(GeometryError, match="beyond the region of 96 x 120"):
        embed(field, encoder, cell_px=64, stride_px=64, valid=valid)
    with pytest.raises(InputError, match="background only"):
        embed(field, encoder, cell_px=32, stride_px=32, valid=~valid)
    with pytest.raises(InputError, match="3 channels of uint8"):
        embed(picture(channels=4), encoder, cell_px=32, stride_px=32, valid=valid)
    with pytest.raises(InputError, match="both must be positive"):
        embed(field, encoder, cell_px=32, stride_px=0, valid=valid)
    with pytest.raises(InputError, match="pixel_size=PixelSize"):
        embed(ArrayField(field.array), encoder, cell_px=32, stride_px=32, valid=valid)
    with pytest.raises(InputError, match="at least one picture"):
        embed(field, encoder, cell_px=32, stride_px=32, valid=valid, batch=0)
