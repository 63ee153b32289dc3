"""The law that ties a dataset together: where a picture encodes its own coordinates, so do latents and cells, in every
view, at every density and phase, and the grid around any window interpolates to what the latents say."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.test_processes import in_two
from torch import Tensor

from patchloom.datasets.cutting import FirstStage, Models
from patchloom.datasets.dataset import Dataset, open_dataset
from patchloom.datasets.manifest import Entry, Shares, entries_of, read_manifest
from patchloom.datasets.prepare import Preparation, prepare
from patchloom.datasets.stain import Recolouring, recoloured
from patchloom.datasets.views import VIEWS, lay, lay_place
from patchloom.errors import InputError, MismatchError
from patchloom.geometry import PixelSize
from patchloom.grids.spec import EncoderSpec
from patchloom.training.draws import Draws
from patchloom.training.windows import Windows

HEIGHT, WIDTH, FACTOR = 448, 600, 8
CPU = torch.device("cpu")


class PlaceEncoder:
    """The mean of a picture's first two channels: where its centre lies, in a picture of coordinates."""

    spec = EncoderSpec("place", 2, 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "CC0-1.0", "sha256:0")

    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels[:, :2].float().mean((2, 3))


class PlaceAutoencoder:
    """Averages of 8 x 8 pixels as latents."""

    factor, channels, receptive_field = FACTOR, 2, 0

    def encode(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(pixels[:, :2].float(), FACTOR)

    def decode(self, latents: Tensor) -> Tensor:
        raise AssertionError("nothing is decoded here")


MODELS = Models(PlaceEncoder(), FirstStage(PlaceAutoencoder(), "sha256:1", 2))
PREPARATION = Preparation(patch_px=64, stride_px=32, plot_px=320, background=1.0, min_valid=0.0)


def coordinates(path: Path) -> Path:
    """A picture whose red is y / 4 and green x / 4, rounded at random so that means are right."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH] / 4
    planes = [np.floor(plane + rng.random(plane.shape)) for plane in (y, x, np.zeros_like(y))]
    Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8)).save(path)
    return path


def made(tmp_path: Path) -> Dataset:
    picture = coordinates(tmp_path / "places.png")
    entry = Entry(picture, picture.name, "here", "train", PixelSize.parse("0.5um"))
    return prepare([entry], tmp_path / "data", PREPARATION, MODELS, device=CPU)


@pytest.mark.parametrize("view", range(VIEWS))
def test_a_point_lies_where_its_pixel_lies(view: int) -> None:
    plane = torch.arange(5 * 7).reshape(5, 7)
    laid = lay(plane, view)
    for y in range(5):
        for x in range(7):
            to_y, to_x = lay_place(y + 0.5, x + 0.5, 5, 7, view)
            assert laid[int(to_y), int(to_x)] == plane[y, x]


def test_plots_cover_the_slide_and_hold_its_pixels(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    picture = torch.from_numpy(np.asarray(Image.open(tmp_path / "places.png")).copy())
    covered = torch.zeros(HEIGHT, WIDTH)
    for plot in dataset.plots("train"):
        y, x, height, width = plot.box
        covered[y : y + height, x : x + width] += 1
        assert torch.equal(dataset.tensors(plot, ["pixels"])[0], picture[y : y + height, x : x + width])
    assert covered.max() == 1
    assert covered[: HEIGHT // 16 * 16, : WIDTH // 16 * 16].min() == 1


def test_latents_of_a_view_are_those_of_the_laid_picture(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    for plot in dataset.plots("train"):
        for view in range(VIEWS):
            pixels, latents = dataset.tensors(plot, ["pixels", f"latents.{view}"])
            expected = MODELS.first_stage.autoencoder.encode(lay(pixels, view).permute(2, 0, 1)[None])[0]  # type: ignore[union-attr]
            assert torch.allclose(latents.permute(2, 0, 1).float(), expected, atol=0.1)


def test_mirrored_views_are_recoloured_and_the_grid_with_them(tmp_path: Path) -> None:
    how = Recolouring("rgb", 0.2)
    picture = coordinates(tmp_path / "places.png")
    entry = Entry(picture, picture.name, "here", "train", PixelSize.parse("0.5um"))
    plain = made(tmp_path)
    again = prepare([entry], tmp_path / "again", replace(PREPARATION, recolouring=how), MODELS, device=CPU)
    for plot in again.plots("train"):
        names = ["pixels", *(f"{what}.{view}" for view in range(VIEWS) for what in ("latents", "cells"))]
        before, after = (dict(zip(names, d.tensors(plot, names), strict=True)) for d in (plain, again))
        assert torch.equal(before["pixels"], after["pixels"])
        for view in range(VIEWS):
            same = [torch.equal(before[f"{what}.{view}"], after[f"{what}.{view}"]) for what in ("latents", "cells")]
            assert same == [view < 4] * 2
        coloured = [after[f"latents.{view}"].float().mean((0, 1)) for view in range(4, VIEWS)]
        assert all((a - b).abs().max() > 0.5 for a, b in zip(coloured[1:], coloured, strict=False))  # each its own


def test_latents_of_a_recoloured_view_are_those_of_the_recoloured_picture(tmp_path: Path) -> None:
    how = Recolouring("stain", 0.2)
    picture = coordinates(tmp_path / "places.png")
    entry = Entry(picture, picture.name, "here", "train", PixelSize.parse("0.5um"))
    dataset = prepare([entry], tmp_path / "data", replace(PREPARATION, recolouring=how), MODELS, device=CPU)
    for plot in dataset.plots("train"):
        pixels, latents = dataset.tensors(plot, ["pixels", "latents.5"])
        laid = lay(recoloured(pixels, how, f"{plot.name}.5"), 5).permute(2, 0, 1)[None]
        expected = PlaceAutoencoder().encode(laid)[0]
        assert torch.allclose(latents.permute(2, 0, 1).float(), expected, atol=0.1)


def test_a_recolouring_without_mirrored_views_is_refused() -> None:
    with pytest.raises(InputError, match="mirrored views are recoloured"):
        Preparation(views=(0, 1, 2, 3), recolouring=Recolouring())


@pytest.mark.parametrize("thinning", [1, 2])
def test_the_grid_around_a_window_says_what_its_latents_say(tmp_path: Path, thinning: int) -> None:
    windows = _windows(made(tmp_path), thinning)
    x0, condition = windows.draw(torch.arange(len(windows)).repeat(4), Draws.seeded(CPU, 0))
    rows, cols = condition.weights(*x0.shape[-2:])
    field = torch.einsum("bhr,bwc,brcd->bdhw", rows, cols, condition.cells.float())
    # Cells end half a cell from the picture's edge, and thinned ones another stride inwards; beyond, values stay.
    inner = (
        (x0 * 4 > 32 * thinning + 1).all(1)
        & (x0[:, 0] * 4 < HEIGHT - 66 * thinning)
        & (x0[:, 1] * 4 < WIDTH - 90 * thinning)
    )
    error = (field - x0).abs().amax(1)[inner]
    assert inner.float().mean() > 0.3
    assert error.max() < 0.5  # quarter pixels; rounding of the picture leaves about 0.1


def test_a_killed_run_goes_on_and_another_setting_is_refused(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    first = dataset.plots("train")[0]
    path = tmp_path / "data" / "plots" / f"{first.name}.safetensors"
    whole = path.read_bytes()
    kept = {p.name: p.stat().st_mtime_ns for p in path.parent.iterdir() if p != path}
    path.unlink()
    made(tmp_path)
    assert path.read_bytes() == whole
    assert kept == {p.name: p.stat().st_mtime_ns for p in path.parent.iterdir() if p != path}
    with pytest.raises(MismatchError, match="other settings"):
        prepare([], tmp_path / "data", Preparation(stride_px=64), MODELS, device=CPU)


def test_a_broken_slide_is_named_and_the_others_finish(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    good = coordinates(tmp_path / "places.png")
    size = PixelSize.parse("0.5um")
    entries = [Entry(path, path.name, path.stem, "train", size) for path in (broken, good)]
    dataset = prepare(entries, tmp_path / "data", PREPARATION, Models(), device=CPU)
    assert [note.source for note in dataset.record.broken] == ["broken.png"]
    assert {plot.source for plot in dataset.plots("train")} == {"places.png"}


def test_a_patient_in_test_and_in_train_is_refused_by_name(tmp_path: Path) -> None:
    entries = [
        Entry(tmp_path / "a.png", "a.png", "patient 7", "train"),
        Entry(tmp_path / "b.png", "b.png", "patient 7", "test"),
    ]
    with pytest.raises(MismatchError, match="patient 7"):
        prepare(entries, tmp_path / "data", PREPARATION, Models(), device=CPU)
    assert not (tmp_path / "data").exists()


def test_groups_stay_in_their_split_when_slides_are_added(tmp_path: Path) -> None:
    names = [tmp_path / f"{i}.svs" for i in range(200)]
    few, many = (entries_of(part, Shares(0.1, 0.2)) for part in (names[:50], names))
    assert [e.split for e in few] == [e.split for e in many[:50]]
    assert 20 < sum(e.split == "test" for e in many) < 60


def test_a_dataset_opens_from_its_folder_alone(tmp_path: Path) -> None:
    assert made(tmp_path).record == open_dataset(tmp_path / "data").record


def _windows(dataset: Dataset, thinning: int) -> Windows:
    return Windows.read(dataset, "train", FACTOR, 12, (thinning,), torch.device("cpu"))


GLASS = Preparation(patch_px=64, stride_px=64, plot_px=64, background=0.3)


def section(path: Path, side: int = 1280) -> Path:
    """A picture of glass with stained squares, some of which reach little into their neighbours."""
    rng = np.random.default_rng(0)
    pixels = np.full((side, side, 3), 245, np.uint8)
    for y, x, size in ((100, 100, 200), (630, 500, 180), (300, 900, 134), (1000, 130, 200)):
        noise = rng.integers(-30, 30, (size, size, 1))
        pixels[y : y + size, x : x + size] = np.clip(np.array([170, 60, 130]) + noise, 0, 255)
    Image.fromarray(pixels).save(path)
    return path


def test_a_share_of_glass_is_kept_and_every_plot_with_any_tissue(tmp_path: Path) -> None:
    entry = Entry(section(tmp_path / "section.png"), "section.png", "here", "train", PixelSize.parse("0.5um"))
    counts = {}
    for share in (0.0, 0.3, 1.0):
        preparation = replace(GLASS, background=share)
        dataset = prepare([entry], tmp_path / str(share), preparation, Models(), device=CPU)
        counts[share] = {plot.name: plot.tissue for plot in dataset.plots("train")}
    glass = {name for name, tissue in counts[1.0].items() if tissue == 0}
    assert counts[1.0].keys() - glass == counts[0.0].keys()  # a plot at a border, however little tissue it has, is kept
    assert any(0 < tissue < 0.5 for tissue in counts[0.0].values())
    kept = counts[0.3].keys() & glass
    assert counts[0.0].keys() <= counts[0.3].keys()
    assert 0.2 < len(kept) / len(glass) < 0.4
    assert len(counts[1.0]) == (1280 // 64) ** 2


KILLED = """
import sys
from pathlib import Path
import torch
from patchloom.datasets.cutting import Models
from patchloom.datasets.manifest import Shares, entries_of
from patchloom.datasets.prepare import Preparation, prepare
from patchloom.geometry import PixelSize
entries = entries_of([Path(sys.argv[1])], Shares(0, 0), PixelSize.parse("0.5um"))
prepare(entries, Path(sys.argv[2]), Preparation(patch_px=64, stride_px=64, plot_px=64, background=1.0), Models(),
        device=torch.device("cpu"))
"""


def test_a_killed_preparation_goes_on_with_what_it_made(tmp_path: Path) -> None:
    entry = Entry(section(tmp_path / "section.png"), "section.png", "section", "train", PixelSize.parse("0.5um"))
    folder = tmp_path / "data"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(entry.path), str(folder)]) as run:
        try:
            while run.poll() is None and len(list(folder.glob("plots/*.safetensors"))) < 5:
                time.sleep(0.005)
        finally:
            run.kill()
    made = {path.name: path.stat().st_mtime_ns for path in folder.glob("plots/*.safetensors")}
    assert 5 <= len(made) < 400
    assert not (folder / "dataset.json").exists()
    dataset = prepare([entry], folder, replace(GLASS, background=1.0), Models(), device=CPU)
    assert len(dataset.plots("train")) == 400
    now = {path.name: path.stat().st_mtime_ns for path in folder.glob("plots/*.safetensors")}
    assert made.items() <= now.items()
    assert all(len(dataset.tensors(plot, ["pixels"])) == 1 for plot in dataset.plots("train"))
    assert not list(folder.glob("plots/.*.part"))


def test_a_mended_table_changes_split_and_pixel_size(tmp_path: Path) -> None:
    entry = Entry(coordinates(tmp_path / "places.png"), "places.png", "here", "train", PixelSize.parse("0.5um"))
    preparation, folder = Preparation(patch_px=64, stride_px=64, plot_px=320, background=1.0), tmp_path / "data"
    first = prepare([entry], folder, preparation, Models(), device=CPU)
    moved = prepare([replace(entry, split="test", group="there")], folder, preparation, Models(), device=CPU)
    assert [plot.box for plot in moved.plots("test")] == [plot.box for plot in first.plots("train")]
    assert {plot.group for plot in moved.record.plots} == {"there"}
    half = prepare([replace(entry, pixel_size=PixelSize.parse("0.25um"))], folder, preparation, Models(), device=CPU)
    (plot,) = half.plots("train")
    assert plot.box == (0, 0, HEIGHT // 2, WIDTH // 2)


def test_progress_tells_slides_and_their_plots(tmp_path: Path) -> None:
    size = PixelSize.parse("0.5um")
    entries = [
        Entry(path, path.name, path.stem, "train", size)
        for path in (coordinates(tmp_path / "a.png"), tmp_path / "none.png")
    ]
    told: list[tuple[str, int, int]] = []
    dataset = prepare(entries, tmp_path / "data", PREPARATION, Models(), lambda *said: told.append(said), device=CPU)
    assert [said for said in told if said[0] == "slides"] == [("slides", 0, 2), ("slides", 1, 2), ("slides", 2, 2)]
    assert [said for said in told if said[0] == "plots"] == [("plots", done, 4) for done in range(5)]
    assert [note.source for note in dataset.record.broken] == ["none.png"]


def test_two_processes_share_the_slides(tmp_path: Path) -> None:
    slides = [coordinates(tmp_path / f"{name}.png") for name in "abc"]
    table = tmp_path / "table.csv"
    table.write_text("file,group,pixel_size\n" + "".join(f"{path.name},{path.stem},0.5um\n" for path in slides))
    (tmp_path / "c.png").write_bytes(b"no picture")
    options = ("--patch", 64, "--stride", 64, "--plot", 320, "--background", 1, "--encoder", "none", "--device", "cpu")
    done = in_two("-m", "patchloom", "prepare", table, "-o", tmp_path / "data", *options, "--json")
    (said,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert sum(said["plots"].values()) == 8
    assert [broken["source"] for broken in said["broken"]] == ["c.png"]
    entries = read_manifest(table, Shares(0.1, 0.1))
    preparation = Preparation(patch_px=64, stride_px=64, plot_px=320, background=1.0)
    alone = prepare(entries, tmp_path / "alone", preparation, Models(), device=CPU)
    assert alone.record == open_dataset(tmp_path / "data").record
