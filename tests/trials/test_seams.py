"""The seam meter of a part of an image looks at the lines of the whole."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import pipeline
from tests.cli.test_evaluate import values
from tests.cli.test_generate_and_sample import patchloom

from patchloom.errors import FormatError
from patchloom.fields.field import ArrayField
from patchloom.geometry import Box
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pipelines.settings import Settings, settled
from patchloom.pyramids.image import write_image
from patchloom.trials.seams import LAST, borders_of, place_of

__all__ = ["pipeline"]  # a fixture
WHOLE, PART = (256, 320), Box(44, 61, 180, 200)  # no multiples of a latent


def test_a_seam_of_the_whole_is_found_in_a_part(pipeline: Path, tmp_path: Path) -> None:
    loaded = load_pipeline(pipeline)
    settings = settled(loaded, Settings())
    border = sorted(borders_of(loaded, settings, WHOLE)[LAST].rows)[2]
    pixels = np.random.default_rng(0).integers(100, 110, (3, *PART.shape), dtype=np.uint8)
    pixels[:, border - PART.y :] += 40
    block = {
        "settings": asdict(settings),
        "pipeline": {"digest": loaded.digest},
        "only_xywh": [PART.x, PART.y, PART.width, PART.height],
        "of_px": list(WHOLE),
    }
    write_image(ArrayField(pixels), tmp_path / "part.png", provenance=block)
    said = patchloom("evaluate", "seams", tmp_path / "part.png", "--pipeline", pipeline, "--json")
    assert values(said)[f"seam: {LAST}"] > 1.5
    write_image(ArrayField(pixels), tmp_path / "moved.png", provenance={**block, "only_xywh": [61, 40, 200, 180]})
    moved = patchloom("evaluate", "seams", tmp_path / "moved.png", "--pipeline", pipeline, "--json")
    assert values(moved)[f"seam: {LAST}"] < 1.2, "four rows off there is no border"


def test_lines_of_a_part_are_those_inside_it(pipeline: Path) -> None:
    loaded = load_pipeline(pipeline)
    for whole in borders_of(loaded, settled(loaded, Settings()), WHOLE).values():
        part = whole.within(PART)
        assert {line + PART.y for line in part.rows} == {line for line in whole.rows if PART.y < line < PART.stop_y}
        assert {line + PART.x for line in part.cols} == {line for line in whole.cols if PART.x < line < PART.stop_x}


def test_a_part_of_another_size_than_it_says_is_refused() -> None:
    with pytest.raises(FormatError, match="says that it is 200 x 180 px"):
        place_of({"only_xywh": [61, 44, 200, 180], "of_px": [256, 320]}, Box(0, 0, 180, 199), "it")
    assert place_of({}, Box(0, 0, 9, 7), "it") == ((9, 7), Box(0, 0, 9, 7))
