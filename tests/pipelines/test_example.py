"""The page that shows the method makes the picture that the engine makes."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import ROOT

from patchloom.encoders.slide import embed_slide
from patchloom.pipelines.generate import generate
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.request import Request
from patchloom.pipelines.settings import Settings


def test_the_example_makes_what_the_engine_makes(
    tiny: Pipeline, pipeline_folder: Path, slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide, out = slides.parent / "slide0.png", tmp_path / "out.png"
    runpy.run_path(str(ROOT / "examples" / "large_image.py"))["main"](slide, out, str(pipeline_folder))
    size, condition, own = tiny.pixel_size, tiny.record.condition, tiny.record.defaults
    grid = embed_slide(
        slide,
        tiny.encoder(),
        pixel_size=size,
        slide_pixel_size=size,
        cell_px=condition.cell_px,
        stride_px=min(condition.strides_px),
    )
    field = generate(Request(tiny, grid, Settings(window=own.window, core=own.core))).pixels
    with Image.open(out) as picture:
        made = np.moveaxis(np.asarray(picture), -1, 0).astype(int)
    assert np.abs(made - field.read(field.frame.box)).max() <= 1
    assert made.std() > 1
    assert re.search(r": ([2-9]|\d\d) window", capsys.readouterr().err)
