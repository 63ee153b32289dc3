"""What comes with Patchloom works together: the pipeline, the sample section, and the page that shows the method."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchloom.fields.field import ArrayField, Cropped
from patchloom.geometry import Box
from patchloom.grids.file import read_grid
from patchloom.pipelines.generate import generate
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.presets import find_pipeline, presets
from patchloom.pipelines.request import Request
from patchloom.pipelines.settings import Settings
from patchloom.rasters.opening import open_raster
from patchloom.trials import demo
from patchloom.trials.fidelity import fidelity

ROOT = Path(__file__).parent.parent
AERIAL = "aerial-foundation"
TOWN = demo.GRID.with_name("town.grid")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline(demo.PIPELINE)


def test_the_presets_are_those_that_are_documented() -> None:
    assert presets() == [AERIAL, demo.PIPELINE]
    for name in presets():
        page = (ROOT / "docs" / "models" / f"{name}.md").read_text(encoding="utf-8")
        assert (find_pipeline(name) / "README.md").read_text(encoding="utf-8") == page, "a card is its page in docs"


def test_all_weights_together_are_small_enough_to_be_committed() -> None:
    files = [file for name in presets() for file in find_pipeline(name).rglob("*.safetensors")]
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) <= 80e6


def test_the_sample_grid_describes_the_sample_section(pipeline: Pipeline) -> None:
    grid = read_grid(demo.GRID)
    pipeline.check(grid)
    with open_raster(demo.REFERENCE, pipeline.pixel_size) as section:
        assert grid.canvas == section.frame.box.shape
        cell = section.read(grid.cell_box(3, 5))
    own = pipeline.encoder()
    from patchloom.encoders.embed import encode

    assert np.allclose(encode(own, cell[None])[0], grid.embeddings[3, 5], atol=2e-2)


def test_the_image_follows_the_grid_and_not_another_one(pipeline: Pipeline) -> None:
    grid = read_grid(demo.GRID).cropped(Box(0, 0, 7, 7))
    image = generate(Request(pipeline, grid, Settings(batch=4)))
    pixels = ArrayField(image.pixels.read(image.pixels.frame.box), pipeline.pixel_size)
    with open_raster(demo.REFERENCE, pipeline.pixel_size) as section:
        found = fidelity(pipeline, grid, pixels, Cropped(section, pixels.frame.box))
    assert found.raw.value.value > found.raw.floor + 0.03
    assert found.raw.ceiling is not None
    assert found.raw.ceiling.value > found.raw.value.value
    assert found.retrieval_auc.value > 0.55


def test_the_town_follows_its_grid() -> None:
    aerial = load_pipeline(AERIAL)
    grid = read_grid(TOWN).cropped(Box(4, 4, 4, 4))
    aerial.check(grid)
    image = generate(Request(aerial, grid, Settings(batch=4)))
    pixels = ArrayField(image.pixels.read(image.pixels.frame.box), aerial.pixel_size)
    found = fidelity(aerial, grid, pixels, None)
    assert found.raw.value.value > found.raw.floor + 0.03
    assert found.retrieval_auc.value > 0.55


def test_the_page_that_shows_the_method_makes_a_picture(tmp_path: Path) -> None:
    reference, out = tmp_path / "reference.png", tmp_path / "out.png"
    Image.open(demo.REFERENCE).crop((0, 0, 320, 256)).save(reference)
    runpy.run_path(str(ROOT / "examples" / "large_image.py"))["main"](reference, out)
    with Image.open(out) as made:
        assert made.size == (320, 256)
        assert np.asarray(made).std() > 5
