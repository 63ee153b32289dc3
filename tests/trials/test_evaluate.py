"""The protocol on tiny slides: halves without a common field, leaks refused, resumed, and told by its N."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tests.pipelines.conftest import tissue

from patchloom.cli.main import main
from patchloom.datasets.dataset import Dataset
from patchloom.errors import InputError, MismatchError
from patchloom.evaluation.estimates import Absent, Entry, Figure
from patchloom.evaluation.report import read_report
from patchloom.geometry import Box, PixelSize
from patchloom.grids.grid import EmbeddingGrid
from patchloom.pipelines import margin
from patchloom.pipelines.generate import generate
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.reference import embed_reference
from patchloom.pipelines.request import Request
from patchloom.pipelines.settings import Settings
from patchloom.rasters.opening import open_raster
from patchloom.trials.held_out import FIELD, LARGE, Size, grid_of, made_of, survey
from patchloom.trials.patches import patches_at
from patchloom.trials.protocol import Evaluation, evaluate_pipeline
from patchloom.trials.sides import Cut, open_side

SIZE = Size(region_px=256, cells=4, seeds=2, training=20)


@pytest.fixture(scope="module")
def finished(
    tiny: Pipeline, slides: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Evaluation]:
    folder = tmp_path_factory.mktemp("evaluations") / "one"
    return folder, evaluate_pipeline(tiny, slides, folder, training=dataset.folder, size=SIZE)


def test_every_part_of_the_table_is_there(finished: tuple[Path, Evaluation]) -> None:
    folder, evaluation = finished
    entries: list[Entry] = [*evaluation.report.figures, *evaluation.report.absent]
    names = {entry.name for entry in entries}
    assert names >= {
        "patches: frechet_axes",
        "patches: frechet_axes_over_floor",
        "patches: kernel",
        "patches: coverage",
        "autoencoder: kernel",
        "crops: frechet",
        "crops_over_patches: frechet",
        "large_image_distance: cmmd",
        "similarity_raw",
        "similarity_centred_share_of_way",
        "retrieval_auc",
        "diversity_per_condition",
        "nearest_training_distance_ratio",
        "reconstruction_psnr",
    }
    assert read_report(folder / "report.json") == evaluation.report
    assert (folder / "report.txt").read_text(encoding="utf-8").startswith("tiny on slides.csv")
    page = (folder / "report.html").read_text(encoding="utf-8")
    patches = sum(len(slide.half("A")) for slide in evaluation.slides)
    pairs = 2 * 3 + -(-patches // 6) + 1  # wholes and middles, rows of six, and those nearest to the training set
    assert page.count("data:image/png;base64,") == 2 * pairs
    assert "nearest to a training patch" in page
    assert "patches: frechet_axes" in page


def test_the_documentation_explains_every_figure(finished: tuple[Path, Evaluation]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    entries: list[Entry] = [*finished[1].report.figures, *finished[1].report.absent]
    for name in {entry.name for entry in entries}:
        short = name if name.startswith(("seam", "large_image_distance")) else name.rpartition(": ")[2]
        for ending in ("_ceiling", "_share_of_way", "_over_bicubic"):
            short = short.removesuffix(ending)
        short = short.replace("bicubic_", "reconstruction_").removeprefix("seam: ")
        assert f"`{short}`" in page or f"`seam: {short}`" in page, name


def test_figures_say_their_n_and_floor(finished: tuple[Path, Evaluation]) -> None:
    _, evaluation = finished
    halves = [sum(len(slide.half(half)) for slide in evaluation.slides) for half in "AB"]
    patches = evaluation.report.figure("patches: frechet")
    assert isinstance(patches, Figure)
    assert patches.estimate.n == (min(halves), min(halves))
    assert patches.estimate.floor is not None
    assert patches.estimate.floor.value > 0
    assert patches.estimate.floor.what == "half A of the real fields against half B"
    assert f"{halves[0]} patches of 64 px in half A, {halves[1]} in half B" in evaluation.report.notes[0]
    assert "tiny conditioned the pipeline: it is no judge by itself" in evaluation.report.notes
    assert [slide.group for slide in evaluation.slides] == ["patient3", "patient4", "patient5"]


def test_large_images_are_held_against_their_references_as_wholes(finished: tuple[Path, Evaluation]) -> None:
    _, evaluation = finished
    whole = evaluation.report.figure("large_image_distance: cmmd")
    assert isinstance(whole, Figure)
    assert whole.estimate.n == (3, 3)
    assert [side.name for side in whole.sides] == ["their references", "large images"]
    assert whole.space is not None
    assert whole.space.resizer.startswith("whole images, antialiased bicubic to")
    halved = evaluation.report.figure("large_image_distance: kernel")
    assert isinstance(halved, Absent)
    assert "3 real images do not split" in halved.reason


def test_plots_of_a_dataset_are_taken_whole_where_they_are_squeezed(dataset: Dataset) -> None:
    side = open_side(dataset.folder, Cut(squeeze_px=20))
    assert side.patches.n == len(dataset.record.plots)
    assert side.patches.read(0).shape == (3, 20, 20)
    with pytest.raises(InputError, match="say which squares to cut with --crop"):
        open_side(dataset.folder, Cut())


def test_no_field_is_in_both_halves(finished: tuple[Path, Evaluation]) -> None:
    _, evaluation = finished
    for slide in evaluation.slides:
        one, two = ({place.field for place in slide.half(half)} for half in "AB")
        assert one
        assert two
        assert not one & two


def test_a_second_call_makes_nothing_anew(
    finished: tuple[Path, Evaluation], tiny: Pipeline, slides: Path, dataset: Dataset
) -> None:
    folder, evaluation = finished
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "slides").rglob("*") if path.is_file()}
    again = evaluate_pipeline(tiny, slides, folder, training=dataset.folder, size=SIZE)
    assert again == evaluation
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_another_evaluation_does_not_go_into_the_same_folder(
    finished: tuple[Path, Evaluation], tiny: Pipeline, slides: Path
) -> None:
    with pytest.raises(MismatchError, match="holds the evaluation of another pipeline, size, seed or table"):
        evaluate_pipeline(tiny, slides, finished[0], size=replace(SIZE, seeds=3))


def test_trained_patients_are_refused_by_name(tiny: Pipeline, slides: Path, dataset: Dataset, tmp_path: Path) -> None:
    table = slides.parent / "leak.csv"
    table.write_text("file,group,split,pixel_size\nslide3.png,patient0,test,0.5um\n")
    with pytest.raises(MismatchError, match="1 patients or places of the test are in the training data: patient0"):
        evaluate_pipeline(tiny, table, tmp_path, training=dataset.folder, size=SIZE)
    assert list(tmp_path.iterdir()) == []


def test_without_training_data_nothing_is_guessed(tiny: Pipeline, slides: Path, tmp_path: Path) -> None:
    small = replace(SIZE, slides=2, region_px=128, cells=2)
    found = evaluate_pipeline(tiny, slides, tmp_path, size=small).report
    for name in ("patches: frechet_axes", "nearest_training_distance_ratio", "crops: frechet_axes", "similarity_raw"):
        assert isinstance(found.figure(name), Absent), name
    assert any("no check for leaks" in note for note in found.notes)


def test_a_broken_slide_is_named_and_the_others_are_measured(tiny: Pipeline, slides: Path, tmp_path: Path) -> None:
    table = slides.parent / "broken.csv"
    names = ("slide3.png", "gone.png", "slide4.png")
    rows = [f"{name},{name},test,0.5um" for name in names]
    table.write_text("\n".join(["file,group,split,pixel_size", *rows]) + "\n")
    made = evaluate_pipeline(tiny, table, tmp_path, size=replace(SIZE, region_px=128, cells=2))
    assert [slide.name for slide in made.slides] == ["slide3.png", "slide4.png"]
    assert [name for name, _ in made.broken] == ["gone.png"]
    assert any(note.startswith("not measured: gone.png") for note in made.report.notes)


def test_an_empty_test_is_refused(tiny: Pipeline, slides: Path, tmp_path: Path) -> None:
    table = slides.parent / "empty.csv"
    table.write_text("file,group,split\nslide0.png,patient0,train\n")
    with pytest.raises(InputError, match="names no slide of split `test`"):
        evaluate_pipeline(tiny, table, tmp_path)


def test_the_region_with_most_tissue_is_taken(tmp_path: Path) -> None:
    pixels = np.full((256, 512, 3), 245, np.uint8)
    pixels[64:192, 256:448] = tissue(0, 128, 192)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with open_raster(tmp_path / "a.png", PixelSize.parse("0.5um")) as raster:
        box, places = survey(raster, 64, 192, "a", 0)
        _, others = survey(raster, 64, 192, "a", 1)
    assert box.height == box.width == 192
    assert (box.x, box.stop_x) == (256, 448)
    found = {(box.y + place.y, box.x + place.x) for place in places}
    assert found >= {(y, x) for y in (64, 128) for x in (256, 320, 384)}
    swapped = {"A": "B", "B": "A"}
    assert [replace(place, half=swapped[place.half]) for place in places] == others
    for place in places:
        assert place.field == f"a/{place.y // 64 // FIELD},{place.x // 64 // FIELD}"


@pytest.fixture
def square(tiny: Pipeline, slides: Path) -> EmbeddingGrid:
    """The grid of the upper left 128 px of a slide."""
    return embed_reference(
        tiny.record,
        tiny.encoder(),
        slides.parent / "slide3.png",
        slide_pixel_size=PixelSize.parse("0.5um"),
        region=Box(0, 0, 128, 128),
        mode="all",
    )


def test_a_patch_without_a_margin_is_the_large_image_where_one_window_covers_it(
    tiny: Pipeline, square: EmbeddingGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margin, "_MARGIN", 0)
    whole = generate(Request(tiny, square, Settings(window=16, core=16))).pixels
    (patch,) = patches_at(tiny, square, [Box(0, 0, 128, 128)], Settings())
    difference = np.abs(whole.read(whole.frame.box).astype(int) - patch.astype(int))
    assert difference.max() <= 1


def test_a_patch_is_the_inside_of_what_is_made_with_its_margin(
    tiny: Pipeline, square: EmbeddingGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    (patch,) = patches_at(tiny, square, [Box(32, 48, 64, 64)], Settings())
    monkeypatch.setattr(margin, "_MARGIN", 0)
    (around,) = patches_at(tiny, square, [Box(0, 16, 128, 128)], Settings())
    np.testing.assert_array_equal(patch, around[:, 32:-32, 32:-32])


def test_what_was_made_lies_where_it_is_said_to(finished: tuple[Path, Evaluation], tiny: Pipeline) -> None:
    folder, evaluation = finished
    place = next((folder / "slides").iterdir())
    slide = next(one for one in evaluation.slides if place.name.startswith(Path(one.name).stem))
    made = made_of(place)
    assert made["patches"].shape == (len(slide.half("A")), 3, 64, 64)
    assert made["variations"].shape == (2, 2, 3, 64, 64)
    assert (made["variations"][:, 0] != made["variations"][:, 1]).any()
    grid = grid_of(place)
    assert grid.canvas == slide.box.shape
    with open_raster(place / LARGE) as large:
        assert large.frame.box.shape == slide.box.shape


def test_the_verb_says_its_n(pipeline_folder: Path, slides: Path, tmp_path: Path) -> None:
    said = ["evaluate", "pipeline", pipeline_folder, "--test", slides, "-o", tmp_path, "--quick", "--slides", 2]
    options = ["--region", 128, "--encoder", "tiny", "--device", "cpu", "--dtype", "fp32", "--json"]
    result = CliRunner().invoke(main, [str(word) for word in (*said, *options)])
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["notes"][0].startswith("2 held-out slides of 2 patients or places")
    assert all(figure["estimate"]["n"] for figure in values["figures"])
