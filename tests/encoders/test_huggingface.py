"""Vision models of transformers, made tiny here, saved as the hub keeps them, and loaded back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from patchloom.encoders.encoder import Encoder
from patchloom.encoders.registry import load_encoder
from patchloom.encoders.weights import file_digest
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.testing.encoders import EncoderLaws

transformers = pytest.importorskip("transformers")

PREPROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 40},
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.7, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
}
TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
KINDS: dict[str, Any] = {
    "vit": lambda: transformers.ViTModel(transformers.ViTConfig(**TINY), add_pooling_layer=False),
    "deit": lambda: transformers.DeiTModel(transformers.DeiTConfig(**TINY), add_pooling_layer=False),
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**TINY)),
    "dinov2_with_registers": lambda: transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**TINY)
    ),
    "dinov3_vit": lambda: transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**TINY)),
    "convnext": lambda: transformers.ConvNextModel(
        transformers.ConvNextConfig(hidden_sizes=[8, 12, 14, 16], depths=[1, 1, 1, 1])
    ),
    "convnextv2": lambda: transformers.ConvNextV2Model(
        transformers.ConvNextV2Config(hidden_sizes=[8, 12, 14, 16], depths=[1, 1, 1, 1])
    ),
    "resnet": lambda: transformers.ResNetModel(
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ),
}


CLIP: dict[str, Any] = {
    "clip_tower": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**TINY)),
    "clip_projected": lambda: transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**TINY, projection_dim=12)
    ),
    "clip": lambda: transformers.CLIPModel(
        transformers.CLIPConfig(
            vision_config=TINY,
            text_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
            | {"intermediate_size": 32, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2},
            projection_dim=12,
        )
    ),
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each kind of model."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for kind, make in (KINDS | CLIP).items():
        make().save_pretrained(root / kind)
        (root / kind / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return {kind: root / kind for kind in KINDS | CLIP}


@pytest.fixture
def folder(saved: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the tiny ViT, to be damaged."""
    return Path(shutil.copytree(saved["vit"], tmp_path / "vit"))


