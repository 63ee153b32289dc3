"""The law that ties a dataset together: where a picture encodes its own coordinates, so do latents and cells, in every
view, at every density and phase, and the grid around any window interpolates to what the latents say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from patchloom.errors import MismatchError
from patchloom.grids.spec import EncoderSpec
from patchloom.training.cutting import FirstStage, Models
from patchloom.training.dataset import Dataset, open_dataset
from patchloom.training.denoiser import Windows
from patchloom.training.draws import Draws
from patchloom.training.manifest import Entry, entries_of, split_by_group
from patchloom.training.prepare import Preparation, prepare
from patchloom.training.views import VIEWS, lay, lay_place

HEIGHT, WIDTH, FACTOR = 448, 600, 8


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
    from patchloom.geometry import PixelSize

    picture = coordinates(tmp_path / "places.png")
    entry = Entry(picture, picture.name, "here", "train", PixelSize.parse("0.5um"))
    return prepare([entry], tmp_path / "data", PREPARATION, MODELS, device=torch.device("cpu"))


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


@pytest.mark.parametrize("thinning", [1, 2])
def test_the_grid_around_a_window_says_what_its_latents_say(tmp_path: Path, thinning: int) -> None:
    windows = _windows(made(tmp_path), thinning)
    x0, condition = windows.draw(torch.arange(len(windows)).repeat(4), Draws.seeded(torch.device("cpu"), 0))
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
        prepare([], tmp_path / "data", Preparation(stride_px=64), MODELS, device=torch.device("cpu"))


def test_a_broken_slide_is_named_and_the_others_finish(tmp_path: Path) -> None:
    from patchloom.geometry import PixelSize

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    good = coordinates(tmp_path / "places.png")
    size = PixelSize.parse("0.5um")
    entries = [Entry(path, path.name, path.stem, "train", size) for path in (broken, good)]
    dataset = prepare(entries, tmp_path / "data", PREPARATION, Models(), device=torch.device("cpu"))
    assert [note.source for note in dataset.record.broken] == ["broken.png"]
    assert {plot.source for plot in dataset.plots("train")} == {"places.png"}


def test_a_patient_in_test_and_in_train_is_refused_by_name(tmp_path: Path) -> None:
    entries = [
        Entry(tmp_path / "a.png", "a.png", "patient 7", "train"),
        Entry(tmp_path / "b.png", "b.png", "patient 7", "test"),
    ]
    with pytest.raises(MismatchError, match="patient 7"):
        prepare(entries, tmp_path / "data", PREPARATION, Models(), device=torch.device("cpu"))
    assert not (tmp_path / "data").exists()


def test_groups_stay_in_their_split_when_slides_are_added(tmp_path: Path) -> None:
    names = [tmp_path / f"{i}.svs" for i in range(200)]
    few, many = (split_by_group(entries_of(part), 0.1, 0.2) for part in (names[:50], names))
    assert [e.split for e in few] == [e.split for e in many[:50]]
    assert 20 < sum(e.split == "test" for e in many) < 60


def test_a_dataset_opens_from_its_folder_alone(tmp_path: Path) -> None:
    assert made(tmp_path).record == open_dataset(tmp_path / "data").record


def _windows(dataset: Dataset, thinning: int) -> Windows:
    from patchloom.networks.unet import UNetShape
    from patchloom.training.config import DenoiserTraining, Optimisation

    config = DenoiserTraining(
        "denoiser", "", "", "", Optimisation(1), UNetShape(channels=2, embedding=2), window=12, strides=(thinning,)
    )
    return Windows(dataset, "train", FACTOR, config, torch.device("cpu"))
