"""`import_pipeline`: a checkpoint in, a pipeline that holds its weights out; what has no use is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.pipelines.test_imported import PATCH, parts

from patchloom.errors import InputError, MissingError
from patchloom.importers.latent_diffusion import of_parts
from patchloom.importers.ldm_export import export_checkpoint
from patchloom.pipelines.imported import Facts, load_imported
from patchloom.pipelines.importing import Given, import_pipeline

FACTS = Facts("foreign", "0.5um", "tiny", (243, 242, 244))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    export_checkpoint(of_parts(*parts(), PATCH), folder)
    return folder


def test_a_checkpoint_becomes_a_pipeline(checkpoint: Path, tmp_path: Path) -> None:
    made = import_pipeline(checkpoint, tmp_path / "p", FACTS, Given(licence="MIT"))
    denoiser, stage, record = load_imported(tmp_path / "p")
    for one, other in zip(parts()[0].network.parameters(), denoiser.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert made.parameters == sum(value.numel() for value in denoiser.network.parameters())
    assert (record.name, record.background, stage.factor) == ("foreign", (243, 242, 244), 4)
    assert record.source is not None
    assert (made.record.source, made.source, record.source.licence) == (record.source, record.source, "MIT")


def test_weights_are_kept_in_the_type_that_is_told(checkpoint: Path, tmp_path: Path) -> None:
    import_pipeline(checkpoint, tmp_path / "p", FACTS, dtype=torch.float16)
    held = load_imported(tmp_path / "p")[0].network.state_dict()
    own = parts()[0].network.state_dict()
    assert all(torch.equal(value, own[name].half().float()) for name, value in held.items())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Given(lora=Path("a")), "--lora"),
        (Given(autoencoder=Path("a"), lora_strength=1.0), "--autoencoder and --lora-strength"),
        (Given(text_encoder=Path("a")), "--text-encoder"),
    ],
)
def test_what_has_no_use_is_refused_and_nothing_is_written(
    checkpoint: Path, tmp_path: Path, given: Given, words: str
) -> None:
    with pytest.raises(InputError, match=f"{words}: this kind of checkpoint has no use for it"):
        import_pipeline(checkpoint, tmp_path / "p", FACTS, given)
    assert not (tmp_path / "p").exists()


def test_the_folder_is_looked_at_before_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="holds other things than a pipeline"):
        import_pipeline(tmp_path / "nowhere", tmp_path, FACTS)
    with pytest.raises(MissingError):
        import_pipeline(tmp_path / "nowhere", tmp_path / "p", FACTS)
    with pytest.raises(InputError, match="pixel size"):
        import_pipeline(checkpoint, tmp_path / "p", replace(FACTS, pixel_size="wide"))
