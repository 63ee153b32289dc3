"""The main job from end to end, on a pipeline and a section of a test's size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from patchloom.encoders.slide import embed_slide
from patchloom.grids.file import write_grid
from patchloom.pipelines.pipeline import Pipeline
from patchloom.rasters.opening import open_raster
from patchloom.trials import demo as job

KEYS = {"size_px", "embedding_similarity", "floor_shuffled", "ceiling_autoencoder", "network_evaluations", "seconds"}


def test_the_demo_leaves_a_pyramid_a_picture_and_figures(
    tiny: Pipeline, pipeline_folder: Path, slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section, grid, out = slides.parent / "slide3.png", tmp_path / "a.grid", tmp_path / "out"
    size, cell = tiny.pixel_size, tiny.record.condition.cell_px
    found = embed_slide(
        section, tiny.encoder(), pixel_size=size, slide_pixel_size=size, cell_px=cell, stride_px=cell // 2, mode="all"
    )
    write_grid(found, grid)
    for name, value in (("PIPELINE", str(pipeline_folder)), ("GRID", grid), ("REFERENCE", section)):
        monkeypatch.setattr(job, name, value)
    moved: dict[str, tuple[int, int]] = {}
    facts = job.demo(out, lambda label: lambda done, total: moved.update({label: (done, total)}), device="cpu")
    assert facts.keys() >= KEYS
    assert json.loads((out / "demo.json").read_text()) == facts
    assert {label: done == total for label, (done, total) in moved.items()} == {
        "generate": True,
        "write": True,
        "compare": True,
    }
    with open_raster(out / "demo.tif") as pyramid, Image.open(out / "demo.png") as picture:
        assert facts["size_px"] == [pyramid.frame.height, pyramid.frame.width] == [picture.height, picture.width]
        assert pyramid.frame.pixel_size == size
        assert pyramid.read(pyramid.frame.box).transpose(1, 2, 0).tobytes() == picture.convert("RGB").tobytes()
