"""`patchloom evaluate`: a picture against itself is as near as can be, and reports say what they measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from tests.encoders.fakes import HALF
from tests.encoders.test_lpips import random_files
from torch import nn

from patchloom.cli.main import main
from patchloom.encoders.encoder import EncoderSpec
from patchloom.encoders.network import NetworkEncoder
from patchloom.encoders.pixels import Transform
from patchloom.encoders.registry import ENCODERS
from patchloom.encoders.trained import FORMAT, WEIGHTS, TrainedRecord, save_encoder
from patchloom.encoders.trained_network import TrainedNetwork, TrainedShape
from patchloom.evaluation.report import read_report
from patchloom.fields.field import ArrayField
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pyramids.image import write_image
from patchloom.pyramids.read import read_provenance
from patchloom.trials.seams import LAST, borders_of, settings_of
from patchloom.weights import digest

TINY = ("--crop", 48, "--encoder", "tiny")


def patchloom(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--device", "cpu", "--dtype", "fp32"])


def folder_of(path: Path, seed: int, count: int = 12) -> Path:
    """Pictures of smooth colours, PNG, 48 px a side."""
    rng = np.random.default_rng(seed)
    path.mkdir()
    for number in range(count):
        coarse = rng.integers(0, 255, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC).save(path / f"{number:02d}.png")
    return path


def table_of(folder: Path, group: str, split: str) -> Path:
    """A table of the pictures of a folder, two of them a group."""
    rows = [f"{path.name},{group}{k // 2},{split},0.5um" for k, path in enumerate(sorted(folder.glob("*.png")))]
    (folder / "table.csv").write_text("\n".join(["file,group,split,pixel_size", *rows]) + "\n")
    return folder / "table.csv"


def values(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return {figure["name"]: figure["estimate"]["value"] for figure in json.loads(result.stdout)["figures"]}


@pytest.fixture(autouse=True)
def _other_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--encoder other` is a network that did not condition."""
    torch.manual_seed(1)
    network = nn.Conv2d(3, 4, 5, 2)
    spec = EncoderSpec("other", 4, 16, HALF, HALF, "CC0-1.0", "sha256:" + "1" * 64)
    encoder = NetworkEncoder(spec, network, Transform(16, 16, HALF, HALF), lambda p: network(p).mean((2, 3)))
    monkeypatch.setitem(ENCODERS, "other", lambda device, dtype: encoder)


