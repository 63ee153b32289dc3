"""LoRA adapters merged into a network: against diffusers' own network with the two matrices beside its layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.importers.recorded import off
from tests.importers.test_diffusers_transformers import PIXART, drawn, made
from torch import Tensor, nn

from patchloom.errors import FormatError, InputError, MissingError
from patchloom.importers.diffusers_files import WEIGHTS
from patchloom.importers.diffusers_transformers import read_transformer
from patchloom.importers.lora import merged, read_lora
from patchloom.networks.ldm_tokens import TokenCondition

pytest.importorskip("diffusers")
RANK = 2
LAYERS = [f"transformer_blocks.{block}.attn2.{name}" for block in range(2) for name in ("to_q", "to_v", "to_out.0")]
File = Callable[[Path, dict[str, Tensor]], Path]


def halves(seed: int = 3) -> dict[str, Tensor]:
    """A (rank, in) and B (out, rank) of each layer, as `layer.A` and `layer.B`."""
    width = PIXART.width
    shapes = {"A": (RANK, width), "B": (width, RANK)}
    return {
        f"{layer}.{half}": drawn(*shape, seed=seed + number)
        for number, layer in enumerate(LAYERS)
        for half, shape in shapes.items()
    }


class Beside(nn.Module):
    """A linear layer and, beside it, the adapter's own path, as the paper draws it."""

    def __init__(self, layer: nn.Linear, down: Tensor, up: Tensor, scale: float) -> None:
        super().__init__()
        self.layer, self.down, self.up, self.scale = layer, down, up, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.scale * (x @ self.down.T) @ self.up.T  # type: ignore[no-any-return]


def adapted(model: Any, scale: float) -> Any:
    """A network of diffusers with its adapter."""
    model, both = deepcopy(model), halves()
    for layer in LAYERS:
        parent, _, name = layer.rpartition(".")
        holder = model.get_submodule(parent)
        path = Beside(model.get_submodule(layer), both[f"{layer}.A"], both[f"{layer}.B"], scale)
        if name.isdigit():
            holder[int(name)] = path
        else:
            setattr(holder, name, path)
    return model


def of_diffusers(folder: Path, both: dict[str, Tensor]) -> Path:
    """`save_lora_weights` of diffusers: nobody says alpha, so it is the rank."""
    path = folder / "pytorch_lora_weights.safetensors"
    save_file({f"transformer.{name[:-2]}.lora_{name[-1]}.weight": value for name, value in both.items()}, path)
    return folder


def of_peft(folder: Path, both: dict[str, Tensor]) -> Path:
    named = {f"base_model.model.{name[:-2]}.lora_{name[-1]}.weight": value for name, value in both.items()}
    save_file(named, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 6, "bias": "none"}))
    return folder / "adapter_model.safetensors"


def with_alphas(folder: Path, both: dict[str, Tensor]) -> Path:
    """As trainers of Stable Diffusion write it."""
    names = {"A": "lora.down", "B": "lora.up"}
    named = {f"unet.{name[:-2]}.{names[name[-1]]}.weight": value for name, value in both.items()}
    save_file(named | {f"unet.{layer}.alpha": torch.tensor(6.0) for layer in LAYERS}, folder / "a.safetensors")
    return folder / "a.safetensors"


def with_metadata(folder: Path, both: dict[str, Tensor]) -> Path:
    told = json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 6})
    named = {f"transformer.{name[:-2]}.lora_{name[-1]}.weight": value for name, value in both.items()}
    save_file(named, folder / "m.safetensors", {"lora_adapter_metadata": told})
    return folder / "m.safetensors"


def whole(folder: Path, both: dict[str, Tensor]) -> Path:
    """PixCell's virtual stains: the state of a network with its adapter, pickled, under peft's names."""
    state = load_file(folder / "transformer" / WEIGHTS)
    for layer in LAYERS:
        for part in ("weight", "bias"):
            state[f"{layer}.base_layer.{part}"] = state.pop(f"{layer}.{part}")
    named = {f"{name[:-2]}.lora_{name[-1]}.default.weight": value for name, value in both.items()}
    torch.save(state | named, folder / "stain.pth")
    return folder / "stain.pth"


@pytest.mark.parametrize(
    ("write", "scale"), [(of_diffusers, 1.0), (of_peft, 3.0), (with_alphas, 3.0), (with_metadata, 3.0), (whole, 1.0)]
)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_merged_is_beside(write: File, scale: float, strength: float, tmp_path: Path) -> None:
    model = made(PIXART)
    model.save_pretrained(tmp_path / "transformer")
    network = read_transformer(tmp_path / "transformer", read_lora(write(tmp_path, halves()), strength))
    x, t, told = drawn(2, 4, 8, 8), torch.tensor([3, 977]), drawn(2, 3, 12, seed=2)
    with torch.no_grad():
        wanted = adapted(model, scale * strength)(x, told, t).sample[:, :4]
        plain = model(x, told, t).sample[:, :4]
        found = network(x, t.float(), TokenCondition(told, told))
    assert off(found, wanted) < 1e-4
    assert off(found, plain) > 1e-2


def test_a_convolution_and_no_strength(tmp_path: Path) -> None:
    weight, a, b = torch.randn(6, 4, 1, 1), torch.randn(2, 4, 1, 1), torch.randn(6, 2, 1, 1)
    save_file({"transformer.c.lora_A.weight": a, "transformer.c.lora_B.weight": b}, tmp_path / "c.safetensors")
    none, twice = (merged({"c.weight": weight}, read_lora(tmp_path / "c.safetensors", strength)) for strength in (0, 2))
    assert torch.equal(none["c.weight"], weight)
    torch.testing.assert_close(twice["c.weight"], weight + 2 * torch.einsum("orhw,rihw->oihw", b, a))
    assert merged({"c.weight": weight}, None)["c.weight"] is weight


def test_what_is_refused(tmp_path: Path) -> None:
    tensors = {f"{layer}.weight": torch.zeros(PIXART.width, PIXART.width) for layer in LAYERS}
    path = of_peft(tmp_path, halves())
    with pytest.raises(FormatError, match=r"adapts another network: this one has no transformer_blocks.1.attn2.to_v"):
        merged({name: value for name, value in tensors.items() if "1.attn2.to_v" not in name}, read_lora(path))
    with pytest.raises(FormatError, match=r"is \(16, 2\) by \(2, 16\), but its weight is \(16, 4\)"):
        merged(tensors | {f"{LAYERS[0]}.weight": torch.zeros(16, 4)}, read_lora(path))
    with pytest.raises(InputError, match="strength is a number"):
        read_lora(path, float("nan"))
    for said, message in (
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"lora_alpha": "x"}, "no number"),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps(said))
        with pytest.raises(FormatError, match=message):
            read_lora(path)
    (tmp_path / "adapter_config.json").unlink()
    save_file(tensors, tmp_path / "none.safetensors")
    with pytest.raises(FormatError, match="no LoRA adapter"):
        read_lora(tmp_path / "none.safetensors")
    save_file({"a.lora_A.weight": torch.zeros(2, 3)}, tmp_path / "half.safetensors")
    with pytest.raises(FormatError, match="two matrices of `a`"):
        read_lora(tmp_path / "half.safetensors")
    with pytest.raises(MissingError, match="no adapter"):
        read_lora(tmp_path / "absent")
