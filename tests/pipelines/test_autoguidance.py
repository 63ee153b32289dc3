"""Autoguidance by a second pipeline: itself is nothing, another is seen, the same bytes in any order, refusals."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.pipelines.test_similarity_guidance import Helper

from patchloom import weights
from patchloom.autoencoders import files as autoencoders
from patchloom.diffusion.guidance_similarity import Pull
from patchloom.errors import InputError, MismatchError
from patchloom.fields.directory import DirectoryStore
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.loom.latents import read_latents
from patchloom.networks import files as networks
from patchloom.pipelines.autoguidance import autoguided, load_guided
from patchloom.pipelines.edit import Edit, open_edit
from patchloom.pipelines.generate import Order, generate
from patchloom.pipelines.guidance import Guidance
from patchloom.pipelines.image_file import generate_file
from patchloom.pipelines.pipeline import Pipeline, load_pipeline, read_record, write_record
from patchloom.pipelines.record import AUTOENCODER, DENOISER
from patchloom.pipelines.request import Request
from patchloom.pipelines.sample import sample
from patchloom.pipelines.settings import Settings, lattices_of
from patchloom.pipelines.vary import vary
from patchloom.pipelines.workers import Recipe

LED = Guidance(2.0)
HOW = Settings(steps=3, guidance=LED, batch=2, window=16, core=12)


def other(folder: Path, out: Path, name: str, part: str = f"{DENOISER}/{networks.WEIGHTS}", seed: int = 0) -> Path:
    """A pipeline like that of a folder, with other weights in one of its parts."""
    shutil.copytree(folder, out)
    some = torch.Generator().manual_seed(seed)
    held = weights.read_tensors(out / part)
    moved = {key: one + 0.1 * torch.randn(one.shape, generator=some) for key, one in held.items()}
    weights.write_tensors(moved, out / part)
    write_record(out, replace(read_record(out), name=name), "")
    return out


@pytest.fixture(scope="module")
def folders(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A good pipeline and a worse one, of one autoencoder."""
    place = tmp_path_factory.mktemp("pair")
    return other(pipeline_folder, place / "good", "good"), other(pipeline_folder, place / "worse", "worse", seed=1)


@pytest.fixture(scope="module")
def good(folders: tuple[Path, Path]) -> Pipeline:
    return load_pipeline(folders[0])


@pytest.fixture(scope="module")
def worse(folders: tuple[Path, Path]) -> Pipeline:
    return load_pipeline(folders[1])


@pytest.fixture(scope="module")
def pair(folders: tuple[Path, Path]) -> Pipeline:
    return load_guided(*folders)


@pytest.fixture(scope="module")
def grid(good: Pipeline) -> EmbeddingGrid:
    """Of 128 x 160 px: 3 x 4 cells, two windows a meeting."""
    cells = np.random.default_rng(0).standard_normal((3, 4, good.record.encoder.dim)).astype(np.float32)
    return EmbeddingGrid(cells, np.ones((3, 4), bool), 64, 32, (0, 0), (128, 160), PixelSize(5e-7), good.record.encoder)


def pixels(
    pipeline: Pipeline,
    grid: EmbeddingGrid,
    how: Settings = HOW,
    only: Box | None = None,
    edit: Edit | None = None,
    **parts: Any,
) -> NDArray[np.uint8]:
    field = generate(Request(pipeline, grid, how, only=only, edit=edit), **parts).pixels
    return np.asarray(field.read(field.frame.box))


def scaled(scale: float, **others: Any) -> Settings:
    return replace(HOW, guidance=Guidance(scale, **others))


def test_a_pipeline_does_not_lead_away_from_itself(good: Pipeline, grid: EmbeddingGrid) -> None:
    itself = autoguided(good, good)
    np.testing.assert_array_equal(pixels(itself, grid), pixels(good, grid, scaled(1.0)))