@pytest.fixture(scope="session")
def made(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A reference of 256 x 320 px (height x width), its grid, and the image that the tiny pipeline makes of it."""
    folder = tmp_path_factory.mktemp("made")
    reference, grid, image = folder / "reference.png", folder / "a.grid", folder / "made.png"
    pixels = np.random.default_rng(1).integers(60, 180, (256, 320, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(reference)
    size = ("--slide-pixel-size", "0.5um", "--batch", 4)
    assert patchloom("embed", reference, "-o", grid, "--pipeline", pipeline, *size).exit_code == 0
    assert patchloom("generate", pipeline, "--grid", grid, "-o", image).exit_code == 0
    return reference, grid, image


def test_a_folder_against_itself_and_against_another(tmp_path: Path) -> None:
    real, other = folder_of(tmp_path / "real", 0), folder_of(tmp_path / "other", 1)
    same = values(patchloom("evaluate", "distances", real, real, *TINY, "--json"))
    apart = values(patchloom("evaluate", "distances", real, other, *TINY, "--json"))
    assert same["frechet_all_images"] == pytest.approx(0, abs=1e-6)
    assert apart["frechet_all_images"] > 100 * same["frechet_all_images"]
    assert apart["kernel"] > same["kernel"]


def test_a_large_picture_is_cut_and_training_images_choose_the_axes(tmp_path: Path, picture: Path) -> None:
    seen = table_of(folder_of(tmp_path / "seen", 2), "patient", "train")
    said = ("evaluate", "distances", picture, picture, "--training", seen, "--encoder", "tiny", "--crop", 16)
    result = patchloom(*said, "--pixel-size", "0.5um", "--limit", 40, "--json")
    assert values(result)["frechet_axes"] >= 0
    sides = {side["name"]: side["n"] for figure in json.loads(result.stdout)["figures"] for side in figure["sides"]}
    assert sides == {"picture.png": 40}


def test_a_patient_who_was_trained_on_is_no_test_patient(tmp_path: Path) -> None:
    real = table_of(folder_of(tmp_path / "real", 0), "patient", "test")
    seen = table_of(folder_of(tmp_path / "seen", 2), "patient", "train")
    result = patchloom("evaluate", "distances", real, folder_of(tmp_path / "other", 1), *TINY, "--training", seen)
    assert result.exit_code == 1
    assert "6 groups stand on both sides of held-out and training images: patient0" in result.stderr


def test_two_scales_are_not_compared(tmp_path: Path) -> None:
    one = table_of(folder_of(tmp_path / "one", 0), "a", "test")
    two = table_of(folder_of(tmp_path / "two", 1), "b", "test")
    two.write_text(two.read_text().replace("0.5um", "0.25um"))
    result = patchloom("evaluate", "distances", one, two, *TINY)
    assert (result.exit_code, "0.5um long, those of `table.csv" in result.stderr) == (1, True)
    both = patchloom("evaluate", "distances", one, two, "--crop", 24, "--encoder", "tiny", "--pixel-size", "0.5um")
    assert both.exit_code == 0, both.output


def test_a_picture_follows_its_own_grid(pipeline: Path, made: tuple[Path, Path, Path]) -> None:
    reference, grid, _ = made
    whole = patchloom("evaluate", "similarity", reference, "--grid", grid, "--pipeline", pipeline, "--json")
    assert values(whole)["similarity_raw"] == pytest.approx(1, abs=1e-3)
    assert values(whole)["retrieval_first_hit"] == 1


def test_an_image_against_its_grid_in_two_networks(
    pipeline: Path, made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    reference, grid, image = made
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    said = ("--grid", grid, "--pipeline", pipeline, "--reference", reference, "--encoder", "other")
    result = patchloom("evaluate", "similarity", image, *said, "-o", report, "--html", page)
    assert result.exit_code == 0, result.output
    assert "similarity_raw_ceiling" in result.stdout
    assert "space 1: tiny," in result.stdout
    assert "space 2: other," in result.stdout
    assert {figure.name for figure in read_report(report).figures} >= {"similarity_raw", "retrieval_auc"}
    assert "similarity_raw_ceiling" in page.read_text()


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """An encoder as `patchloom train` writes one."""
    torch.manual_seed(2)
    shape = TrainedShape(6, (8, 8), (1, 0))
    record = TrainedRecord(FORMAT, "toy", shape, 16, "0.5um", "CC0-1.0")
    save_encoder(TrainedNetwork(shape), record, tmp_path / "toy" / "encoder")
    return tmp_path / "toy" / "encoder"


@pytest.mark.parametrize("measure", ["similarity", "distances", "reconstruction", "pipeline"])
def test_the_folder_of_a_trained_encoder_is_a_judge(
    measure: str, trained: Path, pipeline: Path, made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    reference, grid, image = made
    (tmp_path / "test.csv").write_text(f"file,group,split,pixel_size\n{reference},place,test,0.5um\n")
    said: dict[str, tuple[object, ...]] = {
        "similarity": (image, "--grid", grid, "--pipeline", pipeline, "--reference", reference),
        "distances": (reference, image, "--crop", 64),
        "reconstruction": (pipeline, reference, "--crop", 64),
        "pipeline": (pipeline, "--test", tmp_path / "test.csv", "-o", tmp_path / "out", "--quick"),
    }
    result = patchloom("evaluate", measure, *said[measure], "--encoder", trained, "--json")
    assert result.exit_code == 0, result.output
    spaces = [figure["space"] for figure in json.loads(result.stdout)["figures"] if figure["space"]]
    assert ("local:toy", digest(trained / WEIGHTS)) in {(space["network"], space["digest"]) for space in spaces}


def test_another_size_is_no_image_of_the_grid(pipeline: Path, made: tuple[Path, Path, Path], picture: Path) -> None:
    result = patchloom("evaluate", "similarity", picture, "--grid", made[1], "--pipeline", pipeline)
    assert (result.exit_code, "is 128 x 96 px, an image of this grid has 320 x 256 px" in result.stderr) == (1, True)


def test_a_planted_seam_is_found(pipeline: Path, made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    loaded = load_pipeline(pipeline)
    block = read_provenance(made[2])
    assert block is not None
    border = sorted(borders_of(loaded, settings_of(block, loaded, "made"), (256, 320))[LAST].rows)[0]
    pixels = np.random.default_rng(0).integers(100, 110, (3, 256, 320), dtype=np.uint8)
    even, broken = tmp_path / "even.png", tmp_path / "broken.png"
    given = {key: value for key, value in block.items() if key not in ("software", "pixel_size_m")}
    write_image(ArrayField(pixels), even, provenance=given)
    pixels[:, border:] += 40
    write_image(ArrayField(pixels), broken, provenance=given)
    found = {
        path: values(patchloom("evaluate", "seams", path, "--pipeline", pipeline, "--json"))[f"seam: {LAST}"]
        for path in (even, broken)
    }
    assert found[even] == pytest.approx(1, abs=0.1)
    assert found[broken] > 2
    beside = patchloom("evaluate", "seams", broken, "--pipeline", pipeline, "--reference", even, "--json")
    floors = {one["name"]: one["estimate"]["floor"] for one in json.loads(beside.stdout)["figures"]}
    assert floors[f"seam: {LAST}"]["value"] == found[even]


def test_seams_of_a_part_are_not_guessed(pipeline: Path, made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    block = {**(read_provenance(made[2]) or {}), "only_xywh": [8, 8, 64, 64]}
    given = {key: value for key, value in block.items() if key not in ("software", "pixel_size_m")}
    write_image(ArrayField(np.zeros((3, 64, 64), np.uint8)), tmp_path / "part.png", provenance=given)
    result = patchloom("evaluate", "seams", tmp_path / "part.png", "--pipeline", pipeline)
    assert (result.exit_code, "is a part of a larger image" in result.stderr) == (1, True)


def test_seams_need_to_know_how_an_image_was_made(pipeline: Path, picture: Path) -> None:
    for named in ((), ("--pipeline", pipeline)):
        result = patchloom("evaluate", "seams", picture, *named)
        assert (result.exit_code, "`picture.png` does not say how it was made" in result.stderr) == (1, True)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_image_that_names_no_pipeline_is_followed_by_one_that_is_told(
    made: tuple[Path, Path, Path], pipeline: Path, tmp_path: Path, suffix: str
) -> None:
    grid, bare = made[1], tmp_path / f"bare{suffix}"
    Image.fromarray(np.asarray(Image.open(made[2]).convert("RGB"))).save(bare)  # without what the file says
    unsaid = patchloom("evaluate", "similarity", bare, "--grid", grid)
    assert (unsaid.exit_code, "does not say which pipeline made it; give --pipeline" in unsaid.stderr) == (2, True)
    assert patchloom("evaluate", "similarity", bare, "--grid", grid, "--pipeline", pipeline).exit_code == 0


def test_a_pipeline_that_is_named_and_not_here_is_asked_for(made: tuple[Path, Path, Path]) -> None:
    result = patchloom("evaluate", "similarity", made[2], "--grid", made[1])
    assert result.exit_code == 2
    assert "was made by a pipeline that is not here: `tiny` is neither a folder" in result.stderr
    assert "give --pipeline" in result.stderr


def test_whole_pictures_of_any_size_are_held_against_others(tmp_path: Path) -> None:
    """The large-image distance: sizes and proportions may differ; each network squeezes to its own input."""
    tables = []
    for name, seed in (("real", 0), ("other", 1)):
        folder = folder_of(tmp_path / name, seed)
        Image.open(folder / "00.png").resize((90, 70)).save(folder / "00.png")
        tables.append(table_of(folder, "place", "test"))
    said = ("evaluate", "distances", *tables, "--whole", "--encoder", "tiny", "--encoder", "other")
    result = patchloom(*said, "--json")
    found = values(result)
    assert set(found) == {
        f"large_image_distance: {name}" for name in ("kernel", "cmmd", "frechet", "frechet_all_images")
    }
    figures = json.loads(result.stdout)["figures"]
    assert {figure["space"]["network"] for figure in figures} == {"tiny", "other"}
    assert "whole images, antialiased bicubic to 16 x 16 px" in {figure["space"]["resizer"] for figure in figures}
    cmmds = [figure["estimate"] for figure in figures if figure["name"].endswith("cmmd")]
    assert [one["n"] for one in cmmds] == [[12, 12]] * 2
    assert any("large images a side: a rough figure" in warning for warning in cmmds[0]["warnings"])
    refused = patchloom(*said, "--crop", 16)
    assert (refused.exit_code, "--whole takes pictures whole" in refused.stderr) == (2, True)


def test_an_autoencoder_beside_bicubic(pipeline: Path, picture: Path) -> None:
    said = ("evaluate", "reconstruction", pipeline, picture, "--crop", 16, "--encoder", "tiny", "--json")
    found = values(patchloom(*said))
    assert found["reconstruction_psnr_over_bicubic"] == pytest.approx(
        found["reconstruction_psnr"] - found["bicubic_psnr"]
    )
    assert found["kernel"] > 0
    assert found["bicubic_kernel"] > 0
    for way in ("reconstruction", "bicubic"):
        assert 0 < found[f"{way}_perceptual"] < 12  # three maps of unit vectors, each at most 2 apart
    odd = patchloom("evaluate", "reconstruction", pipeline, picture, "--crop", 20)
    assert (odd.exit_code, "crops of 20 px are not whole latents of 8 px" in odd.stderr) == (1, True)


def test_lpips_stands_beside_the_rest_when_its_weights_are_given(
    pipeline: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ("evaluate", "reconstruction", pipeline, picture, "--crop", 32, "--lpips")
    monkeypatch.delenv("PATCHLOOM_WEIGHTS", raising=False)
    absent = patchloom(*said, "lpips-alexnet")
    assert absent.exit_code == 1
    assert "`alexnet-owt-7be5be79.pth`, which torchvision's models list" in absent.stderr
    trunk, heads = random_files("lpips-alexnet", tmp_path)
    result = patchloom(*said, f"lpips-alexnet:{trunk},{heads}", "--json")
    found = values(result)
    assert 0 < found["reconstruction_lpips"] < 10
    assert found["reconstruction_lpips_over_bicubic"] == pytest.approx(
        found["reconstruction_lpips"] - found["bicubic_lpips"]
    )
    hows = {figure["name"]: figure["estimate"]["how"] for figure in json.loads(result.stdout)["figures"]}
    assert "lpips-alexnet, sha256:" in hows["reconstruction_lpips"]


def test_what_is_missing_is_named(picture: Path, tmp_path: Path) -> None:
    result = patchloom("evaluate", "distances", tmp_path / "gone", picture, "--crop", 32)
    assert (result.exit_code, f"there is no file `{tmp_path}/gone`" in result.stderr) == (1, True)
    bare = patchloom("evaluate", "similarity", picture)
    assert (bare.exit_code, "Missing option '--grid'" in bare.stderr) == (2, True)
