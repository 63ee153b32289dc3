"""Our vision transformer against transformers' own classes, tiny and random, and files of every family's names."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import ROOT
from torch import Tensor

from patchloom.encoders.encoder import Encoder
from patchloom.encoders.known import IMAGENET, KNOWN, KnownEncoder, known_by_hub_id, spec_name
from patchloom.encoders.known_weights import WEIGHTS, how_to_get
from patchloom.encoders.pixels import Transform
from patchloom.encoders.registry import load_encoder
from patchloom.encoders.vit import ViT, ViTShape
from patchloom.encoders.vit_models import load_network
from patchloom.encoders.vit_names import to_ours
from patchloom.encoders.weights import file_digest
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.geometry import PixelSize
from patchloom.testing.encoders import EncoderLaws

transformers = pytest.importorskip("transformers")

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
    "layer_norm_eps": 1e-6,
}
PLAIN = ViTShape(16, 2, 2, 32, patch_px=8, grid=4)
SCALED = replace(PLAIN, hidden=64, scaled=True)
REGISTERS = replace(SCALED, registers=3, antialias=True)
GATED = replace(REGISTERS, gated=True, hidden=48)  # two thirds of 64, in eights


def vit() -> Any:
    return transformers.ViTModel(transformers.ViTConfig(**TINY), add_pooling_layer=False)


def dinov2() -> Any:
    return transformers.Dinov2Model(transformers.Dinov2Config(**TINY))


def registers(gated: bool = False) -> Any:
    config = transformers.Dinov2WithRegistersConfig(**TINY, num_register_tokens=3, use_swiglu_ffn=gated)
    return transformers.Dinov2WithRegistersModel(config)


FAMILIES: dict[str, tuple[ViTShape, Callable[[], Any]]] = {
    "vit": (PLAIN, vit),
    "dinov2": (SCALED, dinov2),
    "registers": (REGISTERS, registers),
    "gated": (GATED, lambda: registers(gated=True)),
}


def theirs(kind: str, folder: Path) -> tuple[Any, Path]:
    """A tiny model of a family, every weight drawn anew, and its file."""
    torch.manual_seed(3)
    model = FAMILIES[kind][1]().eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    return model, folder / "model.safetensors"


def answer(model: Any, picture: Tensor) -> Tensor:
    with torch.no_grad():
        tokens: Tensor = model(pixel_values=picture, interpolate_pos_encoding=True).last_hidden_state
    return tokens


@pytest.mark.parametrize("kind", list(FAMILIES))
def test_the_tokens_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    model, file = theirs(kind, tmp_path)
    ours = load_network(FAMILIES[kind][0], (file,))
    picture = torch.randn(2, 3, 32, 32)
    expected = answer(model, picture) if kind == "vit" else model(pixel_values=picture).last_hidden_state
    with torch.no_grad():
        torch.testing.assert_close(ours(picture), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "gated"])
def test_positions_are_resized_as_in_transformers(kind: str, tmp_path: Path) -> None:
    model, file = theirs(kind, tmp_path)
    shape = FAMILIES[kind][0]
    picture = torch.randn(1, 3, 48, 40)
    expected = answer(model, picture) if kind == "vit" else model(pixel_values=picture).last_hidden_state
    with torch.no_grad():
        torch.testing.assert_close(load_network(shape, (file,))(picture), expected, atol=2e-5, rtol=1e-5)
        shifted = load_network(replace(shape, offset=0.1, antialias=False), (file,))(picture)
    assert shifted.shape == expected.shape
    assert not torch.allclose(shifted, expected, atol=1e-4)  # DINO's 0.1 makes a difference


def timm_names(tensors: dict[str, Tensor], shape: ViTShape) -> dict[str, Tensor]:
    """Our tensors under the names of timm and DINO, written out here once more."""
    table = {"joint": "attn.qkv", "out": "attn.proj", "norm": "norm1", "feed_norm": "norm2"}
    table |= {"feed_in": "mlp.fc1", "feed_out": "mlp.fc2", "scale": "ls1.gamma", "feed_scale": "ls2.gamma"}
    whole = {"class_token": "cls_token", "registers": "reg_token", "positions": "pos_embed"}
    named = {}
    for name, value in tensors.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(\w+)(\.\w+)?", name)
        if block:
            named[f"blocks.{block[1]}.{table[block[2]]}{block[3] or ''}"] = value
        else:
            named[whole.get(name, name.replace("patches", "patch_embed.proj"))] = value
    return named


def test_a_class_token_without_a_position_and_registers_with_one(tmp_path: Path) -> None:
    """UNI2-h adds positions to patches alone, Virchow2 to registers too: DINOv2 with its tokens moved accordingly."""
    model, file = theirs("gated", tmp_path)
    picture = torch.randn(2, 3, 32, 32)
    expected = model(pixel_values=picture).last_hidden_state
    tensors = to_ours(load_file(file))
    token, places, regs = tensors["class_token"], tensors["positions"], tensors["registers"]
    uni2 = tensors | {"class_token": token + places[:, :1], "positions": places[:, 1:]}
    moved = torch.randn_like(regs)
    virchow2 = tensors | {"registers": regs - moved, "positions": torch.cat([places[:, :1], moved, places[:, 1:]], 1)}
    for name, changed, placed in (("uni2", uni2, 0), ("virchow2", virchow2, 4)):
        shape = replace(GATED, placed=placed)
        torch.save(timm_names(changed, shape), tmp_path / f"{name}.pth")
        with torch.no_grad():
            found = load_network(shape, (tmp_path / f"{name}.pth",))(picture)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


TINY_KNOWN = KnownEncoder(
    dim=16,
    network=PLAIN,
    transform=Transform(32, 32, *IMAGENET),
    licence="CC0-1.0",
    hub_id="a/tiny",
    file="tiny_authors.pth",
    source="a/tiny",
    side="student",
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """A known encoder that is small."""
    monkeypatch.setitem(KNOWN, "tiny-vit", TINY_KNOWN)
    monkeypatch.setitem(KNOWN, "tiny-both", replace(TINY_KNOWN, dim=32, pool="class token and mean of patches"))
    return "tiny-vit"


class TestOneOfAFile(EncoderLaws):
    @pytest.fixture(autouse=True)
    def _file(self, tiny: str, tmp_path: Path) -> None:
        self.name = f"{tiny}:{theirs('vit', tmp_path)[1]}"

    def encoder(self) -> Encoder:
        return load_encoder(self.name)


def test_a_checkpoint_of_a_training_run(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DINO's layout: both networks below wrappers' names, with heads and options; the entry says which network."""
    _, file = theirs("vit", tmp_path)
    right = timm_names(to_ours(load_file(file)), PLAIN)
    wrapped = {f"module.backbone.{name}": value.half() for name, value in right.items()}
    other = {name: value + 1 for name, value in wrapped.items()}
    head = {"module.head.mlp.0.weight": torch.zeros(2, 2), "module.backbone.masked_embed": torch.zeros(1, 16)}
    run = {"student": wrapped | head, "teacher": other, "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    torch.save(run, tmp_path / "tiny_authors.pth")
    pixels = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    expected = load_encoder(f"{tiny}:{file}")(pixels)
    found = load_encoder(f"{tiny}:{tmp_path / 'tiny_authors.pth'}")
    torch.testing.assert_close(found(pixels), expected, atol=0.05, rtol=0.05)  # half precision on disk
    assert (found.spec.name, found.spec.licence) == ("hub:a/tiny", "CC0-1.0")
    assert found.spec.digest == file_digest(tmp_path / "tiny_authors.pth")
    monkeypatch.setenv(WEIGHTS, str(tmp_path))  # the same file, found by its name
    assert load_encoder(tiny).spec == found.spec


def test_the_mean_of_patches_beside_the_class_token(tiny: str, tmp_path: Path) -> None:
    model, file = theirs("vit", tmp_path)
    encoder = load_encoder(f"tiny-both:{file}")
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in IMAGENET)
    tokens = answer(model, (pixels / 255 - mean) / std)
    torch.testing.assert_close(encoder(pixels), torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1), atol=1e-4, rtol=0)


