"""ZoomLDM's model of conditions: against the published description in torch's own parts, and its authors' layout."""

from __future__ import annotations

from argparse import Namespace
from math import cos, log, pi
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from patchloom.diffusion.levels import ddpm_betas
from patchloom.diffusion.samplers import ddim, run
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.importers.zoom_cdm import PREDICTS, Conditions, import_conditions
from patchloom.networks.cdm import CdmShape, ConditionModel, Magnified

TOKENS, TOKEN, WIDTH, DEPTH, HEADS, MAGNIFICATIONS = 5, 6, 16, 2, 2, 3
SHAPE = CdmShape(TOKENS, TOKEN, WIDTH, DEPTH, HEADS, MAGNIFICATIONS)


class Block(nn.Module):
    """One of DiT's blocks, its attention torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, elementwise_affine=False, eps=1e-6)
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU("tanh"), nn.Linear(4 * WIDTH, WIDTH))
        self.adaLN = nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, 6 * WIDTH))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.adaLN(c)[:, None].chunk(6, dim=-1)
        own = self.norm(x) * (1 + scale) + shift
        x = x + gate * self.attn(own, own, own, need_weights=False)[0]
        return x + gate_mlp * self.mlp(self.norm(x) * (1 + scale_mlp) + shift_mlp)  # type: ignore[no-any-return]


class Theirs(nn.Module):
    """What the paper and its code say of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.x_embedder = nn.Linear(TOKEN, WIDTH)
        self.pos_embed = nn.Parameter(torch.randn(1, TOKENS, WIDTH))
        self.time = nn.Sequential(nn.Linear(256, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.labels = nn.Embedding(MAGNIFICATIONS, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.final = nn.Linear(WIDTH, 2 * TOKEN)
        self.final_adaLN = nn.Sequential(nn.SiLU(), nn.Linear(WIDTH, 2 * WIDTH))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """x (b, token, tokens) to the same, of twice as many channels."""
        frequencies = torch.exp(-log(10000) * torch.arange(128) / 128)
        angles = t[:, None].float() * frequencies
        waves = torch.cat([angles.cos(), angles.sin()], 1).to(x.dtype)
        c = self.time(waves) + self.labels(y)
        rows = self.x_embedder(x.mT) + self.pos_embed
        for block in self.blocks:
            rows = block(rows, c)
        shift, scale = self.final_adaLN(c)[:, None].chunk(2, dim=-1)
        norm = nn.functional.layer_norm(rows, (WIDTH,), eps=1e-6)
        return self.final(norm * (1 + scale) + shift).mT  # type: ignore[no-any-return]

    def named(self) -> dict[str, Tensor]:
        """Its tensors under the names of the authors' checkpoints."""
        named = {"pos_embed": self.pos_embed.data}
        tops = {"x_embedder": "x_embedder", "labels": "y_embedder.embedding_table", "final": "final_layer.linear"}
        tops |= {"final_adaLN.1": "final_layer.adaLN_modulation.1"}
        tops |= {f"time.{part}": f"t_embedder.mlp.{part}" for part in (0, 2)}
        for number in range(DEPTH):
            pairs = {"attn.out_proj": "attn.proj", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
            pairs |= {"adaLN.1": "adaLN_modulation.1", "attn.in_proj": "attn.qkv"}
            tops |= {f"blocks.{number}.{own}": f"blocks.{number}.{name}" for own, name in pairs.items()}
        for name, value in self.state_dict().items():
            place, _, last = name.rpartition("in_proj_") if "in_proj_" in name else name.rpartition(".")
            if name != "pos_embed":
                named[f"{tops[f'{place}in_proj' if 'in_proj_' in name else place]}.{last}"] = value
        return named


def theirs(seed: int = 0) -> Theirs:
    torch.manual_seed(seed)
    module = Theirs().eval()
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.3)
    return module


def saved(folder: Path, **changes: Any) -> Path:
    """A checkpoint of the authors' training, with the last weights beside the averaged ones."""
    held = {"model": theirs(1).named(), "ema": theirs(0).named(), "opt": {"state": {}}, "args": Namespace(epochs=3)}
    torch.save(held | changes, folder / "0050000.pt")
    return folder / "0050000.pt"


@pytest.mark.parametrize("ema", [True, False])
def test_the_network_is_the_published_one(ema: bool, tmp_path: Path) -> None:
    model = import_conditions(saved(tmp_path), ema=ema, heads=HEADS)
    assert model.network.shape == SHAPE
    x, t, y = torch.randn(3, TOKEN, TOKENS), torch.tensor([0.0, 17.0, 999.0]), torch.tensor([0, 2, 1])
    with torch.no_grad():
        wanted = theirs(0 if ema else 1)(x, t, y)[:, :TOKEN]
        found = model.network(x[..., None], t, Magnified(y))[..., 0]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_draws_are_ddim_s_by_hand(tmp_path: Path) -> None:
    """The update written in the running products of a table, as the paper of DDIM has it."""
    model, network = import_conditions(saved(tmp_path), heads=HEADS), theirs()
    kept = torch.from_numpy((1 - ddpm_betas(spacing="cosine")).cumprod())
    steps = 8
    numbers = torch.linspace(0, 999, steps, dtype=torch.float64).round().long().flip(0)
    x = torch.randn(2, TOKEN, TOKENS, 1, generator=torch.Generator().manual_seed(4))[..., 0].double()
    x = x * (1 - kept[999]).sqrt()  # what is noise alone there holds a trace of picture here
    network.double()
    with torch.no_grad():
        for number, after in zip(numbers, [*numbers[1:], None], strict=True):
            mean = network(x, torch.full((2,), int(number)), torch.ones(2).long())[:, :TOKEN]
            noise = (x - kept[number].sqrt() * mean) / (1 - kept[number]).sqrt()
            left = torch.tensor(1.0).double() if after is None else kept[after]
            x = left.sqrt() * mean + (1 - left).sqrt() * noise
    found = model.draw(1, 2, seed=4, steps=steps)
    torch.testing.assert_close(found.tokens.double(), x.mT, atol=1e-3, rtol=1e-3)
    assert found.tokens.shape == (2, TOKENS, TOKEN)
    assert not found.nothing.any()


def test_magnifications_differ_and_seeds_repeat(tmp_path: Path) -> None:
    model = import_conditions(saved(tmp_path), heads=HEADS)
    one, again, other = (model.draw(number, 1, seed=2, steps=3).tokens for number in (0, 0, 2))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-3)


def test_the_cosine_table_is_the_published_one() -> None:
    """Nichol & Dhariwal (2021): the share of picture left falls as a squared cosine."""
    betas = ddpm_betas(1000, spacing="cosine")
    kept = (1 - betas).cumprod()
    half, whole = (cos((place + 0.008) / 1.008 * pi / 2) ** 2 for place in (0.5, 0.0))
    assert kept[499] == pytest.approx(half / whole, rel=1e-9)
    assert betas.max() == 0.999
    assert PREDICTS.label.table[0] < 0.01


def test_a_model_of_the_released_size_fits_its_names() -> None:
    """DiT-B over 65 tokens of 512 numbers; without memory for its weights."""
    with torch.device("meta"):
        network = ConditionModel(CdmShape())
    assert sum(value.numel() for value in network.parameters()) == pytest.approx(132e6, rel=0.02)


def test_any_sampler_takes_it() -> None:
    torch.manual_seed(0)
    model = Conditions(ConditionModel(SHAPE).eval())
    told = Magnified(torch.tensor([0, 1])).join(Magnified(torch.tensor([2]))).to(torch.device("cpu"), torch.float32)
    with torch.no_grad():
        found = run(model.denoiser, ddim([5.0, 0.1]), torch.randn(3, TOKEN, TOKENS, 1), told.null())
    assert torch.isfinite(found).all()


def test_what_is_no_such_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no checkpoint"):
        import_conditions(tmp_path / "absent.pt")
    lacking = {name: value for name, value in theirs().named().items() if name != "blocks.1.mlp.fc2.bias"}
    with pytest.raises(FormatError, match=r"1 missing: blocks.1.mlp.fc2.bias"):
        import_conditions(saved(tmp_path, ema=lacking), heads=HEADS)
    with pytest.raises(FormatError, match=r"1 unknown: odd"):
        import_conditions(saved(tmp_path, ema=theirs().named() | {"odd": torch.zeros(1)}), heads=HEADS)
    with pytest.raises(FormatError, match="no model of conditions"):
        import_conditions(saved(tmp_path, ema={"x": torch.zeros(1)}))
    with pytest.raises(FormatError, match="no entry `ema`"):
        import_conditions(saved(tmp_path, ema=3))
    with pytest.raises(FormatError, match="fit its heads"):
        import_conditions(saved(tmp_path), heads=3)


def test_what_it_is_not_asked_for(tmp_path: Path) -> None:
    model = import_conditions(saved(tmp_path), heads=HEADS)
    with pytest.raises(InputError, match="magnifications 0 to 2"):
        model.draw(3, 1)
    with pytest.raises(InputError, match="magnifications 0 to 2"):
        model.network(torch.zeros(1, TOKEN, TOKENS, 1), torch.zeros(1), Magnified(torch.tensor([7])))
    with pytest.raises(InputError, match="tokens are 6 x 5 x 1"):
        model.network(torch.zeros(1, TOKEN, TOKENS + 1, 1), torch.zeros(1), Magnified(torch.tensor([0])))
