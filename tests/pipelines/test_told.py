"""Models that are told words, from the command line: import, describe, generate; the same as from Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from tests.importers.recorded import FIXTURES
from tests.importers.test_path_ldm import TWICE, clip, folder, named

from patchloom.cli.main import main
from patchloom.grids.file import read_grid
from patchloom.importers import path_ldm
from patchloom.importers.latent_diffusion import EMBEDDER
from patchloom.importers.path_ldm import Everywhere, import_told
from patchloom.loom.orders import weave_canvas
from patchloom.networks.path_told import TextTold
from patchloom.networks.told_files import words_of
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pipelines.planning import plan_run
from patchloom.pipelines.settings import Settings

pytest.importorskip("transformers")
pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the tiny config (shared/fixtures/ldm) is not here")
SAID = "a b"


def tokenizer(path: Path) -> Path:
    """A vocabulary of single letters, 58 and 59 the ends of a text."""
    letters = [chr(c) for c in range(97, 123)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(f"_{n}" for n in range(6))]
    words += ["<|startoftext|>", "<|endoftext|>"]
    path.mkdir()
    (path / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def told(*arguments: object) -> str:
    """What a command that must fail says."""
    result = run(*arguments)
    assert result.exit_code in (1, 2), result.output
    return result.output


@pytest.fixture
def texted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(path_ldm.VERSIONS, "tiny/clip", TWICE)
    tokenizer(tmp_path / "clip")
    return folder(tmp_path / "plip", {"version": "tiny/clip", "max_length": 14}, "FrozenCLIPEmbedder", named(clip()))


def imported(source: Path, output: Path, *more: object) -> Path:
    result = run("import", source, "-o", output, "--pixel-size", "1um", *more)
    assert result.exit_code == 0, result.output
    return output


def test_text_to_picture(texted: Path, tmp_path: Path) -> None:
    made = imported(texted, tmp_path / "p", "--text-encoder", tmp_path / "clip")
    result = run("describe", made, "--text", SAID, "--size", "128,64", "-o", tmp_path / "g.grid", "--json")
    assert result.exit_code == 0, result.output
    assert read_grid(tmp_path / "g.grid").canvas == (64, 128)
    result = run("generate", made, "--grid", tmp_path / "g.grid", "-o", tmp_path / "o.png", "--steps", 2)
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "o.png").size == (128, 64)


def test_its_canvas_is_the_one_of_python(texted: Path, tmp_path: Path) -> None:
    own = import_told(texted)
    assert isinstance(own.told, TextTold)
    said, nothing = (words_of([text], own.told.shape, tmp_path / "clip") for text in (SAID, ""))
    condition = own.told.condition(said, nothing)
    made = imported(texted, tmp_path / "p", "--text-encoder", tmp_path / "clip")
    run("describe", made, "--text", SAID, "--size", "128,64", "-o", tmp_path / "g.grid")
    pipeline = load_pipeline(made)
    plan = plan_run(pipeline, read_grid(tmp_path / "g.grid"), Settings(steps=2, seed=3))
    boxes = [window.box for window in plan.lattices[0]]
    for given in (plan.scene.condition(boxes), Everywhere(condition).condition(boxes)):
        torch.testing.assert_close(given.tokens, condition.tokens.expand(len(boxes), -1, -1))
        torch.testing.assert_close(given.nothing, condition.nothing.expand(len(boxes), -1, -1))
    one, other = (
        weave_canvas(run).read(plan.latents.box) for run in (plan, replace(plan, scene=Everywhere(condition)))
    )
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_classes(tmp_path: Path) -> None:
    state = {f"{EMBEDDER}.embedding.weight": torch.randn(5, 16)}
    source = folder(tmp_path / "c", {"n_classes": 5, "embed_dim": 16, "key": "class_label"}, "ClassEmbedder", state)
    made = imported(source, tmp_path / "p")
    assert run("describe", made, "--class", 2, "--size", "64,64", "-o", tmp_path / "g.grid").exit_code == 0
    (cell,) = read_grid(tmp_path / "g.grid").embeddings.reshape(-1, 16)
    np.testing.assert_array_equal(cell, state[f"{EMBEDDER}.embedding.weight"][2].numpy())
    pipeline = load_pipeline(made)
    given = pipeline.conditioning.patches(np.stack([cell, np.zeros(16, np.float32)]))
    torch.testing.assert_close(given.null().tokens[0, 0], state[f"{EMBEDDER}.embedding.weight"][4])
    torch.testing.assert_close(given.tokens[1, 0], state[f"{EMBEDDER}.embedding.weight"][4])  # zeros say nothing
    assert "give --class" in told("describe", made, "--text", "a", "--size", "64,64", "-o", tmp_path / "n")
    assert "classes 0 to 3" in told("describe", made, "--class", 9, "--size", "64,64", "-o", tmp_path / "n")


def _says(texted: Path, tmp_path: Path) -> Callable[..., str]:
    made = imported(texted, tmp_path / "p", "--text-encoder", tmp_path / "clip")
    return lambda *more: " ".join(told("describe", made, "-o", tmp_path / "n", *more).split())


def test_what_is_refused(texted: Path, tmp_path: Path, picture: Path) -> None:
    assert "--text-encoder" in told("import", texted, "-o", tmp_path / "q", "--pixel-size", "1um")
    odd = told("import", texted, "-o", tmp_path / "q", "--pixel-size", "1um", "--encoder", "uni")
    assert "--encoder: this kind of checkpoint has no use for it" in odd
    says = _says(texted, tmp_path)
    assert "the nearest is 128 x 64" in says("--text", "a", "--size", "130,70")
    assert "not WIDTH,HEIGHT" in says("--text", "a", "--size", "130")
    assert "either --text or --class" in says("--size", "64,64")
    assert "give --text" in says("--class", 1, "--size", "64,64")
    assert "told in words" in told("embed", picture, "--pipeline", tmp_path / "p", "-o", tmp_path / "g")
    assert "neither text nor class" in told("describe", "he-foundation", "--text", "a", "--size", "256,256", "-o", "x")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (96, 96), (200, 120, 160)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"
