"""Guidance from settings to latents: off is off, a pipeline's own where nothing is told, refusals, any order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from patchloom import records
from patchloom.errors import InputError
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.pipelines.generate import Order, generate
from patchloom.pipelines.guidance import Guidance
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.record import Defaults
from patchloom.pipelines.request import Request
from patchloom.pipelines.sample import sample
from patchloom.pipelines.settings import Settings, settled

HOW = Settings(steps=4, batch=2, window=16, core=12)
PLAIN = Guidance(3.0)
WILD = Guidance(3.0, interval=(0.1, 10.0), rescale=0.7, threshold=(0.9, 0.5))


@pytest.fixture(scope="module")
def tiny(pipeline_folder: Path) -> Pipeline:
    """The tiny pipeline, its weights drawn anew: one that was never trained does not mind what it is told."""
    loaded = load_pipeline(pipeline_folder)
    some = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in loaded.network.parameters():
            weight.add_(torch.randn(weight.shape, generator=some), alpha=0.1)
    return loaded


@pytest.fixture(scope="module")
def grid(tiny: Pipeline) -> EmbeddingGrid:
    """Of 128 x 160 px: 3 x 4 cells, two windows a meeting."""
    cells = np.random.default_rng(0).standard_normal((3, 4, tiny.record.encoder.dim)).astype(np.float32)
    valid = np.ones((3, 4), bool)
    return EmbeddingGrid(cells, valid, 64, 32, (0, 0), (128, 160), PixelSize(5e-7), tiny.record.encoder)


def pixels(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    guidance: Guidance,
    only: Box | None = None,
    **parts: Any,
) -> NDArray[np.uint8]:
    field = generate(Request(pipeline, grid, replace(HOW, guidance=guidance), only=only), **parts).pixels
    return np.asarray(field.read(field.frame.box))


@pytest.mark.parametrize(
    "same",
    [
        replace(PLAIN, rescale=0.0),
        replace(PLAIN, interval=(0.0, 1000.0)),
        replace(PLAIN, threshold=(1.0, 1e6)),
        replace(PLAIN, null_every=1),
    ],
)
def test_what_takes_nothing_back_changes_nothing(tiny: Pipeline, grid: EmbeddingGrid, same: Guidance) -> None:
    np.testing.assert_array_equal(pixels(tiny, grid, same), pixels(tiny, grid, PLAIN))


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAIN, rescale=1.0),
        replace(PLAIN, interval=(0.1, 2.0)),
        replace(PLAIN, threshold=(0.5, 0.1)),
        replace(PLAIN, null_every=2),
        replace(PLAIN, null_every=2, rescale=1.0),
        Guidance(0.0),
        Guidance(1.0),
    ],
)
def test_what_acts_is_seen(tiny: Pipeline, grid: EmbeddingGrid, other: Guidance) -> None:
    assert (pixels(tiny, grid, other) != pixels(tiny, grid, PLAIN)).any()


@pytest.mark.parametrize("guidance", [WILD, Guidance(3.0, rescale=0.7, null_every=2)])
@pytest.mark.parametrize("order", ["canvas", "down"])
def test_every_order_and_part_has_the_same_bytes(
    tiny: Pipeline, grid: EmbeddingGrid, guidance: Guidance, order: Order
) -> None:
    whole = pixels(tiny, grid, guidance)
    np.testing.assert_array_equal(pixels(tiny, grid, guidance, order=order), whole)
    np.testing.assert_array_equal(pixels(tiny, grid, guidance, only=Box(40, 24, 50, 70)), whole[:, 40:90, 24:94])


def test_patches_are_guided_too(tiny: Pipeline) -> None:
    embeddings = np.ones((2, tiny.record.encoder.dim), np.float32)
    one, other = (sample(tiny, embeddings, Settings(guidance=how)) for how in (PLAIN, replace(PLAIN, rescale=1.0)))
    assert (one != other).any()


def test_the_pipeline_s_own_stands_where_nothing_is_told(tiny: Pipeline) -> None:
    own = replace(tiny.record.defaults, guidance=2.5, guidance_interval=(0.2, 4.0), guidance_rescale=0.7)
    pipeline = replace(tiny, record=replace(tiny.record, defaults=own))
    assert settled(pipeline, Settings()).guidance == Guidance(2.5, (0.2, 4.0), 0.7)
    told = Guidance(0.0, (0.0, 9.0), 0.0)
    assert settled(pipeline, Settings(guidance=told)).guidance == told
    assert settled(pipeline, Settings(recipe="official")).guidance.rescale == 0.0


def test_records_without_a_rescale_are_read() -> None:
    old: Mapping[str, Any] = {key: value for key, value in records.dump(Defaults()).items() if "rescale" not in key}
    assert records.load(Defaults, old, "old") == Defaults(guidance_rescale=0.0)


def test_provenance_says_what_was_done(tiny: Pipeline, grid: EmbeddingGrid) -> None:
    how = replace(HOW, guidance=WILD)
    cost = Request(tiny, grid, how).figures
    told = Request(tiny, grid, how).provenance()["settings"]["guidance"]
    assert told == {"scale": 3.0, "interval": (0.1, 10.0), "rescale": 0.7, "threshold": (0.9, 0.5), "null_every": 1}
    assert cost.network_evaluations < Request(tiny, grid, replace(HOW, guidance=PLAIN)).figures.network_evaluations


@pytest.mark.parametrize(
    ("guidance", "words"),
    [
        (Guidance(2.0, interval=(2.0, 1.0)), "low < high"),
        (Guidance(2.0, interval=(2.0, 1.0), null_every=2), "low < high"),
        (Guidance(2.0, rescale=1.5), "share from 0 to 1"),
        (Guidance(2.0, rescale=-0.1, null_every=2), "share from 0 to 1"),
        (Guidance(2.0, threshold=(0.0, 3.0)), "quantile"),
        (Guidance(2.0, threshold=(0.9, 3.0), null_every=2), "--null-every"),
        (Guidance(2.0, null_every=0), "at least 1"),
        (Guidance(float("nan")), "not nan"),
    ],
)
def test_what_makes_no_sense_is_refused(tiny: Pipeline, grid: EmbeddingGrid, guidance: Guidance, words: str) -> None:
    with pytest.raises(InputError, match=words):
        _ = Request(tiny, grid, replace(HOW, guidance=guidance)).figures


@pytest.mark.parametrize("guidance", [Guidance(2.0, rescale=0.7), Guidance(2.0, threshold=(0.995, 3.0))])
def test_the_official_recipe_knows_a_scale_alone(tiny: Pipeline, guidance: Guidance) -> None:
    with pytest.raises(InputError, match="official recipe"):
        settled(tiny, Settings(recipe="official", guidance=guidance))
