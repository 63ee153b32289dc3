"""A pipeline's folder that is not whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchloom.errors import FormatError, MissingError
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pipelines.presets import find_pipeline
from patchloom.trials import demo


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """The shipped pipeline as links to its files, of which one may go."""
    source = find_pipeline(demo.PIPELINE)
    for file in source.rglob("*"):
        if file.is_file():
            place = tmp_path / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    return tmp_path


def test_a_missing_weight_file_is_named(links: Path) -> None:
    (links / "denoiser" / "denoiser.safetensors").unlink()
    with pytest.raises(MissingError, match=r"no weight file `denoiser/denoiser\.safetensors`"):
        load_pipeline(links)


def test_a_weight_file_that_was_cut_short_is_named(links: Path) -> None:
    place = links / "autoencoder" / "autoencoder.safetensors"
    half = place.read_bytes()[:100_000]
    place.unlink()
    place.write_bytes(half)
    with pytest.raises(FormatError, match=r"autoencoder\.safetensors` is damaged or another version"):
        load_pipeline(links)
