"""timm's models, made tiny here and saved as the hub keeps them; run where timm and a fitting torchvision import."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from patchloom.encoders.registry import load_encoder
from patchloom.errors import DependencyError, FormatError, InputError

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
PRETRAINED = {
    "input_size": [3, 32, 32],
    "mean": [0.7, 0.5, 0.6],
    "std": [0.2, 0.25, 0.3],
    "crop_pct": 0.8,
    "interpolation": "bicubic",
    "classifier": "head",
}


def timm() -> Any:
    """timm, or a skip that says why it does not import."""
    try:
        return importlib.import_module("timm")
    except Exception as error:  # torchvision built for another torch
        pytest.skip(f"timm does not import here: {error}")


def saved(path: Path, pickled: bool = False, **arguments: Any) -> Path:
    """A tiny ViT of timm as a folder."""
    torch.manual_seed(0)
    weights = timm().create_model("vit_tiny_patch16_224", num_classes=0, **TINY, **arguments).state_dict()
    path.mkdir(exist_ok=True)
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 0,
        "model_args": TINY,
        "pretrained_cfg": PRETRAINED,
    }
    (path / "config.json").write_text(json.dumps(config))
    if pickled:
        torch.save(weights, path / "pytorch_model.bin")
    else:
        save_file(weights | {"head.weight": torch.zeros(2, 16)}, path / "model.safetensors")
    return path


def noise() -> torch.Tensor:
    return torch.from_numpy(np.random.Generator(np.random.PCG64(0)).integers(0, 256, (2, 3, 48, 48), np.uint8))


@pytest.mark.parametrize("pickled", [False, True])
def test_a_folder_gives_what_timm_gives(tmp_path: Path, pickled: bool) -> None:
    path = saved(tmp_path / "tiny", pickled)
    encoder = load_encoder(str(path))
    assert (encoder.spec.name, encoder.spec.dim, encoder.spec.input_px) == ("local:tiny", 16, 32)
    torch.manual_seed(0)
    network = timm().create_model("vit_tiny_patch16_224", num_classes=0, **TINY).eval()
    resized = torch.nn.functional.interpolate(noise().float(), (40, 40), mode="bicubic", antialias=True).clamp(0, 255)
    mean, std = torch.tensor(encoder.spec.mean).view(3, 1, 1), torch.tensor(encoder.spec.std).view(3, 1, 1)
    with torch.no_grad():
        expected = network((resized[:, :, 4:36, 4:36] / 255 - mean) / std)
    torch.testing.assert_close(encoder(noise()), expected, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "tiny", pickled=True)
    values = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(values | {"architecture": "vit_unheard_of"}))
    with pytest.raises(InputError, match="update timm"):
        load_encoder(str(path))
    (path / "config.json").write_text(json.dumps(values | {"pretrained_cfg": {}}))
    with pytest.raises(FormatError, match="input_size, mean and std"):
        load_encoder(str(path))
    (path / "config.json").write_text(json.dumps(values | {"model_args": TINY | {"depth": 3}}))
    with pytest.raises(FormatError, match=r"lacks blocks\.2"):
        load_encoder(str(path))
    (path / "config.json").write_text(json.dumps(values))
    torch.save({"a": Path("code")}, path / "pytorch_model.bin")
    with pytest.raises(FormatError, match="could not be read"):
        load_encoder(str(path))


def test_a_name_that_timm_does_not_have() -> None:
    timm()
    with pytest.raises(InputError, match="did you mean"):
        load_encoder("timm:vit_small_patch14_dinov3")


def test_without_timm_the_way_to_install_it_is_told() -> None:
    try:
        importlib.import_module("timm")
    except Exception:
        with pytest.raises(DependencyError, match=r"torchvision.*pip install 'patchloom\[timm\]'"):
            load_encoder("timm:resnet18.a1_in1k")
    else:
        pytest.skip("timm imports here")
