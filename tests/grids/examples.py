"""Grids to test with."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from patchloom.geometry import PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.reference import Reference
from patchloom.grids.spec import EncoderSpec


def encoder(dim: int) -> EncoderSpec:
    return EncoderSpec("tiny", dim, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "CC0-1.0", "sha256:" + "0" * 64)


def make_grid(rows: int = 3, cols: int = 4, dim: int = 5, dtype: str = "float32", seed: int = 0) -> EmbeddingGrid:
    """Random embeddings; about two thirds of the cells are valid, the corners always."""
    generator = np.random.Generator(np.random.PCG64(seed))
    valid = generator.random((rows, cols)) < 0.67
    valid[0, 0] = valid[-1, -1] = True
    embeddings: NDArray[Any] = generator.standard_normal((rows, cols, dim)).astype(dtype)
    embeddings[~valid] = 0
    return EmbeddingGrid(
        embeddings,
        valid,
        cell_px=64,
        stride_px=32,
        origin=(96.0, 160.0),
        canvas=(rows * 32 + 40, cols * 32 + 50),
        pixel_size=PixelSize(0.5e-6),
        encoder=encoder(dim),
        reference=Reference("slide.svs", 4000, 5000, PixelSize(0.25e-6)),
    )


def grids() -> st.SearchStrategy[EmbeddingGrid]:
    return st.builds(
        make_grid,
        rows=st.integers(1, 6),
        cols=st.integers(1, 6),
        dim=st.integers(1, 9),
        dtype=st.sampled_from(["float16", "float32"]),
        seed=st.integers(0, 1000),
    )
