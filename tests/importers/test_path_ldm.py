"""PathLDM: its text encoder against transformers' CLIP, its checkpoint's layout, and canvases told one caption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.importers.recorded import FIXTURES
from torch import Tensor, nn

from patchloom.errors import FormatError, InputError, MissingError
from patchloom.geometry import Box
from patchloom.importers import path_ldm
from patchloom.importers.latent_diffusion import EMBEDDER, export_state, import_checkpoint
from patchloom.importers.ldm_export import export_checkpoint
from patchloom.importers.official import How, default_run, official_run
from patchloom.importers.path_ldm import Everywhere, import_told
from patchloom.loom.orders import weave_canvas
from patchloom.networks.path_told import ClassShape, ClassTold, TextShape, TextTold, Words
from patchloom.networks.told_files import words_of

transformers = pytest.importorskip("transformers")

SHAPE = TextShape(vocabulary=60, width=16, depth=2, heads=2, hidden=24, length=7)
TWICE = replace(SHAPE, parts=2)
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the tiny config (shared/fixtures/ldm) is not here")


def clip() -> Any:
    """CLIP's text half, tiny, every weight drawn anew."""
    torch.manual_seed(4)
    config = transformers.CLIPTextConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=24,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=7,
        bos_token_id=58,
        eos_token_id=59,
        pad_token_id=59,
        attn_implementation="eager",
    )
    model = transformers.CLIPTextModel(config).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model


def named(model: Any) -> dict[str, Tensor]:
    """Its tensors as a checkpoint of PathLDM holds them, numbers of places included."""
    inner = {name.removeprefix("text_model."): value for name, value in model.state_dict().items()}
    state = {f"{EMBEDDER}.transformer.text_model.{name}": value for name, value in inner.items()}
    return state | {f"{EMBEDDER}.transformer.text_model.embeddings.position_ids": torch.arange(7)[None]}


def words(lengths: list[int], count: int) -> Words:
    torch.manual_seed(1)
    known = torch.arange(count)[None] < torch.tensor(lengths)[:, None]
    return Words(torch.where(known, torch.randint(0, 58, known.shape), 59), known)


def folder(path: Path, params: dict[str, Any], target: str, state: dict[str, Tensor]) -> Path:
    """An official folder whose conditioning stage is another."""
    base = import_checkpoint(FIXTURES / "tiny_patch", ema=False)
    export_checkpoint(base, path)
    (config_file,) = (path / "configs").glob("*.yaml")
    config = yaml.safe_load(config_file.read_text())
    config["model"]["params"]["cond_stage_config"] = {
        "target": f"ldm.modules.encoders.modules.{target}",
        "params": params,
    }
    config_file.write_text(yaml.safe_dump(config))
    kept = {name: value for name, value in export_state(base).items() if not name.startswith(EMBEDDER)}
    torch.save({"state_dict": kept | state}, path / "checkpoints" / "last.ckpt")
    return path


@pytest.fixture
def texted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(path_ldm.VERSIONS, "tiny/clip", SHAPE)
    return folder(tmp_path / "plip", {"version": "tiny/clip", "max_length": 14}, "FrozenCLIPEmbedder", named(clip()))


@needs_fixtures
@pytest.mark.parametrize("lengths", [[7, 3], [1, 5]])
def test_one_part_is_what_clip_reads(texted: Path, lengths: list[int]) -> None:
    told = import_told(texted).told
    assert isinstance(told, TextTold)
    given = words(lengths, 7)
    with torch.no_grad():
        expected = clip()(input_ids=given.ids, attention_mask=given.known.long()).last_hidden_state
        torch.testing.assert_close(told(given), expected, atol=1e-5, rtol=1e-5)