def test_scale_1_is_the_one_alone_and_0_the_other(
    pair: Pipeline, good: Pipeline, worse: Pipeline, grid: EmbeddingGrid
) -> None:
    plain, bad, led = pixels(good, grid, scaled(1.0)), pixels(worse, grid, scaled(1.0)), pixels(pair, grid)
    np.testing.assert_array_equal(pixels(pair, grid, scaled(1.0)), plain)
    np.testing.assert_array_equal(pixels(pair, grid, scaled(0.0)), bad)
    assert (led != plain).any()
    assert (led != pixels(good, grid)).any(), "it is not guidance by the null branch"


@pytest.mark.parametrize("acting", [{"interval": (0.1, 2.0)}, {"rescale": 1.0}, {"threshold": (0.5, 0.1)}])
def test_it_goes_with_interval_rescale_and_threshold(pair: Pipeline, grid: EmbeddingGrid, acting: Any) -> None:
    assert (pixels(pair, grid, scaled(2.0, **acting)) != pixels(pair, grid)).any()


@pytest.mark.parametrize("order", ["canvas", "down"])
def test_every_order_and_part_has_the_same_bytes(pair: Pipeline, grid: EmbeddingGrid, order: Order) -> None:
    how = scaled(2.0, rescale=0.7, threshold=(0.9, 0.5))
    whole = pixels(pair, grid, how)
    np.testing.assert_array_equal(pixels(pair, grid, how, order=order), whole)
    np.testing.assert_array_equal(pixels(pair, grid, how, only=Box(40, 24, 50, 70)), whole[:, 40:90, 24:94])


def test_similarity_guidance_acts_on_top_of_it(pair: Pipeline, grid: EmbeddingGrid) -> None:
    pulled = replace(HOW, similarity=Pull(0.3, (0.1, 10.0)))
    assert (pixels(pair, grid, pulled) != pixels(pair, grid)).any()


def test_a_canvas_may_wrap(pair: Pipeline, grid: EmbeddingGrid) -> None:
    assert pixels(pair, grid, replace(HOW, wrap="both")).shape == (3, 128, 160)


def test_an_edit_keeps_what_lies_outside(pair: Pipeline, good: Pipeline, grid: EmbeddingGrid, tmp_path: Path) -> None:
    first, second = tmp_path / "first.png.latents", tmp_path / "second.png.latents"
    pixels(good, grid, save=first)
    pixels(pair, grid, replace(HOW, seed=4), edit=open_edit(first, Box(64, 64, 64, 64)), save=second)
    before, after = (read_latents(one).read(Box(0, 0, 16, 20)) for one in (first, second))
    changed = (before != after).any(axis=0)
    assert changed[8:16, 8:16].all()
    changed[8:16, 8:16] = False
    assert not changed.any()


def test_a_worker_makes_the_same_bytes(pair: Pipeline, folders: tuple[Path, Path], grid: EmbeddingGrid) -> None:
    cpu = torch.device("cpu")
    recipe = Recipe(folders[0], pair.identity, grid, HOW, cpu, torch.float32, autoguide=folders[1])
    helper = Helper(dict(pickle.loads(pickle.dumps(recipe))(0)))
    np.testing.assert_array_equal(pixels(pair, grid, crew=helper), pixels(pair, grid))
    with pytest.raises(MismatchError, match="changed while"):
        replace(recipe, autoguide=folders[0])(0)


