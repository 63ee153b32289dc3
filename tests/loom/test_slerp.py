"""Windows between cells: laws of the interpolation, and cells that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from patchloom.errors import InputError
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.spec import EncoderSpec
from patchloom.loom.slerp import SlerpScene, slerp
from patchloom.networks.ldm_tokens import EmbedderShape, TokenEmbedder

DIM = 5
vectors = arrays(np.float64, DIM, elements=st.floats(-3, 3).filter(lambda value: abs(value) > 1e-3))
share = st.floats(0, 1)


def embedder(region: int | None = None) -> TokenEmbedder:
    torch.manual_seed(3)
    return TokenEmbedder(EmbedderShape(DIM, region, width=7)).requires_grad_(False)


def grid(rows: int, cols: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal((rows, cols, DIM)).astype(np.float32)


@given(vectors, vectors, share)
def test_slerp_keeps_its_ends_and_goes_both_ways(a: NDArray[np.float64], b: NDArray[np.float64], t: float) -> None:
    def between(p: NDArray[np.float64], q: NDArray[np.float64], at: float) -> NDArray[np.float64]:
        found: NDArray[np.float64] = slerp(p[None], q[None], np.array([at]))[0]
        return found

    np.testing.assert_allclose(between(a, b, 0), a, atol=1e-9)
    np.testing.assert_allclose(between(a, b, 1), b, atol=1e-9)
    np.testing.assert_allclose(between(a, b, t), between(b, a, 1 - t), atol=1e-6)


@given(vectors, share)
def test_slerp_of_equal_lengths_keeps_the_length(a: NDArray[np.float64], t: float) -> None:
    b = np.roll(a, 1)
    found = slerp(a[None], b[None], np.array([t]))[0]
    if abs(a @ b) < 0.9995 * (a @ a):
        np.testing.assert_allclose(np.linalg.norm(found), np.linalg.norm(a), rtol=1e-9)


def test_slerp_of_zeros_is_finite() -> None:
    found = slerp(np.zeros((1, 3)), np.ones((1, 3)), np.array([0.25]))
    np.testing.assert_allclose(found, 0.25)


def test_a_window_on_a_cell_is_told_that_cell() -> None:
    values = grid(3, 4)
    scene = SlerpScene.lattice(values, 16, embedder())
    boxes = [Box(16 * row, 16 * col, 16, 16) for row in range(3) for col in range(4)]
    np.testing.assert_allclose(scene.embedding(boxes), values.reshape(12, DIM), atol=1e-6)


def test_the_middle_of_a_window_decides() -> None:
    """Larger and smaller windows around one middle are told the same."""
    scene = SlerpScene.lattice(grid(3, 4), 16, embedder())
    found = scene.embedding([Box(10, 12, 16, 16), Box(6, 8, 24, 24), Box(14, 16, 8, 8)])
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), atol=1e-6)


def test_the_edge_is_repeated() -> None:
    values = grid(3, 4)
    scene = SlerpScene.lattice(values, 16, embedder())
    np.testing.assert_allclose(scene.embedding([Box(0, 0, 8, 8)])[0], values[0, 0], atol=1e-6)
    np.testing.assert_allclose(scene.embedding([Box(44, 60, 4, 4)])[0], values[2, 3], atol=1e-6)


def test_invalid_cells_say_nothing_and_break_nothing() -> None:
    values, valid = grid(2, 2), np.array([[True, False], [False, False]])
    values[~valid] = np.nan
    scene = SlerpScene(values, valid, (8, 8), (16, 16), embedder())
    beside, alone = Box(8, 8, 16, 16), Box(16, 16, 16, 16)
    np.testing.assert_allclose(scene.embedding([beside])[0], values[0, 0])
    np.testing.assert_array_equal(scene.embedding([alone])[0], 0)
    told = scene.condition([beside, alone])
    assert torch.equal(told.tokens[1], told.null().tokens[1])
    assert not torch.equal(told.tokens[0], told.null().tokens[0])
    assert scene.covers(beside)
    assert not scene.covers(Box(16, 16, 16, 16))


def test_a_denser_grid_is_placed_by_its_cells_centres() -> None:
    values = grid(4, 4)
    spec = EncoderSpec("e", DIM, 224, (0, 0, 0), (1, 1, 1), "none", "sha256:0")
    held = EmbeddingGrid(values, np.ones((4, 4), bool), 64, 32, (0, 0), (160, 160), PixelSize(5e-7), spec)
    scene = SlerpScene.of(held, 4, embedder())
    boxes = [Box(8 * row, 8 * col, 16, 16) for row in range(4) for col in range(4)]  # cells of 64 px are 16 latents
    np.testing.assert_allclose(scene.embedding(boxes), values.reshape(16, DIM), atol=1e-6)


def test_embeddings_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="trained on 5-d embeddings"):
        SlerpScene.lattice(np.zeros((2, 2, 9), np.float32), 16, embedder())
    with pytest.raises(InputError, match="patch embeddings are"):
        embedder()(torch.zeros(1, 9))
    with pytest.raises(InputError, match="leave the region out"):
        embedder()(torch.zeros(1, DIM), torch.zeros(1, 2))
    with pytest.raises(InputError, match="region embeddings are"):
        embedder(region=3)(torch.zeros(1, DIM), torch.zeros(1, 2))


def test_conditions_join_and_drop() -> None:
    made = embedder(region=3)
    one, other = (made.condition(torch.randn(n, DIM), torch.randn(n, 3)) for n in (2, 3))
    both = one.join(other)
    assert len(both) == 5
    assert torch.equal(both.tokens[2:], other.tokens)
    assert torch.equal(both.null().tokens, made(torch.zeros(5, DIM), torch.zeros(5, 3)))
    assert torch.equal(both.null().null().tokens, both.null().tokens)
    assert both.to(torch.device("cpu"), torch.bfloat16).tokens.dtype == torch.bfloat16