@needs_fixtures
def test_two_parts_share_their_places_and_one_mask(texted: Path) -> None:
    """As PathLDM has it, put together of CLIP's own parts: embeddings of each half, one encoder over both."""
    model, given = clip(), words([14, 9], 14)
    body = getattr(model, "text_model", model)
    with torch.no_grad():
        rows = torch.cat([body.embeddings(half) for half in (given.ids[:, :7], given.ids[:, 7:])], dim=1)
        seen = torch.ones(14, 14, dtype=torch.bool).tril() & given.known[:, None, None, :]
        mask = torch.where(seen, 0.0, float("-inf"))
        for layer in body.encoder.layers:
            rows = layer(rows, attention_mask=mask)
            rows = rows[0] if isinstance(rows, tuple) else rows
        expected = body.final_layer_norm(rows)
        told = import_told(texted).told
        assert told.shape == TWICE
        assert isinstance(told, TextTold)
        torch.testing.assert_close(told(given), expected, atol=1e-5, rtol=1e-5)


@needs_fixtures
def test_a_canvas_that_is_told_one_caption(texted: Path) -> None:
    own = import_told(texted)
    assert own.passengers == ("beta table", "position_ids")
    assert isinstance(own.told, TextTold)
    scene = Everywhere(own.told.condition(words([9], 14), words([2], 14)))
    for make in (default_run, official_run):
        latents = weave_canvas(make(own, scene, (24, 32), How(steps=2))).read(Box(0, 0, 24, 32))
        assert np.isfinite(latents).all()


@needs_fixtures
def test_classes(tmp_path: Path) -> None:
    weight = torch.randn(5, 16)
    params = {"n_classes": 5, "embed_dim": 16, "key": "class_label"}
    own = import_told(folder(tmp_path, params, "ClassEmbedder", {f"{EMBEDDER}.embedding.weight": weight}))
    assert isinstance(own.told, ClassTold)
    condition = own.told.condition(torch.tensor([2, 0]))
    assert torch.equal(condition.tokens[:, 0], weight[[2, 0]])
    assert torch.equal(condition.nothing[:, 0], weight[[4, 4]])
    with pytest.raises(InputError, match="classes 0 to 3"):
        own.told.condition(torch.tensor([5]))


@needs_fixtures
def test_what_is_refused(texted: Path) -> None:
    with pytest.raises(FormatError, match="told a class or a text"):
        import_checkpoint(texted)
    (config,) = (texted / "configs").glob("*.yaml")
    text = config.read_text()
    config.write_text(text.replace("tiny/clip", "somebody/clip"))
    with pytest.raises(FormatError, match="text encoder `somebody/clip` is not run here"):
        import_told(texted)
    config.write_text(text)
    torch.save({"state_dict": {}}, texted / "checkpoints" / "last.ckpt")
    with pytest.raises(FormatError, match="no `state_dict`"):
        import_told(texted)


def test_words_that_do_not_fit() -> None:
    told = TextTold(SHAPE)
    with pytest.raises(InputError, match="parts of 7 tokens"):
        told(words([3], 9))
    with pytest.raises(InputError, match="vocabulary of this model has 60"):
        told(Words(torch.full((1, 7), 60), torch.ones(1, 7, dtype=torch.bool)))
    for make in (lambda: TextShape(width=10), lambda: ClassShape(1)):
        with pytest.raises(InputError):
            make()


def test_captions_are_numbered_by_the_models_own_tokenizer(tmp_path: Path) -> None:
    """A vocabulary of single letters; every word is spelt."""
    letters = [chr(c) for c in range(97, 123)]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(vocabulary)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    found = words_of(["ab", "", "a " * 40], TWICE, tmp_path)
    start, end = vocabulary.index("<|startoftext|>"), vocabulary.index("<|endoftext|>")
    assert found.ids.shape == (3, 14)
    assert found.ids[0, :4].tolist() == [start, 0, 27, end]
    assert found.ids[1, :2].tolist() == [start, end]
    assert found.known.sum(1).tolist() == [4, 2, 14]
    assert found.ids[2].tolist() == [start, *[26] * 12, end]
    with pytest.raises(MissingError, match="no folder"):
        words_of(["a"], SHAPE, tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="no tokenizer"):
        words_of(["a"], SHAPE, tmp_path / "empty")
