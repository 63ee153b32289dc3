"""Variations keep labels and say where they come from; test images and leaks are refused; a second call goes on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from patchloom.cli.vary import vary as verb
from patchloom.datasets.dataset import Dataset
from patchloom.datasets.manifest import read_manifest
from patchloom.errors import InputError, MismatchError
from patchloom.fields.field import ArrayField
from patchloom.fields.noise import Noise
from patchloom.geometry import Frame
from patchloom.pipelines.pipeline import Pipeline
from patchloom.pipelines.planning import run_of
from patchloom.pipelines.reconstruct import reconstruct
from patchloom.pipelines.sample import sample
from patchloom.pipelines.settings import Settings, settled, stages_of
from patchloom.pipelines.vary import TABLE, seed_of, vary
from patchloom.pyramids.read import read_provenance
from patchloom.trials.sides import open_side


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_plot_of_the_split_is_varied(tiny: Pipeline, dataset: Dataset, tmp_path: Path) -> None:
    made = vary(tiny, dataset.folder, 2, tmp_path)
    plots = dataset.plots("train")
    rows = rows_of(tmp_path)
    assert len(rows) == len(made.variations) == 2 * len(plots) > 0
    assert made.skipped == ()
    assert {row["split"] for row in rows} == {"train"}
    assert {row["synthetic"] for row in rows} == {"yes"}
    assert {row["pipeline_digest"] for row in rows} == {tiny.digest}
    assert len({row["seed"] for row in rows}) == len(rows)
    for row, plot in zip(rows, [plot for plot in plots for _ in range(2)], strict=True):
        assert (row["source"], row["group"], row["label"]) == (plot.source, plot.group, plot.label)
        picture = Image.open(tmp_path / row["file"])
        assert (picture.height, picture.width) == tuple(side // 8 * 8 for side in plot.box[2:])
        block = read_provenance(tmp_path / row["file"])
        assert block is not None
        assert (block["synthetic"], block["label"]) == (True, plot.label)


def test_the_table_is_read_by_prepare_and_evaluate(tiny: Pipeline, dataset: Dataset, tmp_path: Path) -> None:
    made = vary(tiny, dataset.folder, 1, tmp_path)
    entries = read_manifest(tmp_path / TABLE)
    assert [entry.label for entry in entries] == [row.label for row in made.variations]
    assert all(entry.path.is_file() for entry in entries)
    pictures = open_side(tmp_path / TABLE, split="train")
    assert pictures.patches.n == len(made.variations)
    assert set(pictures.patches.groups.tolist()) == {plot.group for plot in dataset.plots("train")}  # type: ignore[union-attr]


def test_variations_of_one_image_differ(tiny: Pipeline, dataset: Dataset, tmp_path: Path) -> None:
    made = vary(tiny, dataset.folder, 2, tmp_path)
    one, two = (np.asarray(Image.open(tmp_path / row.file)) for row in made.variations[:2])
    assert (one != two).any()
    assert seed_of(0, "a", 0) != seed_of(0, "a", 1) != seed_of(1, "a", 1) != seed_of(1, "b", 1)


def test_a_second_call_makes_what_is_missing_to_the_same_bytes(
    tiny: Pipeline, dataset: Dataset, tmp_path: Path
) -> None:
    made = vary(tiny, dataset.folder, 1, tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    lost, kept = (tmp_path / row.file for row in made.variations[:2])
    lost.unlink()
    stamp = kept.stat().st_mtime_ns
    assert vary(tiny, dataset.folder, 1, tmp_path) == made
    assert {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()} == before
    assert kept.stat().st_mtime_ns == stamp


def test_a_folder_made_in_another_way_is_refused(tiny: Pipeline, dataset: Dataset, tmp_path: Path) -> None:
    vary(tiny, dataset.folder, 1, tmp_path)
    with pytest.raises(MismatchError, match=r"made in another way \(settings differ\)"):
        vary(tiny, dataset.folder, 1, tmp_path, Settings(steps=3))


def test_images_of_a_table_are_embedded(tiny: Pipeline, slides: Path, tmp_path: Path) -> None:
    made = vary(tiny, slides, 1, tmp_path, split="val")
    assert [row.source for row in made.variations] == ["slide2.png"]
    picture = Image.open(tmp_path / made.variations[0].file)
    assert (picture.height, picture.width) == (264, 328)


def test_an_image_that_cannot_be_embedded_is_named_and_the_others_are_made(
    tiny: Pipeline, slides: Path, tmp_path: Path
) -> None:
    white, table = tmp_path / "white.png", tmp_path / "some.csv"
    Image.new("RGB", (128, 128), "white").save(white)
    Image.open(slides.parent / "slide0.png").crop((0, 0, 96, 96)).save(tmp_path / "good.png")
    table.write_text("file,group,split,pixel_size\nwhite.png,a,train,0.5um\ngood.png,b,train,0.5um\n")
    made = vary(tiny, table, 1, tmp_path / "out")
    assert [row.source for row in made.variations] == ["good.png"]
    assert [(skip.source, "no cell of `white.png` is valid" in skip.reason) for skip in made.skipped] == [
        ("white.png", True)
    ]


@pytest.mark.parametrize("originals", ["dataset", "slides"])
def test_a_weak_variation_is_the_original_and_a_strong_one_is_not(
    tiny: Pipeline, originals: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The last step of an untrained network leaves what it sees: the original through the autoencoder alone."""
    source: Any = request.getfixturevalue(originals)
    path = source if isinstance(source, Path) else source.folder
    weak = vary(tiny, path, 2, tmp_path / "weak", Settings(strength=0.5))
    strong = vary(tiny, path, 1, tmp_path / "strong", Settings(strength=1))
    first, again = (pixels_of(tmp_path / "weak" / row.file) for row in weak.variations[:2])
    other = pixels_of(tmp_path / "strong" / strong.variations[0].file)
    kept = reconstructed(tiny, source)
    kept = kept[:, : first.shape[1], : first.shape[2]]
    inside = (slice(None), slice(40, -40), slice(40, -40))  # at edges the decoder is shown other things here and there
    far = np.abs(other - kept)[inside].mean()
    assert 0 < np.abs(first - again)[inside].mean() < 0.3 * far
    assert np.abs(first - kept)[inside].mean() < 0.3 * far
    block = read_provenance(tmp_path / "weak" / weak.variations[0].file)
    assert block is not None
    assert block["settings"]["strength"] == 0.5


