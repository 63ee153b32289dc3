"""Our Swin transformer against transformers' own, tiny and random, and CTransPath's layout of a file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from patchloom.encoders.known import KNOWN
from patchloom.encoders.registry import load_encoder
from patchloom.encoders.vit_swin import Swin, SwinShape, swin_to_ours
from patchloom.errors import FormatError, InputError

transformers = pytest.importorskip("transformers")

SHAPE = SwinShape(16, (2, 2), (2, 4), window=4)


def theirs() -> Any:
    """Transformers' class, with a patch for a stem, every weight drawn anew."""
    config = transformers.SwinConfig(
        image_size=64, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4, layer_norm_eps=1e-5
    )
    torch.manual_seed(2)
    model = transformers.SwinModel(config).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model


def timm_names(model: Any, folder: Path) -> dict[str, Tensor]:
    """Its tensors as timm, and so CTransPath, calls them; what timm keeps beside them included."""
    from safetensors.torch import load_file

    model.save_pretrained(folder)
    held = load_file(folder / "model.safetensors")
    table = {
        "layernorm_before": "norm1",
        "attention.output.dense": "attn.proj",
        "attention.self.relative_position_bias_table": "attn.relative_position_bias_table",
        "layernorm_after": "norm2",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }
    named: dict[str, Tensor] = {}
    for name, value in held.items():
        block = re.fullmatch(r"encoder\.(layers\.\d+\.blocks\.\d+)\.(.+?)(\.weight|\.bias)?", name)
        if block is None:
            short = name.removeprefix("encoder.").replace("embeddings.patch_embeddings.projection", "patch_embed.proj")
            named[short.replace("embeddings.norm", "patch_embed.norm").replace("layernorm.", "norm.")] = value
        elif block[2] in table:
            named[f"{block[1]}.{table[block[2]]}{block[3] or ''}"] = value
        elif block[2].endswith("query"):
            parts = [held[name.replace("query", part)] for part in ("query", "key", "value")]
            named[f"{block[1]}.attn.qkv{block[3]}"] = torch.cat(parts)
    beside = {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.int64)}
    return named | beside | {"layers.0.blocks.1.attn_mask": torch.zeros(16, 16, 16), "head.weight": torch.zeros(2, 32)}


@pytest.mark.parametrize("side", [64, 32])  # 32: the second level is one window, which does not move
def test_the_vectors_are_those_of_transformers(side: int, tmp_path: Path) -> None:
    model = theirs()
    network = Swin(SHAPE).eval()
    network.stem = nn.Conv2d(3, 16, 4, stride=4)
    tensors = swin_to_ours(timm_names(model, tmp_path))
    stem = {name.replace("patch_embed.proj", "stem"): value for name, value in tensors.items()}
    network.load_state_dict(stem)
    picture = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected = model(pixel_values=picture).pooler_output
        torch.testing.assert_close(network(picture), expected, atol=2e-5, rtol=1e-4)


def checkpoint(path: Path) -> tuple[nn.Module, Path]:
    """A file in CTransPath's layout, and the stem that it holds."""
    stem = nn.Sequential(
        nn.Conv2d(3, 2, 3, 2, 1, bias=False),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.Conv2d(2, 4, 3, 2, 1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 16, 1),
    ).eval()
    stem.state_dict()["1.running_mean"] += 0.3
    tensors = {name: value for name, value in timm_names(theirs(), path).items() if "patch_embed.proj" not in name}
    tensors |= {f"patch_embed.proj.{name}": value for name, value in stem.state_dict().items()}
    torch.save({"model": tensors}, path / "ctranspath.pth")
    return stem, path / "ctranspath.pth"


def test_a_file_of_ctranspaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(KNOWN["ctranspath"], dim=32, network=SHAPE)
    entry = replace(entry, transform=replace(entry.transform, resize_px=64, crop_px=64))
    monkeypatch.setitem(KNOWN, "ctranspath", entry)
    stem, file = checkpoint(tmp_path)
    encoder = load_encoder(f"ctranspath:{file}")
    assert (encoder.spec.name, encoder.spec.licence) == ("ctranspath", "GPL-3.0")
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    model = theirs()
    model.embeddings.patch_embeddings.projection = stem
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (entry.transform.mean, entry.transform.std))
    with torch.no_grad():
        expected = model(pixel_values=(pixels / 255 - mean) / std).pooler_output
    torch.testing.assert_close(encoder(pixels), expected, atol=1e-4, rtol=1e-4)
    state = torch.load(file)
    state["model"].pop("layers.1.blocks.0.mlp.fc1.bias")
    torch.save(state, file)
    with pytest.raises(FormatError, match=r"missing: levels\.1\.blocks\.0\.feed_in\.bias"):
        load_encoder(f"ctranspath:{file}")


def test_its_own_size() -> None:
    with torch.device("meta"):
        millions = sum(weight.numel() for weight in Swin(SwinShape()).parameters()) / 1e6
    assert millions == pytest.approx(27.5, rel=5e-3)  # Swin-T without its classifier


def test_sizes_and_pictures_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="do not fit"):
        SwinShape(heads=(3, 6, 12))
    with pytest.raises(InputError, match="windows of 4"):
        Swin(SHAPE)(torch.zeros(1, 3, 40, 40))
