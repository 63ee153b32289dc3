"""Similarity guidance from a pipeline and a grid to pixels: nearer cells, the same bytes in any order, refusals."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.pipelines.conftest import tissue

from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape
from patchloom.diffusion.guidance_similarity import Pull
from patchloom.encoders.embed import embed
from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.similarity import grid_similarity
from patchloom.fields.directory import DirectoryStore
from patchloom.fields.field import ArrayField, Field
from patchloom.fields.weave import Job, Work
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.forecast import forecast
from patchloom.pipelines.generate import Order, generate
from patchloom.pipelines.guidance import Guidance
from patchloom.pipelines.image_file import generate_file
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.record import NOT_STATED
from patchloom.pipelines.request import Request
from patchloom.pipelines.sample import sample
from patchloom.pipelines.settings import Settings
from patchloom.pipelines.similarity_guidance import sight_of
from patchloom.pipelines.workers import Recipe

PULL = Pull(0.3, (0.1, 10.0))
HOW = Settings(steps=4, similarity=PULL, batch=2, window=16, core=12)
OFF = replace(HOW, similarity=Pull())
Array = NDArray[np.uint8]


def cells(pipeline: Pipeline, field: Field) -> EmbeddingGrid:
    rows, cols = ((side - 64) // 32 + 1 for side in field.frame.box.shape)
    valid = np.ones((rows, cols), bool)
    valid[0, 0] = False
    size = PixelSize.parse("0.5um")
    return embed(field, pipeline.encoder(), cell_px=64, stride_px=32, valid=valid, pixel_size=size)


@pytest.fixture(scope="module")
def grid(tiny: Pipeline) -> EmbeddingGrid:
    """Of 128 x 160 px: 3 x 4 cells, two windows a meeting."""
    return cells(tiny, ArrayField(tissue(0, 128, 160).transpose(2, 0, 1)))


def pixels(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    how: Settings,
    only: Box | None = None,
    **parts: Any,
) -> Array:
    field = generate(Request(pipeline, grid, how, only=only), **parts).pixels
    return np.asarray(field.read(field.frame.box))


def test_cells_are_nearer_to_their_grid(tiny: Pipeline, grid: EmbeddingGrid) -> None:
    plain, pulled = (
        grid_similarity(grid, cells(tiny, ArrayField(pixels(tiny, grid, how)))).raw.value.value for how in (OFF, HOW)
    )
    assert pulled > plain


def test_off_is_no_guidance_at_all(tiny: Pipeline, grid: EmbeddingGrid) -> None:
    np.testing.assert_array_equal(
        pixels(tiny, grid, OFF), pixels(tiny, grid, Settings(steps=4, batch=2, window=16, core=12))
    )
    assert plan_run(tiny, grid, OFF).gradients(1.0) == 0


@pytest.mark.parametrize("order", ["canvas", "down"])
def test_every_order_and_part_has_the_same_bytes(tiny: Pipeline, grid: EmbeddingGrid, order: Order) -> None:
    whole, part = pixels(tiny, grid, HOW), Box(40, 24, 50, 70)
    np.testing.assert_array_equal(pixels(tiny, grid, HOW, order=order), whole)
    np.testing.assert_array_equal(pixels(tiny, grid, HOW, only=part), whole[:, 40:90, 24:94])


def test_patches_without_a_grid_refuse_it(tiny: Pipeline) -> None:
    with pytest.raises(InputError, match="follows the grid of a large image"):
        sample(tiny, np.zeros((1, tiny.record.encoder.dim), np.float32), HOW)


@dataclass
class Helper:
    """A crew that has the works of a recipe which was pickled, as a worker has."""

    works: dict[str, Work]
    portion: None = None

    def __call__(self, key: str, work: Work, jobs: Iterator[Job]) -> Iterator[Job]:
        return ((windows, self.works[key](windows, arrays)) for windows, arrays in jobs)


def test_a_worker_makes_the_same_bytes(tiny: Pipeline, pipeline_folder: Path, grid: EmbeddingGrid) -> None:
    recipe = Recipe(pipeline_folder, tiny.identity, grid, HOW, torch.device("cpu"), torch.float32)
    helper = Helper(dict(pickle.loads(pickle.dumps(recipe))(0)))
    np.testing.assert_array_equal(pixels(tiny, grid, HOW, crew=helper), pixels(tiny, grid, HOW))


def test_an_interrupted_run_ends_in_the_same_bytes_and_another_strength_is_refused(
    tiny: Pipeline, grid: EmbeddingGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.png", tmp_path / "out.png"
    generate_file(Request(tiny, grid, HOW), whole)
    put, calls = DirectoryStore.put, count(1)

    def interrupted(store: DirectoryStore, key: str, index: int, tile: Array) -> None:
        put(store, key, index, tile)
        if next(calls) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(DirectoryStore, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_file(Request(tiny, grid, HOW), out)
    for pull in (Pull(), replace(PULL, strength=0.2), replace(PULL, steps=1)):
        with pytest.raises(MismatchError, match="settings"):
            generate_file(Request(tiny, grid, replace(HOW, similarity=pull)), out)
    generate_file(Request(tiny, grid, HOW), out)
    assert out.read_bytes() == whole.read_bytes()


def test_provenance_and_seconds_know_of_it(tiny: Pipeline, grid: EmbeddingGrid) -> None:
    cost = Request(tiny, grid, HOW).figures
    assert cost == Request(tiny, grid, OFF).figures  # the network is asked no more often
    assert Request(tiny, grid, HOW).provenance()["settings"]["similarity"]["strength"] == 0.3
    ticks = count()
    plain, pulled = (
        forecast(plan_run(tiny, grid, how), tiny.autoencoder, clock=lambda: float(next(ticks))).seconds
        for how in (OFF, HOW)
    )
    run = plan_run(tiny, grid, HOW)
    kinds = {run.gradients(stage.sigma) for stage in run.stages}
    assert kinds == {0, 2}  # two kinds of batch are timed, a tick each
    assert (plain, pulled) == (plain, plain)


def test_pixels_of_a_decoder_of_latent_diffusion_lead_back_to_latents(tiny: Pipeline) -> None:
    torch.manual_seed(0)
    stage = FirstStage(FirstStageShape("vq", 2, 2, 32, (1, 1, 1, 1), 1, codes=8)).eval()
    latents = torch.randn(1, 2, 4, 4).requires_grad_()
    (slope,) = torch.autograd.grad(sight_of(replace(tiny, autoencoder=stage)).decode(latents).sum(), latents)
    assert bool((slope != 0).all())


def _unstated(tiny: Pipeline) -> Pipeline:
    return replace(tiny, record=replace(tiny.record, encoder=replace(tiny.record.encoder, name=NOT_STATED)))


@dataclass
class Bytes:
    """A decoder that gives bytes alone."""

    factor: int = 8
    channels: int = 2
    receptive_field: int = 1

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(pixels), 2, *(side // 8 for side in pixels.shape[2:]))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(latents), 3, *(side * 8 for side in latents.shape[2:]), dtype=torch.uint8)


REFUSED: list[tuple[Callable[[Pipeline], Pipeline], Settings, str]] = [
    (_unstated, HOW, "does not state it"),
    (lambda tiny: replace(tiny, autoencoder=Bytes()), HOW, "gives bytes alone"),
    (lambda tiny: tiny, replace(HOW, guidance=Guidance(null_every=2)), "--null-every"),
]


@pytest.mark.parametrize(("made", "how", "words"), REFUSED)
def test_what_it_cannot_do_is_refused(
    tiny: Pipeline, grid: EmbeddingGrid, made: Callable[[Pipeline], Pipeline], how: Settings, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        plan_run(made(tiny), grid, how)