def noise(count: int = 2, side: int = 48) -> torch.Tensor:
    return torch.from_numpy(np.random.Generator(np.random.PCG64(0)).integers(0, 256, (count, 3, side, side), np.uint8))


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_kind_gives_what_transformers_gives(saved: dict[str, Path], kind: str) -> None:
    encoder = load_encoder(str(saved[kind]))
    assert (encoder.spec.name, encoder.spec.dim, encoder.spec.input_px) == (f"local:{kind}", 16, 32)
    assert encoder.spec.digest == file_digest(saved[kind] / "model.safetensors")
    assert (encoder.spec.mean, encoder.spec.std) == ((0.7, 0.5, 0.6), (0.2, 0.25, 0.3))
    pixels = noise()
    network = transformers.AutoModel.from_pretrained(saved[kind]).eval()
    resized = torch.nn.functional.interpolate(pixels.float(), (40, 40), mode="bicubic", antialias=True).clamp(0, 255)
    mean, std = torch.tensor(encoder.spec.mean).view(3, 1, 1), torch.tensor(encoder.spec.std).view(3, 1, 1)
    with torch.no_grad():
        output = network((resized[:, :, 4:36, 4:36] / 255 - mean) / std)
    expected = output.pooler_output.flatten(1) if kind[:4] in ("conv", "resn") else output.last_hidden_state[:, 0]
    torch.testing.assert_close(encoder(pixels), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kind", "dim"), [("clip", 12), ("clip_projected", 12), ("clip_tower", 16)])
def test_clips_pictures_are_embedded_as_beside_text(
    saved: dict[str, Path], kind: str, dim: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """A whole CLIP, its vision tower with the projection, and the tower alone, whose answer is before it."""
    encoder = load_encoder(str(saved[kind]))
    assert capfd.readouterr() == ("", "")
    assert encoder.spec.dim == dim
    pixels = noise(side=32)
    resized = torch.nn.functional.interpolate(pixels.float(), (40, 40), mode="bicubic", antialias=True).clamp(0, 255)
    mean, std = torch.tensor(encoder.spec.mean).view(3, 1, 1), torch.tensor(encoder.spec.std).view(3, 1, 1)
    picture = (resized[:, :, 4:36, 4:36] / 255 - mean) / std
    theirs = {"clip": transformers.CLIPModel, "clip_tower": transformers.CLIPVisionModel}
    network = theirs.get(kind, transformers.CLIPVisionModelWithProjection).from_pretrained(saved[kind]).eval()
    with torch.no_grad():
        if kind == "clip_projected":
            expected = network(picture).image_embeds
        elif kind == "clip":  # its vision config says 512 of the projection, its own 12
            expected = network.visual_projection(network.vision_model(picture).pooler_output)
        else:
            expected = network(picture).pooler_output
    torch.testing.assert_close(encoder(pixels), expected, atol=1e-4, rtol=1e-4)


def test_a_clip_without_its_projection_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    """Only a tower may do without: of a whole CLIP it is lost."""
    folder = Path(shutil.copytree(saved["clip"], tmp_path / "clip"))
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(FormatError, match=r"lacks visual_projection\.weight"):
        load_encoder(str(folder))


class TestDinov2(EncoderLaws):
    @pytest.fixture(autouse=True)
    def _folder(self, saved: dict[str, Path]) -> None:
        self.folder = saved["dinov2"]

    def encoder(self) -> Encoder:
        return load_encoder(str(self.folder))


def test_loading_is_silent(saved: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    load_encoder(str(saved["vit"]))
    assert capfd.readouterr() == ("", "")


def test_bfloat16_leaves_as_float32(saved: dict[str, Path]) -> None:
    rough = load_encoder(str(saved["dinov2"]), dtype=torch.bfloat16)(noise())
    assert rough.dtype is torch.float32
    assert torch.cosine_similarity(rough, load_encoder(str(saved["dinov2"]))(noise())).min() > 0.99
    with pytest.raises(InputError, match="not torch"):
        load_encoder(str(saved["vit"]), dtype=torch.float64)


def test_the_licence_is_the_cards(folder: Path) -> None:
    assert load_encoder(str(folder)).spec.licence == "unknown"
    (folder / "README.md").write_text("---\ntags:\n- vision\nlicense: apache-2.0\n---\n# A model\nlicense: none\n")
    assert load_encoder(str(folder)).spec.licence == "apache-2.0"


def test_the_head_of_a_classifier_is_left_behind(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"classifier.weight": torch.zeros(2, 16)}, folder / "model.safetensors", {"format": "pt"})
    assert load_encoder(str(folder)).spec.dim == 16


def rewrite(path: Path, drop: str | None = None, **changes: Any) -> None:
    values = json.loads(path.read_text())
    values.pop(drop, None)
    path.write_text(json.dumps(values | changes))


def test_weights_that_do_not_fit_are_listed(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = next(key for key in weights if "layernorm" in key and key.endswith("bias"))
    save_file({key: value for key, value in weights.items() if key != name}, path, {"format": "pt"})
    with pytest.raises(FormatError, match=r"lacks .*layernorm"):
        load_encoder(str(folder))
    save_file(weights | {"more.weight": torch.zeros(2)}, path, {"format": "pt"})
    with pytest.raises(FormatError, match=r"no place for them, more\.weight"):
        load_encoder(str(folder))
    save_file(weights | {name: torch.zeros(3)}, path, {"format": "pt"})
    with pytest.raises(FormatError, match="could not be loaded as a `vit`"):
        load_encoder(str(folder))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(FormatError, match="could not be loaded as a `vit`"):
        load_encoder(str(folder))
    path.unlink()
    with pytest.raises(MissingError, match="no weights"):
        load_encoder(str(folder))


def test_a_config_that_does_not_fit_is_told(folder: Path) -> None:
    config = folder / "config.json"
    whole = config.read_text()
    rewrite(config, model_type="hibou", auto_map={"AutoModel": "modeling.Model"})
    with pytest.raises(InputError, match=r"type `hibou`.*code of its own, which Patchloom never runs"):
        load_encoder(str(folder))
    rewrite(config, drop="model_type")
    with pytest.raises(FormatError, match="neither a `model_type`"):
        load_encoder(str(folder))
    for broken, message in (("[]", "not a JSON mapping"), ("{", "is not JSON")):
        config.write_text(broken)
        with pytest.raises(FormatError, match=message):
            load_encoder(str(folder))
    config.unlink()
    with pytest.raises(MissingError, match=r"holds no `config\.json`"):
        load_encoder(str(folder))
    config.write_text(whole)
    rewrite(folder / "preprocessor_config.json", crop_size=36)
    with pytest.raises(FormatError, match="does not take pictures of 36 px"):
        load_encoder(str(folder))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(MissingError, match="preprocessor_config"):
        load_encoder(str(folder))


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(InputError, match="did you mean `virchow2`"):
        load_encoder("virchow-2")
    with pytest.raises(InputError, match="is not `hub:OWNER/NAME`"):
        load_encoder("hub:dinov2")


def test_weights_that_are_not_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingError, match=r"hf download owkin/phikon"):
        load_encoder("hub:owkin/phikon")
    with pytest.raises(MissingError, match=r"ask for access on \S+/MahmoodLab/UNI, log in"):
        load_encoder("uni")


def test_a_model_in_the_hubs_cache_is_found(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--facebook--dino-vits16"
    shutil.copytree(saved["vit"], repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("dino-vits16", "hub:facebook/dino-vits16"):
        spec = load_encoder(name).spec
        assert (spec.name, spec.licence, spec.dim) == ("hub:facebook/dino-vits16", "Apache-2.0", 16)