def reconstructed(tiny: Pipeline, source: Path | Dataset) -> NDArray[np.float32]:
    """The first original through the autoencoder alone."""
    if isinstance(source, Path):
        pixels = np.asarray(Image.open(source.parent / "slide0.png")).transpose(2, 0, 1)
    else:
        pixels = source.tensors(source.plots("train")[0], ["pixels"])[0].permute(2, 0, 1).numpy()
    field = reconstruct(tiny, ArrayField(np.ascontiguousarray(pixels)))
    return np.asarray(field.read(field.frame.box), np.float32)


def pixels_of(path: Path) -> NDArray[np.float32]:
    return np.asarray(Image.open(path), np.float32).transpose(2, 0, 1)


@settings_of(max_examples=25, deadline=None)
@given(steps=st.integers(1, 40), strength=st.floats(0.01, 1), sampler=st.sampled_from(["ddim", "heun", "dpmpp-2m"]))
def test_strength_is_the_share_of_steps_and_starts_where_they_begin(
    tiny: Pipeline, steps: int, strength: float, sampler: str
) -> None:
    whole, part = (stages_of(tiny, Settings(steps=steps, sampler=sampler, strength=share)) for share in (1.0, strength))
    levels = list(dict.fromkeys(stage.sigma for stage in whole))
    assert list(dict.fromkeys(stage.sigma for stage in part)) == levels[-max(round(strength * steps), 1) :]


def test_a_run_starts_at_the_image_under_noise_of_its_place(tiny: Pipeline, slides: Path) -> None:
    how, frame = Settings(seed=5, steps=4, strength=0.5), Frame(8, 8, tiny.record.channels, "float32")
    image = np.random.default_rng(0).standard_normal((frame.channels, 8, 8)).astype(np.float32)
    cells = np.zeros((1, 1, tiny.record.encoder.dim), np.float32)
    scene = tiny.conditioning.over(cells, np.ones((1, 1), bool), (4.0, 4.0), (8.0, 8.0))
    run = run_of(tiny, scene, frame, how, ArrayField(image))
    assert run.start is not None
    noise = Noise(5, 0, frame).read(frame.box)
    np.testing.assert_allclose(run.start.read(frame.box), image + run.stages[0].sigma * noise, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="begins at an image, and here is none"):
        run_of(tiny, scene, frame, how)


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.5, float("nan")])
def test_a_strength_that_is_no_share_is_refused(tiny: Pipeline, slides: Path, tmp_path: Path, strength: float) -> None:
    with pytest.raises(InputError, match="strength is a share of the steps, above 0 and at most 1"):
        vary(tiny, slides, 1, tmp_path / "out", Settings(strength=strength))
    assert not (tmp_path / "out").exists()


def test_without_an_image_there_is_no_strength(tiny: Pipeline) -> None:
    with pytest.raises(InputError, match="an embedding is none"):
        sample(tiny, np.zeros((1, tiny.record.encoder.dim), np.float32), Settings(strength=0.5))
    with pytest.raises(InputError, match="the official recipe makes images from noise alone"):
        settled(tiny, Settings(recipe="official", strength=0.5))


def test_test_images_are_never_varied(tiny: Pipeline, slides: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="test images are never varied"):
        vary(tiny, slides, 1, tmp_path, split="test")
    leaking = tmp_path / "leaking.csv"
    leaking.write_text("file,group,split\na.png,one,train\nb.png,one,test\n")
    with pytest.raises(MismatchError, match="in `test` and in another split: one"):
        vary(tiny, leaking, 1, tmp_path)
    assert not (tmp_path / TABLE).exists()


def test_unlabelled_images_are_left_out_on_request(tiny: Pipeline, slides: Path, tmp_path: Path) -> None:
    table = tmp_path / "bare.csv"
    table.write_text("file,group,split\na.png,one,train\n")
    with pytest.raises(InputError, match="holds no labelled image of split `train`"):
        vary(tiny, table, 1, tmp_path, labelled=True)


def test_the_verb(pipeline_folder: Path, slides: Path, tmp_path: Path) -> None:
    said = [str(slides), "-n", "1", "-o", str(tmp_path), "--pipeline", str(pipeline_folder), "--split", "val"]
    result = CliRunner().invoke(verb, [*said, "--device", "cpu", "--dtype", "fp32", "--json"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == (f'{{"path": "{tmp_path}/variations.csv", "variations": 1, "skipped": []}}')
