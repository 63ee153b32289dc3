"""`generate --coarse`: an image that, downsampled, is a given picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image
from tests.encoders.fakes import tiny_encoder
from torch import Tensor

from patchloom.cli.main import main
from patchloom.errors import InputError, MismatchError
from patchloom.fields.stores import MemoryStore
from patchloom.geometry import PixelSize
from patchloom.grids.file import write_grid
from patchloom.grids.grid import EmbeddingGrid
from patchloom.pipelines.generate import generate
from patchloom.pipelines.guidance import Guidance
from patchloom.pipelines.pipeline import Pipeline, load_pipeline
from patchloom.pipelines.request import Request
from patchloom.pipelines.settings import Settings

SIDE = 128  # of the image, in pixels


@pytest.fixture(scope="module")
def grid() -> EmbeddingGrid:
    values = np.random.default_rng(0).standard_normal((2, 2, tiny_encoder().spec.dim)).astype(np.float32)
    valid = np.ones((2, 2), bool)
    return EmbeddingGrid(values, valid, 64, 64, (0.0, 0.0), (SIDE, SIDE), PixelSize.parse("0.5um"), tiny_encoder().spec)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter as large, with a gradient each way."""
    rows, cols = np.mgrid[: SIDE // 4, : SIDE // 4]
    pixels = np.stack([90 + 3 * rows, 70 + 4 * cols, 180 - rows - cols], axis=2).astype(np.uint8)
    path = tmp_path_factory.mktemp("coarse") / "coarse.png"
    Image.fromarray(pixels).save(path)
    return path


class Boxes:
    """An autoencoder without loss: a latent's two channels are the red and the green of its 8 x 8 pixels."""

    factor, channels, receptive_field = 8, 2, 0

    def encode(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(pixels[:, :2].float(), 8) / 60 - 2

    def decode(self, latents: Tensor) -> Tensor:
        colours = torch.cat([latents, latents[:, :1]], dim=1).float()
        pixels = (60 * (colours + 2)).round().clamp(0, 255).to(torch.uint8)
        return pixels.repeat_interleave(8, 2).repeat_interleave(8, 3)


def pixels_of(pipeline: Pipeline, grid: EmbeddingGrid, settings: Settings, order: str = "canvas") -> NDArray[np.uint8]:
    image = generate(Request(pipeline, grid, settings), order=order, store=MemoryStore())  # type: ignore[arg-type]
    return np.asarray(image.pixels.read(image.pixels.frame.box))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_the_image_shows_the_picture(
    tiny: Pipeline, grid: EmbeddingGrid, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = replace(tiny, autoencoder=Boxes())
    wanted = np.asarray(Image.open(picture)).transpose(2, 0, 1)[:2].astype(float)
    wanted = wanted.reshape(2, 16, 2, 16, 2).mean((2, 4))  # this autoencoder knows no less than 8 px
    errors = []
    for coarse in (picture, None):
        found = pixels_of(pipeline, grid, Settings(steps=3, seed=1, coarse=coarse))[:2].astype(float)
        errors.append(np.abs(found.reshape(2, 16, 8, 16, 8).mean((2, 4)) - wanted).mean())
    assert errors[0] < 2
    assert errors[1] > 10


@pytest.fixture(scope="module")
def tiny(pipeline: Path) -> Pipeline:
    return load_pipeline(pipeline)


def test_every_order_and_every_time_the_same(tiny: Pipeline, grid: EmbeddingGrid, picture: Path) -> None:
    one, other = (pixels_of(tiny, grid, Settings(steps=2, coarse=picture), order) for order in ("canvas", "down"))
    assert np.array_equal(one, other)
    wrapped = pixels_of(tiny, grid, Settings(steps=2, coarse=picture, wrap="both"))
    assert not np.array_equal(one, wrapped)


def test_from_the_command_line(pipeline: Path, grid: EmbeddingGrid, picture: Path, tmp_path: Path) -> None:
    write_grid(grid, tmp_path / "g.grid")
    made = tmp_path / "o.tif"
    result = run("generate", pipeline, "--grid", tmp_path / "g.grid", "--coarse", picture, "-o", made)
    assert result.exit_code == 0, result.output
    told = json.loads(run("info", made, "--json").output)["provenance"]["settings"]["coarse"]
    assert told.startswith("sha256:")


def test_what_is_refused(tiny: Pipeline, grid: EmbeddingGrid, picture: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 32)).save(tmp_path / "odd.png")
    with pytest.raises(MismatchError, match=r"is 30 x 32 px, and the image will be 128 x 128 .* such as 32 x 32"):
        generate(Request(tiny, grid, Settings(coarse=tmp_path / "odd.png")))
    with pytest.raises(InputError, match="--null-every"):
        generate(Request(tiny, grid, Settings(coarse=picture, guidance=Guidance(2.0, null_every=2))))
