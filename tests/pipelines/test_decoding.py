"""Norms of a foreign decoder, by the settings: parts, edits, and what is said about them beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.cli.conftest import pipeline  # noqa: F401 - a fixture

from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape
from patchloom.errors import InputError
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.latents import read_latents
from patchloom.loom.memory import Sparing
from patchloom.pipelines.decoding import decoded, tiling_of
from patchloom.pipelines.edit import Edit
from patchloom.pipelines.generate import generate
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.request import Request
from patchloom.pipelines.settings import Settings, settled


@pytest.fixture(scope="module")
def foreign(pipeline: Path) -> Pipeline:  # noqa: F811
    """The tiny pipeline with a first stage of latent diffusion, 8 px a latent."""
    torch.manual_seed(0)
    stage = FirstStage(FirstStageShape("kl", 2, 2, 32, (1, 1, 1, 1), 1)).eval().requires_grad_(False)
    return replace(load_pipeline(pipeline), autoencoder=stage)


def grid(of: Pipeline, side: int = 3) -> EmbeddingGrid:
    cells = np.random.default_rng(0).standard_normal((side, side, of.record.encoder.dim)).astype(np.float32)
    extent = (side - 1) * 32 + 64
    valid = np.ones((side, side), bool)
    return EmbeddingGrid(cells, valid, 64, 32, (0, 0), (extent, extent), PixelSize(5e-7), of.record.encoder)


def pixels(of: Pipeline, settings: Settings, only: Box | None = None) -> NDArray[np.uint8]:
    field = generate(Request(of, grid(of), settings, only=only)).pixels
    return np.asarray(field.read(field.frame.box))


def test_frozen_is_the_default_of_foreign_decoders_alone(foreign: Pipeline, pipeline: Path) -> None:  # noqa: F811
    assert settled(foreign, Settings()).norms == "frozen"
    assert settled(load_pipeline(pipeline), Settings(norms="exact")).norms is None


@pytest.mark.parametrize("norms", ["frozen", "exact", "own"])
def test_a_part_is_the_crop_of_the_whole(foreign: Pipeline, norms: str) -> None:
    how, part = Settings(norms=norms), Box(17, 50, 40, 60)  # type: ignore[arg-type]
    whole = pixels(foreign, how)
    np.testing.assert_array_equal(pixels(foreign, how, part), whole[:, 17:57, 50:110])


def test_exact_is_the_canvas_in_one_piece(foreign: Pipeline, tmp_path: Path) -> None:
    made = generate(Request(foreign, grid(foreign), Settings(norms="exact")), save=tmp_path / "x.latents")
    latents = torch.from_numpy(np.array(read_latents(tmp_path / "x.latents").array))[None]
    with torch.no_grad():
        whole = foreign.autoencoder.decode(latents)[0].numpy().astype(int)
    assert np.abs(made.pixels.read(made.pixels.frame.box).astype(int) - whole).max() <= 1


def test_what_is_measured_is_counted_for_a_part(foreign: Pipeline) -> None:
    part = Box(0, 0, 16, 16)
    own, frozen = (
        Request(foreign, grid(foreign, 30), Settings(norms=norms), only=part).figures for norms in ("own", "frozen")
    )
    whole = Request(foreign, grid(foreign, 30)).figures
    assert own.network_evaluations < frozen.network_evaluations <= whole.network_evaluations
    assert tiling_of(foreign, Settings(norms="exact"), (16, 16)).passes == 1 + 4 + 2 + 4 * 2 * 2 + 1
    assert Request(foreign, grid(foreign), Settings(norms="exact")).forecast().seconds > 0


def test_an_edit_keeps_the_tint_of_what_it_keeps(foreign: Pipeline, tmp_path: Path) -> None:
    first = generate(Request(foreign, grid(foreign)), save=tmp_path / "first.latents")
    before = first.pixels.read(first.pixels.frame.box)
    edit = Edit(read_latents(tmp_path / "first.latents"), "sha256:0", Box(0, 0, 32, 32))
    second = generate(Request(foreign, grid(foreign), Settings(seed=5), edit=edit))
    after = second.pixels.read(second.pixels.frame.box)
    assert (after[:, :32, :32] != before[:, :32, :32]).mean() > 0.5
    run = plan_run(foreign, grid(foreign), Settings(seed=5), edit)
    assert run.kept is not None
    again = decoded(foreign, run, run.kept.latents, Settings(), Sparing())
    np.testing.assert_array_equal(again.read(again.frame.box), before)


def test_too_large_a_canvas_for_exact_norms_is_refused_before_it_is_made(foreign: Pipeline) -> None:
    with pytest.raises(InputError, match="exact norms are for canvases"):
        _ = Request(foreign, grid(foreign, 70), Settings(norms="exact")).figures


def test_the_official_recipe_has_no_such_choice(foreign: Pipeline) -> None:
    with pytest.raises(InputError, match="leave out --norms"):
        settled(foreign, Settings(norms="exact", recipe="official"))
