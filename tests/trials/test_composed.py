"""Large images composed of small slides: from half A alone, a slide in one square, and measured as what they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.pipelines.conftest import tissue

from patchloom.errors import InputError
from patchloom.evaluation.estimates import Absent, Figure
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.settings import Settings
from patchloom.rasters.opening import open_raster
from patchloom.trials.composed import MOSAIC
from patchloom.trials.held_out import LARGE, HeldOut, Size, grid_of, made_of, turn
from patchloom.trials.large import COMPOSED
from patchloom.trials.patches import patches_at
from patchloom.trials.protocol import Evaluation, evaluate_pipeline

SIZE = Size(region_px=256, cells=4, seeds=2, training=20, composed=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen slides of 80 px of two places, and two of train."""
    folder = tmp_path_factory.mktemp("small")
    rows = ["file,group,split,pixel_size"]
    for number in range(18):
        Image.fromarray(tissue(number, 80, 80)).save(folder / f"slide{number}.png")
        split, place = ("train", "c") if number > 15 else ("test", "ab"[number // 8])
        rows.append(f"slide{number}.png,{place},{split},0.5um")
    table = folder / "small.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


@pytest.fixture(scope="module")
def finished(tiny: Pipeline, small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation]:
    folder = tmp_path_factory.mktemp("evaluations") / "composed"
    return folder, evaluate_pipeline(tiny, small, folder, training=small, size=SIZE)


def mixed(finished: tuple[Path, Evaluation]) -> tuple[HeldOut, Path]:
    folder, evaluation = finished
    (one,) = (slide for slide in evaluation.slides if slide.composed)
    (place,) = (folder / "slides").glob("composed-0-*")
    return one, place


def test_half_a_is_the_first_half_of_a_place_and_the_last_of_the_next(finished: tuple[Path, Evaluation]) -> None:
    halves = {slide.title: slide.places[0].half for slide in finished[1].slides if not slide.composed}
    assert [halves[f"slide{number}.png"] for number in range(16)] == [*"AAAABBBBBBBBAAAA"]


def test_as_many_places_are_varied_as_were_asked_for(finished: tuple[Path, Evaluation]) -> None:
    """Though half of the slides, those of half B, have none."""
    assert sum(slide.varied for slide in finished[1].slides) == SIZE.cells


def test_each_square_is_the_middle_of_another_slide_of_half_a(finished: tuple[Path, Evaluation], small: Path) -> None:
    one, place = mixed(finished)
    assert len(one.places) == 2 * 4
    with open_raster(place / MOSAIC) as raster:
        pixels = raster.read(raster.frame.box)
    assert pixels.shape == (3, 128, 256)
    squares = [pixels[:, y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64, 128, 192)]
    of_a = {number: np.moveaxis(tissue(number, 80, 80)[8:72, 8:72], -1, 0) for number in (*range(4), *range(12, 16))}
    found = [next(n for n, picture in of_a.items() if (picture == square).all()) for square in squares]
    assert sorted(found) == sorted(of_a)
    assert [one.places[k].field.split("-")[0] for k in range(8)] == [f"slide{number}" for number in found]


def test_cells_lie_side_by_side_and_see_one_slide_each(finished: tuple[Path, Evaluation], tiny: Pipeline) -> None:
    import torch

    _, place = mixed(finished)
    grid = grid_of(place)
    assert (grid.stride_px, grid.rows, grid.cols) == (64, 2, 4)
    with open_raster(place / MOSAIC) as raster:
        pixels = raster.read(raster.frame.box)
    alone = tiny.encoder()(torch.from_numpy(pixels[None, :, 64:128, 128:192].copy()))
    np.testing.assert_allclose(grid.embeddings[1, 2], alone[0], atol=2e-3)


def test_crops_are_held_against_patches_of_the_same_places_of_the_composed_grid(
    finished: tuple[Path, Evaluation], tiny: Pipeline
) -> None:
    one, place = mixed(finished)
    boxes = [replace(one.box, y=p.y, x=p.x, height=64, width=64) for p in one.places]
    alone = patches_at(tiny, grid_of(place), boxes, Settings())
    np.testing.assert_array_equal(made_of(place)["patches"], alone)
    assert (place / LARGE).is_file()
    report = finished[1].report
    crops, over = report.figure("crops: frechet"), report.figure("crops_over_patches: frechet")
    assert isinstance(crops, Figure)
    assert isinstance(over, Figure)
    assert crops.estimate.n == over.estimate.n == (8, 8)
    assert over.estimate.interval is not None


def test_what_is_composed_counts_neither_as_a_slide_nor_as_a_real_picture(finished: tuple[Path, Evaluation]) -> None:
    report = finished[1].report
    assert "16 held-out slides of 2 patients or places; 8 patches of 64 px in half A, 8 in half B" in report.notes[0]
    assert "1 of the large images are composed of the embeddings of 8 small slides of half A each" in report.notes
    patches = report.figure("patches: frechet")
    assert isinstance(patches, Figure)
    assert patches.sides[1].n == 8
    whole = report.figure("large_image_distance")
    assert isinstance(whole, Absent)
    assert whole.reason == COMPOSED
    seam = report.figure("seam: earlier stages") or report.figure("seam: decode tiles")
    assert not isinstance(seam, Figure) or seam.estimate.floor is None


def test_a_second_call_makes_nothing_anew(finished: tuple[Path, Evaluation], tiny: Pipeline, small: Path) -> None:
    folder, evaluation = finished
    _, place = mixed(finished)
    before = (place / LARGE).stat().st_mtime_ns
    again = evaluate_pipeline(tiny, small, folder, training=small, size=SIZE)
    assert again.report == evaluation.report
    assert (place / LARGE).stat().st_mtime_ns == before


def test_more_than_the_slides_give_is_refused(tiny: Pipeline, small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="8 small slides of half A do not make 3 mosaics of two by two"):
        evaluate_pipeline(tiny, small, tmp_path, size=replace(SIZE, composed=3, cells=1, seeds=1))


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30))
def test_halves_of_small_slides_are_even(groups: list[str]) -> None:
    counts, before = Counter(groups), list[str]()
    turned: dict[str, list[int]] = {group: [] for group in groups}
    for group in groups:
        turned[group].append(turn(group, before, counts[group]))
        before.append(group)
    for found in turned.values():
        assert abs(2 * sum(found) - len(found)) <= 1  # as many of each half
        assert sum(a != b for a, b in pairwise(found)) == (len(found) > 1)  # neighbours together
    odd = [found[0] for found in turned.values()]
    assert odd == [number % 2 for number in range(len(odd))]