def test_a_repository_with_code_of_its_own(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Hibou's: a type that transformers knows, code beside it that is not run, and weights of our network."""
    _, file = theirs("vit", tmp_path / "model")
    repository = tmp_path / "models--a--tiny"
    shutil.copytree(tmp_path / "model", repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    config = repository / "snapshots" / "abc" / "config.json"
    config.write_text(json.dumps({"model_type": "dinov2", "auto_map": {"AutoModel": "code.Model"}}))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert load_encoder(tiny).spec.name == "hub:a/tiny"
    torch.testing.assert_close(load_encoder(tiny)(pixels), load_encoder(f"{tiny}:{file}")(pixels))


def test_weights_that_do_not_fit_are_listed(tiny: str, tmp_path: Path) -> None:
    _, file = theirs("vit", tmp_path)
    tensors = timm_names(to_ours(load_file(file)), PLAIN)
    path = tmp_path / "broken.pth"
    torch.save({name: value for name, value in tensors.items() if name != "blocks.1.attn.qkv.bias"}, path)
    with pytest.raises(FormatError, match=r"missing: blocks\.1\.joint\.bias"):
        load_encoder(f"{tiny}:{path}")
    torch.save(tensors | {"blocks.0.extra": torch.zeros(2)}, path)
    with pytest.raises(FormatError, match=r"unknown: blocks\.0\.extra"):
        load_encoder(f"{tiny}:{path}")
    torch.save(tensors | {"pos_embed": torch.zeros(1, 50, 16)}, path)
    with pytest.raises(FormatError, match=r"misshapen: positions is \(1, 50, 16\), not \(1, 17, 16\)"):
        load_encoder(f"{tiny}:{path}")
    for odd, message in (({"epoch": 3}, "no weights by name, but epoch"), ([1], "hold a list")):
        torch.save(odd, path)
        with pytest.raises(FormatError, match=message):
            load_encoder(f"{tiny}:{path}")


class Harmless:
    """What a hostile pickle would be, but that it only makes a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.place,)


def test_nothing_in_a_file_is_run(tiny: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    torch.save({"cls_token": Harmless(tmp_path / "made")}, path)
    with pytest.raises(FormatError, match=r"asks for `[\w.]+`, which is not built here; save the model's `state_dict"):
        load_encoder(f"{tiny}:{path}")
    assert not (tmp_path / "made").exists()
    path.write_bytes(b"half a download")
    with pytest.raises(FormatError, match="is text that begins `half a download`"):
        load_encoder(f"{tiny}:{path}")
    torch.save({"cls_token": torch.zeros(9)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match=r"is damaged or no file of weights .*; download or copy it again"):
        load_encoder(f"{tiny}:{path}")


def test_what_is_missing_says_where_it_is_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEIGHTS, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingError, match=r"vit256_small_dino\.pth.*mahmoodlab/HIPT.*hipt-vit256:FILE"):
        load_encoder("hipt-vit256")
    with pytest.raises(MissingError, match=r"no file `\S+nothing\.pth`"):
        load_encoder(f"hipt-vit256:{tmp_path / 'nothing.pth'}")
    with pytest.raises(MissingError, match=r"ask for access .* or name a file of its weights, `uni2-h:FILE`"):
        load_encoder("uni2-h")
    with pytest.raises(InputError, match=r"not read from a file of weights; it is had on the hub as owkin/phikon-v2"):
        load_encoder(f"phikon-v2:{tmp_path / 'nothing.pth'}")


def parameters(name: str) -> float:
    """Millions of parameters of a known network."""
    network = KNOWN[name].network
    assert isinstance(network, ViTShape)
    with torch.device("meta"):
        return sum(weight.numel() for weight in ViT(network).parameters()) / 1e6


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("hipt-vit256", 21.7),
        ("dino-vitb16", 85.8),
        ("dinov2-large", 304.4),
        ("dinov2-large-registers", 304.4),
        ("uni", 303.4),
        ("uni2-h", 681.4),
        ("virchow", 631.2),
        ("virchow2", 631.2),
        ("h-optimus-0", 1134.8),
        ("hibou-b", 85.7),
        ("hibou-l", 303.7),
    ],
)
def test_the_networks_have_the_sizes_that_their_cards_say(name: str, millions: float) -> None:
    assert parameters(name) == pytest.approx(millions, rel=2e-3)


def test_the_table_is_sound() -> None:
    for name, entry in KNOWN.items():
        assert entry.hub_id is not None or (entry.file and entry.source and entry.network)
        assert entry.hub_id is None or known_by_hub_id(entry.hub_id.upper()) is entry
        assert how_to_get(name)
        assert spec_name(name) == (name if entry.hub_id is None else f"hub:{entry.hub_id}")
        if isinstance(entry.network, ViTShape):
            both = entry.pool == "class token and mean of patches"
            assert entry.dim == entry.network.width * (2 if both else 1)
            assert entry.transform.crop_px % entry.network.patch_px == 0
        if entry.pixel_size is not None:
            PixelSize.parse(entry.pixel_size)


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "foreign.md").read_text(encoding="utf-8")
    rows = {cells[1].strip("` "): cells for cells in (line.split("|") for line in page.splitlines()) if len(cells) == 9}
    for name, entry in KNOWN.items():
        _, _, _, dim, picture, pixel_size, licence, _, _ = (cell.strip() for cell in rows[name])
        assert int(dim) == entry.dim
        assert picture == f"{entry.transform.crop_px} px, {entry.transform.filter}"
        assert pixel_size.replace(" ", "") == (entry.pixel_size or "")
        assert licence == entry.licence + (", gated" if entry.gated else "")


@pytest.mark.parametrize("fields", [{"heads": 3}, {"placed": 3}, {"depth": 0}, {"registers": -1}])
def test_sizes_that_do_not_fit(fields: dict[str, int]) -> None:
    with pytest.raises(InputError, match="vision transformer"):
        replace(PLAIN, **fields)  # type: ignore[arg-type]


def test_a_picture_that_is_not_in_patches() -> None:
    with pytest.raises(InputError, match="patches of 8 px"):
        ViT(PLAIN)(torch.zeros(1, 3, 30, 32))


def test_a_name_of_safetensors_is_read_by_content(tiny: str, tmp_path: Path) -> None:
    _, file = theirs("vit", tmp_path)
    save_file(load_file(file), tmp_path / "renamed.bin")
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(
        load_encoder(f"{tiny}:{tmp_path / 'renamed.bin'}")(pixels), load_encoder(f"{tiny}:{file}")(pixels)
    )
