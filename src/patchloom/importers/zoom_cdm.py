"""ZoomLDM's model of conditions from its authors' checkpoint, and conditions drawn from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from patchloom import weights
from patchloom.diffusion.levels import ddpm_uniform
from patchloom.diffusion.parametrisation import NoiseLabel, Parametrisation, Preconditioned
from patchloom.diffusion.samplers import ddim, run
from patchloom.errors import FormatError, InputError
from patchloom.importers.checkpoint import check_fit, read_part
from patchloom.importers.ldm_names import Table
from patchloom.networks.cdm import CdmShape, ConditionModel, Magnified
from patchloom.networks.ldm_tokens import TokenCondition

PREDICTS = Parametrisation("x0", label=NoiseLabel("ddpm", spacing="cosine"))
STEPS = 200  # of 1000, as its authors draw
HEAD = 64  # numbers a head in the sizes S, B and L; XL has 16 heads of 72
_BLOCK = {
    "self_attention.out": "attn.proj",
    "feed_in": "mlp.fc1",
    "feed_out": "mlp.fc2",
}


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """A model of conditions, in float32 and in evaluation."""

    network: ConditionModel

    @property
    def denoiser(self) -> Preconditioned[Magnified]:
        """Expected clean tokens."""
        return Preconditioned(self.network, PREDICTS)

    def draw(self, magnification: int, count: int, *, seed: int = 0, steps: int = STEPS) -> TokenCondition:
        """Tokens of `count` windows at a magnification, 0 the finest, for ZoomLDM's U-Net: DDIM without noise.

        Raises InputError for a magnification that it does not know.
        """
        shape = self.network.shape
        if not 0 <= magnification < shape.magnifications or count < 1:
            raise InputError(
                f"conditions are drawn for one window or more at magnifications 0 to {shape.magnifications - 1}, "
                f"not for {count} at {magnification}"
            )
        levels = ddpm_uniform(steps, PREDICTS.label.table)
        noise = torch.randn(count, shape.token, shape.tokens, 1, generator=torch.Generator().manual_seed(seed))
        told = Magnified(torch.full((count,), magnification))
        with torch.no_grad():
            tokens = run(self.denoiser, ddim(levels), noise * float(levels[0]), told)[..., 0].transpose(1, 2)
        return TokenCondition(tokens, torch.zeros_like(tokens))


def import_conditions(path: Path, *, ema: bool = True, heads: int | None = None) -> Conditions:
    """Read a checkpoint of the authors' training, whose sizes are those of its tensors.

    `ema` chooses the averaged weights. The number of heads is not in the file: None takes the one that its width has in
    the authors' sizes. Raises MissingError, or FormatError for what is no such checkpoint.
    """
    held = read_part(path, "ema" if ema else "model")
    shape = _shape(held, heads, path)
    with torch.device("meta"):
        network = ConditionModel(shape)
    tensors = _split(held, shape)
    table = names_of(network)
    check_fit({table[name]: value for name, value in network.state_dict().items()}, tensors, path)
    weights.fill(network, {name: tensors[theirs] for name, theirs in table.items()}, f"`{path}`")
    return Conditions(network.eval().requires_grad_(False))


def names_of(network: ConditionModel) -> Table:
    """Our tensors' names to theirs, whole; the three parts of `attn.qkv` are told apart by `.0`, `.1` and `.2`."""
    layers = {
        "enter": "x_embedder",
        "noise.first": "t_embedder.mlp.0",
        "noise.second": "t_embedder.mlp.2",
        "magnifications": "y_embedder.embedding_table",
        "last": "final_layer.adaLN_modulation.1",
        "leave": "final_layer.linear",
    }
    for number in range(network.shape.depth):
        theirs = f"blocks.{number}"
        layers |= {f"blocks.{number}.{own}": f"{theirs}.{name}" for own, name in _BLOCK.items()}
        layers[f"modulations.{number}"] = f"{theirs}.adaLN_modulation.1"
        for part, own in enumerate(("query", "key", "value")):
            layers[f"blocks.{number}.self_attention.{own}"] = f"{theirs}.attn.qkv.{part}"
    found = {}
    for name in network.state_dict():
        layer, _, last = name.rpartition(".")
        found[name] = "pos_embed" if name == "places" else f"{layers[layer]}.{last}"
    return found


def _split(held: Mapping[str, Tensor], shape: CdmShape) -> dict[str, Tensor]:
    """Queries, keys and values apart, which lie in one layer there."""
    found: dict[str, Tensor] = {}
    for name, value in held.items():
        before, qkv, last = name.partition(".attn.qkv.")
        whole = qkv and value.shape[:1] == (3 * shape.width,)
        parts = {f"{before}{qkv}{part}.{last}": one for part, one in enumerate(value.chunk(3))} if whole else {}
        found |= parts or {name: value}
    return found


def _shape(held: Mapping[str, Tensor], heads: int | None, path: Path) -> CdmShape:
    """The sizes that the tensors say."""
    try:
        width, token = held["x_embedder.weight"].shape
        tokens, answers = held["pos_embed"].shape[1], held["final_layer.linear.weight"].shape[0]
        magnifications = held["y_embedder.embedding_table.weight"].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise FormatError(f"`{path}` is no model of conditions of ZoomLDM: {error} is not as it should be") from None
    depth = 1 + max((int(found[1]) for name in held if (found := re.match(r"blocks\.(\d+)\.", name))), default=0)
    usual = width // HEAD if width % HEAD == 0 and width < 1152 else 16
    try:
        return CdmShape(tokens, token, width, depth, heads or usual, magnifications, variance=answers == 2 * token)
    except InputError as error:
        raise FormatError(f"`{path}`: {error}") from None