def test_an_interrupted_run_goes_on_with_the_same_guide_alone(
    pair: Pipeline, good: Pipeline, grid: EmbeddingGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.png", tmp_path / "out.png"
    generate_file(Request(pair, grid, HOW), whole)
    put, calls = DirectoryStore.put, count(1)

    def interrupted(store: DirectoryStore, key: str, index: int, tile: NDArray[Any]) -> None:
        put(store, key, index, tile)
        if next(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(DirectoryStore, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_file(Request(pair, grid, HOW), out)
    for pipeline in (good, autoguided(good, good)):
        with pytest.raises(MismatchError, match="pipeline"):
            generate_file(Request(pipeline, grid, HOW), out)
    generate_file(Request(pair, grid, HOW), out)
    assert out.read_bytes() == whole.read_bytes()


def test_provenance_and_counts_know_of_it(pair: Pipeline, good: Pipeline, worse: Pipeline, grid: EmbeddingGrid) -> None:
    told = generate(Request(pair, grid, HOW)).provenance["pipeline"]
    assert told == good.identity | {"autoguided_by": {"name": "worse", "digest": worse.digest}}
    alone, led, part = (
        Request(pair, grid, how).figures.network_evaluations
        for how in (scaled(1.0), HOW, scaled(2.0, interval=(0.0, 1.0)))
    )
    assert led == 2 * alone
    assert alone < part < led


def test_patches_and_variations_are_led_too(pair: Pipeline, good: Pipeline, slides: Path, tmp_path: Path) -> None:
    embeddings = np.ones((2, pair.record.encoder.dim), np.float32)
    assert (sample(pair, embeddings, HOW) != sample(good, embeddings, scaled(1.0))).any()
    made = vary(pair, slides, 1, tmp_path / "out", Settings(steps=1, guidance=LED), split="val")
    assert len(made.variations) == 1
    with pytest.raises(MismatchError, match="pipeline"):
        vary(good, slides, 1, tmp_path / "out", Settings(steps=1, guidance=LED), split="val")


def test_windows_are_no_larger_than_both_bear(good: Pipeline, worse: Pipeline) -> None:
    small = replace(worse.record.defaults, window=8, core=6)
    pair = autoguided(good, replace(worse, record=replace(worse.record, defaults=small)))
    (lattice, *_) = lattices_of(pair, Settings(steps=1, guidance=LED), (64, 64))
    assert lattice.window(0).box.shape == (8, 8)


def _told(worse: Pipeline, **changes: Any) -> Pipeline:
    return replace(worse, record=replace(worse.record, **changes))


OTHERS: list[tuple[Callable[[Pipeline], Pipeline], str]] = [
    (lambda one: _told(one, factor=4), "pixels a latent"),
    (lambda one: _told(one, channels=3), "channels"),
    (lambda one: _told(one, pixel_size="1um"), r"pixel size \(0.5um, 1um\)"),
    (lambda one: _told(one, condition=replace(one.record.condition, cell_px=32)), "64 px, 32 px"),
    (lambda one: _told(one, encoder=replace(one.record.encoder, name="else")), r"encoder \(`tiny`, `else`\)"),
    (lambda one: _told(one, encoder=replace(one.record.encoder, digest="sha256:1")), "encoder"),
]


@pytest.mark.parametrize(("made", "words"), OTHERS)
def test_another_kind_of_pipeline_is_refused(
    good: Pipeline, worse: Pipeline, made: Callable[[Pipeline], Pipeline], words: str
) -> None:
    with pytest.raises(MismatchError, match=f"`worse` cannot guide `good`.*{words}"):
        autoguided(good, made(worse))


def test_another_autoencoder_is_refused_and_another_decoder_is_not(
    good: Pipeline, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    part = f"{AUTOENCODER}/{autoencoders.WEIGHTS}"
    foreign = other(folders[1], tmp_path / "foreign", "foreign", part)
    with pytest.raises(MismatchError, match="autoencoder"):
        autoguided(good, load_pipeline(foreign))
    path = foreign / AUTOENCODER / autoencoders.RECORD
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | {"latents": good.record.weights[part]}), encoding="utf-8")
    assert autoguided(good, load_pipeline(foreign)).worse is not None


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Settings(), "--guidance 2"),
        (scaled(2.0, null_every=2), "--null-every"),
        (replace(HOW, plan=None, recipe="official"), "--autoguide"),
    ],
)
def test_what_makes_no_sense_with_it_is_refused(pair: Pipeline, grid: EmbeddingGrid, how: Settings, words: str) -> None:
    with pytest.raises(InputError, match=words):
        _ = Request(pair, grid, how).figures
