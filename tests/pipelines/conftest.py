"""The tiny pipeline of the command line's tests, for the functions behind it, and slides that it can follow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.cli.conftest import pipeline as pipeline_folder
from tests.encoders.fakes import tiny_encoder

from patchloom.datasets.cutting import Models
from patchloom.datasets.dataset import Dataset
from patchloom.datasets.manifest import read_manifest
from patchloom.datasets.prepare import Preparation, prepare
from patchloom.encoders.registry import ENCODERS
from patchloom.pipelines.pipeline import Pipeline, load_pipeline

__all__ = ["pipeline_folder"]


@pytest.fixture(scope="session", autouse=True)
def _tiny_has_a_name() -> Iterator[None]:
    """`load_encoder("tiny")` is a real network of a thousand weights."""
    before = ENCODERS.get("tiny")
    ENCODERS["tiny"] = lambda device, dtype: tiny_encoder(dtype=dtype)
    yield
    if before is None:
        ENCODERS.pop("tiny", None)
    else:
        ENCODERS["tiny"] = before


@pytest.fixture(scope="session")
def tiny(pipeline_folder: Path) -> Pipeline:
    """Patches of 64 px, cells of 64 px every 32 px, 8 px a latent, 2 steps."""
    return load_pipeline(pipeline_folder)


def tissue(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Smooth colours of stained tissue (height, width, 3), another picture for every seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers((120, 40, 110), (230, 150, 210), (height // 8 + 2, width // 8 + 2, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="session")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of six slides of six patients: two of train, one of val, three of test, with labels."""
    folder = tmp_path_factory.mktemp("slides")
    rows = ["file,group,split,pixel_size,licence,label"]
    splits = ("train", "train", "val", "test", "test", "test")
    for number, split in enumerate(splits):
        Image.fromarray(tissue(number, 264, 328)).save(folder / f"slide{number}.png")
        rows.append(f"slide{number}.png,patient{number},{split},0.5um,CC0-1.0,{'ab'[number % 2]}")
    table = folder / "slides.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


@pytest.fixture(scope="session")
def dataset(slides: Path, tiny: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The same slides as a dataset of the tiny pipeline's cells, in plots of at most 200 px."""
    preparation = Preparation("0.5um", 64, 32, 200, views=(0,))
    entries = [entry for entry in read_manifest(slides) if entry.split != "test"]
    folder = tmp_path_factory.mktemp("datasets") / "tiny"
    return prepare(entries, folder, preparation, Models(tiny.encoder()), device=torch.device("cpu"))
