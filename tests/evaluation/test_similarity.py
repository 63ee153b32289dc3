from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.similarity import blocks_of_cells, grid_similarity, similarity
from patchloom.geometry import PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.grids.spec import EncoderSpec

Array = NDArray[np.float64]
SPEC = EncoderSpec("tiny", 6, 32, (0.5,) * 3, (0.5,) * 3, "Apache-2.0", "sha256:" + "0" * 64)


def cells(n: int, dim: int, seed: int, offset: float = 0.0) -> Array:
    """Embeddings as pooled features are: a large common part, hence high cosines between strangers."""
    return np.random.default_rng(seed).normal(offset, 1, (n, dim))


def cosine(left: Array, right: Array) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 9))
def test_is_its_definition(seed: int, n: int) -> None:
    reference, generated = cells(n, 4, seed, 1), cells(n, 4, seed + 1, 1)
    best = reference + cells(n, 4, seed + 2) * 0.1
    found = similarity(reference, generated, best, repeats=20)
    same = np.mean([cosine(generated[i], reference[i]) for i in range(n)])
    floor = np.mean([cosine(generated[i], reference[j]) for i in range(n) for j in range(n) if i != j])
    ceiling = np.mean([cosine(best[i], reference[i]) for i in range(n)])
    assert found.raw.value.value == pytest.approx(same)
    assert found.raw.floor == pytest.approx(floor)
    assert found.raw.ceiling is not None
    assert found.raw.ceiling.value == pytest.approx(ceiling)
    if found.raw.share is not None:
        assert found.raw.share.value == pytest.approx((same - floor) / (ceiling - floor))
    own, other = generated - reference.mean(0), reference - reference.mean(0)
    wins = [cosine(own[i], other[j]) < cosine(own[i], other[i]) for i in range(n) for j in range(n) if i != j]
    assert found.retrieval_auc.value == pytest.approx(np.mean(wins))
    assert found.n == n


def test_strangers_have_a_high_raw_cosine_and_no_share_of_the_way() -> None:
    reference, stranger = cells(200, 16, 0, 4), cells(200, 16, 1, 4)
    best = reference + cells(200, 16, 2) * 0.1
    found = similarity(reference, stranger, best)
    assert found.raw.value.value > 0.9
    assert abs(found.centred.value.value) < 0.1
    for view in (found.raw, found.centred):
        assert view.share is not None
        assert view.share.interval is not None
        assert view.share.interval.contains(0)
    assert found.retrieval_auc.interval is not None
    assert found.retrieval_auc.interval.contains(0.5)


def test_the_reference_itself_goes_the_whole_way() -> None:
    reference = cells(50, 8, 0, 3)
    found = similarity(reference, reference, reference)
    assert found.raw.value.value == pytest.approx(1)
    assert found.centred.share is not None
    assert found.centred.share.value == pytest.approx(1)
    assert found.retrieval_auc.value == 1
    assert found.first_hit.value == 1


def test_equal_images_everywhere_retrieve_nothing() -> None:
    """All ties: a half, and no hits; a picture that ignores its grid earns nothing by ties."""
    reference = cells(20, 8, 0, 3)
    found = similarity(reference, np.repeat(cells(1, 8, 1, 3), 20, axis=0))
    assert found.retrieval_auc.value == pytest.approx(0.5)
    assert found.raw.ceiling is None
    assert found.raw.share is None


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_rotation_and_order_of_cells_change_nothing(seed: int) -> None:
    reference, generated = cells(30, 5, seed, 2), cells(30, 5, seed, 2) + cells(30, 5, seed + 1)
    turn = np.linalg.qr(cells(5, 5, seed + 2))[0]
    order = np.random.default_rng(seed).permutation(30)
    first = similarity(reference, generated, repeats=10)
    for other in (
        similarity(reference @ turn, generated @ turn, repeats=10),
        similarity(reference[order], generated[order], repeats=10),
    ):
        assert other.raw.value.value == pytest.approx(first.raw.value.value)
        assert other.centred.floor == pytest.approx(first.centred.floor)
        assert other.retrieval_auc.value == pytest.approx(first.retrieval_auc.value)


def grid(embeddings: Array, valid: NDArray[np.bool_] | None = None) -> EmbeddingGrid:
    rows, cols, _ = embeddings.shape
    valid = np.ones((rows, cols), dtype=bool) if valid is None else valid
    canvas = (rows * 64, cols * 64)
    return EmbeddingGrid(
        embeddings.astype(np.float32), valid, 64, 64, (0.0, 0.0), canvas, PixelSize.parse("0.5um"), SPEC
    )


def test_grids_are_compared_where_all_are_valid() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(2, 1, (6, 8, 6))
    generated = reference + rng.normal(0, 0.5, (6, 8, 6))
    valid = rng.random((6, 8)) < 0.7
    spoilt = generated.copy()
    spoilt[~valid] = np.nan
    found = grid_similarity(grid(reference), grid(spoilt, valid))
    plain = similarity(
        reference[valid].astype(np.float32),
        generated[valid].astype(np.float32),
        groups=blocks_of_cells(6, 8, 2)[valid],
    )
    assert found == plain
    assert found.n == valid.sum()


def test_grids_that_do_not_belong_together_are_refused() -> None:
    rng = np.random.default_rng(0)
    reference = grid(rng.normal(size=(4, 4, 6)))
    with pytest.raises(MismatchError, match="embed both with the same encoder"):
        grid_similarity(reference, replace(reference, encoder=replace(SPEC, digest="sha256:" + "1" * 64)))
    with pytest.raises(
        MismatchError, match="4 x 4 cells of 64 px every 64 px against 4 x 4 cells of 32 px every 32 px"
    ):
        grid_similarity(reference, replace(reference, cell_px=32, stride_px=32))
    with pytest.raises(MismatchError, match="not of the same cells"):
        grid_similarity(reference, replace(reference, pixel_size=PixelSize.parse("1um")))
    few = np.zeros((4, 4), dtype=bool)
    few[0, :2] = True
    with pytest.raises(InputError, match="only 2 cells are valid"):
        grid_similarity(reference, replace(reference, valid=few))
    with pytest.raises(MismatchError, match="same cells in one encoder"):
        similarity(np.ones((5, 3)), np.ones((5, 4)))
    with pytest.raises(InputError, match="all zeros"):
        similarity(rng.normal(size=(5, 3)), np.zeros((5, 3)))
