"""Transformers and tiny autoencoders of diffusers, against diffusers itself, both ways; PixCell against its parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.importers.recorded import off, shaken
from torch import Tensor

from patchloom.autoencoders.tiny import TinyAutoencoder, TinyShape
from patchloom.autoencoders.tiny_files import load_tiny, save_tiny
from patchloom.diffusion.parametrisation import NoiseLabel, Parametrisation
from patchloom.errors import FormatError, InputError, MissingError
from patchloom.importers.diffusers_files import WEIGHTS
from patchloom.importers.diffusers_folder import export_stage, read_autoencoder, read_stage
from patchloom.importers.diffusers_transformers import export_transformer, read_transformer, transformer_config
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.transformer import TransformerShape
from patchloom.networks.transformer_files import TransformerDenoiser, load_transformer, save_transformer

diffusers = pytest.importorskip("diffusers")

DIT = TransformerShape("class", 5, 4, 2, 8, 3, 2, 8, eps=1e-5)
PIXART = TransformerShape("tokens", 12, 4, 2, 8, 2, 2, 8, 2.0, eps=1e-6)
PIXCELL = TransformerShape("tokens", 24, 16, 2, 12, 2, 2, 32, 2.0, tokens=16, null=True)


def made(shape: TransformerShape) -> Any:
    """Diffusers' own network of a shape; of PixCell's the PixArt inside it."""
    told = {
        key: value
        for key, value in transformer_config(shape).items()
        if key not in ("_class_name", "caption_num_tokens")
    }
    kind = diffusers.DiTTransformer2DModel if shape.told == "class" else diffusers.PixArtTransformer2DModel
    return shaken(kind(**told))


def drawn(*size: int, seed: int = 9) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def save_pixcell(folder: Path, shape: TransformerShape = PIXCELL) -> Any:
    """A folder as PixCell's authors keep it: PixArt's weights, a learned null, and the places of a window's cells.

    The places are diffusers' own sines at 4 x 4 points `base / 4 / 2` apart, from `base / 16` on, with `base` patches
    along a window.
    """
    from diffusers.models.embeddings import get_2d_sincos_pos_embed_from_grid

    theirs = made(shape)
    theirs.save_pretrained(folder)
    base = shape.side // shape.patch
    line = torch.arange(shape.cells, dtype=torch.float32) / (shape.cells / base) / 2 + base // shape.tokens
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"))
    tensors = load_file(folder / WEIGHTS)
    placed = get_2d_sincos_pos_embed_from_grid(shape.context, grid)  # type: ignore[no-untyped-call]
    tensors["y_pos_embed.y_pos_embed"] = placed.float()[None]
    tensors["caption_projection.uncond_embedding"] = drawn(shape.tokens, shape.context, seed=3)
    save_file(tensors, folder / WEIGHTS)
    config = json.loads((folder / "config.json").read_text())
    config |= {"_class_name": "PixCellTransformer2DModel", "caption_num_tokens": shape.tokens}
    (folder / "config.json").write_text(json.dumps(config))
    return theirs


@pytest.mark.parametrize("window", [(8, 8), (12, 12)])
def test_dit(window: tuple[int, int], tmp_path: Path) -> None:
    theirs = made(DIT)
    theirs.save_pretrained(tmp_path)
    network = read_transformer(tmp_path)
    assert network.shape == DIT
    x, t = drawn(3, 4, *window), torch.tensor([0, 3, 977])
    told = network.condition(torch.eye(5)[[1, 4, 2]][:, None], torch.tensor([[True], [True], [False]]))
    with torch.no_grad():
        wanted = theirs(x, t, torch.tensor([1, 4, 5])).sample[:, :4]  # diffusers' sixth class is none
        assert off(network(x, t.float(), told), wanted) < 1e-5
        nothing = theirs(x, t, torch.full((3,), 5)).sample[:, :4]
        assert off(network(x, t.float(), told.null()), nothing) < 1e-5


@pytest.mark.parametrize(("window", "tokens"), [((8, 8), 1), ((8, 8), 3), ((12, 6), 3)])
def test_pixart(window: tuple[int, int], tokens: int, tmp_path: Path) -> None:
    theirs = made(PIXART)
    theirs.save_pretrained(tmp_path)
    network = read_transformer(tmp_path)
    assert network.shape == PIXART
    x, t, told = drawn(2, 4, *window), torch.tensor([3, 977]), drawn(2, tokens, 12, seed=2)
    with torch.no_grad():
        wanted = theirs(x, told, t).sample[:, :4]
        assert off(network(x, t.float(), TokenCondition(told, told)), wanted) < 1e-5


def test_pixcell(tmp_path: Path) -> None:
    theirs = save_pixcell(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    network = read_transformer(tmp_path)
    assert network.shape == PIXCELL
    x, t, cells = drawn(2, 16, 32, 32), torch.tensor([3, 977]), drawn(2, 16, 24, seed=2)
    known = torch.ones(2, 16, dtype=torch.bool)
    known[1, 5] = False
    told = network.condition(cells, known)
    null = tensors["caption_projection.uncond_embedding"]
    wanted = cells.clone()
    wanted[1, 5] = null[5]
    placed = tensors["y_pos_embed.y_pos_embed"]
    with torch.no_grad():
        assert off(network(x, t.float(), told), theirs(x, wanted + placed, t).sample[:, :16]) < 1e-5
        none = theirs(x, (null + placed).expand(2, -1, -1), t).sample[:, :16]
        assert off(network(x, t.float(), told.null()), none) < 1e-5


def test_pixcell_of_one_cell(tmp_path: Path) -> None:
    """PixCell-256 is told one embedding, in no place."""
    shape = TransformerShape("tokens", 24, 16, 2, 12, 2, 2, 8, 1.0, null=True)
    theirs = made(shape)
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS) | {"caption_projection.uncond_embedding": drawn(1, 24, seed=3)}
    save_file(tensors, tmp_path / WEIGHTS)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"_class_name": "PixCellTransformer2DModel", "caption_num_tokens": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = read_transformer(tmp_path)
    x, t, cells = drawn(2, 16, 8, 8), torch.tensor([3, 977]), drawn(2, 1, 24, seed=2)
    told = network.condition(cells, torch.ones(2, 1, dtype=torch.bool))
    with torch.no_grad():
        assert off(network(x, t.float(), told), theirs(x, cells, t).sample[:, :16]) < 1e-5


@pytest.mark.parametrize("shape", [DIT, PIXART, PIXCELL], ids=["dit", "pixart", "pixcell"])
def test_bfloat16(shape: TransformerShape, tmp_path: Path) -> None:
    save_pixcell(tmp_path) if shape is PIXCELL else made(shape).save_pretrained(tmp_path)
    network = read_transformer(tmp_path)
    x, t = drawn(2, shape.channels, shape.side, shape.side), torch.tensor([3.0, 977.0])
    told = network.condition(drawn(2, shape.tokens, shape.context), torch.ones(2, shape.tokens, dtype=torch.bool))
    with torch.no_grad():
        exact = network(x, t, told)
        half = network.to(torch.bfloat16)(x.bfloat16(), t, told.to(x.device, torch.bfloat16)).float()
    error = (half - exact) / exact.std()
    assert float(error.square().mean().sqrt()) < 0.02
    assert float(error.abs().max()) < 0.1


@pytest.mark.parametrize("shape", [DIT, PIXART], ids=["dit", "pixart"])
def test_diffusers_loads_what_we_write(shape: TransformerShape, tmp_path: Path) -> None:
    made(shape).save_pretrained(tmp_path / "one")
    network = read_transformer(tmp_path / "one")
    export_transformer(network, tmp_path / "two")
    theirs: Any = type(made(shape)).from_pretrained(tmp_path / "two").eval()
    x, t = drawn(2, 4, 8, 8), torch.tensor([3, 977])
    with torch.no_grad():
        if shape is DIT:
            told = network.condition(torch.eye(5)[[1, 4]][:, None], torch.ones(2, 1, dtype=torch.bool))
            wanted = theirs(x, t, torch.tensor([1, 4])).sample
        else:
            tokens = drawn(2, 3, 12)
            told, wanted = TokenCondition(tokens, tokens), theirs(x, tokens, t).sample
        assert off(network(x, t.float(), told), wanted[:, :4]) < 1e-5


@pytest.mark.parametrize("shape", [DIT, PIXCELL], ids=["dit", "pixcell"])
def test_there_and_back(shape: TransformerShape, tmp_path: Path) -> None:
    save_pixcell(tmp_path / "a") if shape is PIXCELL else made(shape).save_pretrained(tmp_path / "a")
    network = read_transformer(tmp_path / "a")
    export_transformer(network, tmp_path / "b")
    wanted, found = load_file(tmp_path / "a" / WEIGHTS), load_file(tmp_path / "b" / WEIGHTS)
    assert {name: value.shape for name, value in found.items()} == {name: v.shape for name, v in wanted.items()}
    assert all(torch.equal(value, wanted[name]) for name, value in found.items())
    told = Parametrisation("eps", label=NoiseLabel("ddpm", 1000, 0.0001, 0.02, spacing="linear"))
    save_transformer(TransformerDenoiser(network, told), tmp_path / "c")
    again = load_transformer(tmp_path / "c")
    assert (again.network.shape, again.parametrisation) == (shape, told)
    held = again.network.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in network.state_dict().items())


def test_the_released_sizes() -> None:
    """Of PixCell-1024's published config, laid out without memory; the count is of the released file, 2.43 GB."""
    from patchloom.networks.transformer_files import build

    shape = TransformerShape("tokens", 1536, 16, 16, 72, 28, 2, 128, 2.0, tokens=16, null=True)
    with torch.device("meta"):
        count = sum(value.numel() for value in build(shape).parameters())
    assert 2.42e9 < 4 * count < 2.45e9


TINY = [
    TinyShape(4, (8, 8, 8), (1, 2, 1), (8, 8, 8), (2, 1, 1)),
    TinyShape(16, (8, 8), (1, 1), (12, 12), (1, 1), "silu", 1.5, 0.06),
]


@pytest.mark.parametrize("shape", TINY)
def test_tiny_autoencoders(shape: TinyShape, tmp_path: Path) -> None:
    theirs: Any = shaken(
        diffusers.AutoencoderTiny(
            encoder_block_out_channels=shape.down,
            decoder_block_out_channels=shape.up,
            num_encoder_blocks=shape.down_blocks,
            num_decoder_blocks=shape.up_blocks,
            latent_channels=shape.channels,
            act_fn=shape.activation,
            scaling_factor=shape.scale,
            shift_factor=shape.shift,
        )
    )
    theirs.save_pretrained(tmp_path / "a")
    own = read_autoencoder(tmp_path / "a")
    assert isinstance(own, TinyAutoencoder)
    assert (own.shape, own.factor) == (shape, 2 ** (len(shape.down) - 1))
    pixels = torch.randint(0, 256, (2, 3, 24, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        raw = theirs.encode(pixels / 127.5 - 1).latents
        latents = own.encode(pixels)
        assert off(latents, (raw - shape.shift) * shape.scale) < 1e-5
        assert off(own.pixels(latents), theirs.decode(raw).sample) < 1e-5
    export_stage(own, tmp_path / "b")
    again = diffusers.AutoencoderTiny.from_pretrained(tmp_path / "b").eval()
    with torch.no_grad():
        assert off(again.decode(raw).sample, theirs.decode(raw).sample) < 1e-6
    save_tiny(own, tmp_path / "c")
    assert torch.equal(load_tiny(tmp_path / "c").decode(latents), own.decode(latents))


@pytest.mark.parametrize("shape", TINY)
def test_a_tiny_decoder_sees_no_further_than_it_says(shape: TinyShape) -> None:
    """And, but for the last latent, as far: a change beyond its field changes no pixel."""
    own = shaken(TinyAutoencoder(shape)).double()
    assert isinstance(own, TinyAutoencoder)
    reach, factor = own.receptive_field, own.factor
    latents = torch.zeros(1, shape.channels, 3, 2 * reach + 5, dtype=torch.float64)
    other = latents.clone()
    other[..., 0] = 1e3
    with torch.no_grad():
        changed = (own.decoder(latents) != own.decoder(other)).any(dim=1).any(dim=1)[0]
    assert not changed[(reach + 1) * factor :].any()
    assert changed[(reach - 1) * factor :].any()


def test_a_first_stage_without_convolutions_around_its_latents(tmp_path: Path) -> None:
    """Stable Diffusion 3's, which PixCell decodes with: 16 channels, scaled and shifted."""
    theirs: Any = shaken(
        diffusers.AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            block_out_channels=[32, 64],
            latent_channels=16,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    )
    theirs.save_pretrained(tmp_path)
    own = read_stage(tmp_path)
    assert (own.shape.mixed, own.channels, own.shape.scale, own.shape.shift) == (False, 16, 1.5305, 0.0609)
    pixels = torch.randint(0, 256, (1, 3, 16, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        raw = theirs.encode(pixels / 127.5 - 1).latent_dist.mode()
        assert off(own.encode(pixels), (raw - 0.0609) * 1.5305) < 1e-4
        assert off(own.pixels((raw - 0.0609) * 1.5305), theirs.decode(raw).sample) < 1e-4
    export_stage(own, tmp_path / "b")
    again = diffusers.AutoencoderKL.from_pretrained(tmp_path / "b").eval()
    with torch.no_grad():
        assert off(again.decode(raw).sample, theirs.decode(raw).sample) < 1e-6


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(_class_name="FluxTransformer2DModel"), "class `FluxTransformer2DModel` is not run here"),
        (lambda c: c.update(novelty=1), "`novelty` is not known"),
        (lambda c: c.update(activation_fn="geglu"), "`activation_fn` is 'geglu'; only 'gelu-approximate'"),
        (lambda c: c.update(use_additional_conditions=True), "`use_additional_conditions` is True"),
        (lambda c: c.update(use_additional_conditions=None, sample_size=128), "`use_additional_conditions` is True"),
        (lambda c: c.update(norm_type="ada_norm_zero"), "`norm_type`"),
        (lambda c: c.update(out_channels=5), "5 channels come out of 16"),
        (lambda c: c.pop("num_layers"), "does not say 'num_layers'"),
        (lambda c: c.update(num_layers=10**9), "at most 1024 blocks"),
        (lambda c: c.update(num_layers=40, attention_head_dim=32768, cross_attention_dim=65536), "misshapen"),
        (lambda c: c.update(num_attention_heads=2048, cross_attention_dim=2048 * 12), "misshapen"),
        (lambda c: c.update(caption_num_tokens=15), "a square of tokens"),
        (lambda c: c.update(sample_size="large"), "config.json`: "),
        (lambda c: c.update(patch_size=0), "sizes are from 1"),
        (lambda c: c.update(caption_num_tokens=65536, caption_channels=65536), "misshapen"),
    ],
)
def test_configs_that_are_refused(change: Change, message: str, tmp_path: Path) -> None:
    save_pixcell(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    change(told)
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(FormatError, match=message):
        read_transformer(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.update({"proj.weight": t.pop("proj_out.weight")}),
            r"1 missing: proj_out.weight; 1 unknown: proj.w",
        ),
        (lambda t: t.pop("y_pos_embed.y_pos_embed"), "1 missing: y_pos_embed.y_pos_embed"),
        (lambda t: t.update(extra=torch.ones(1)), "1 unknown: extra"),
        (lambda t: t.update({"proj_out.bias": torch.ones(3)}), r"misshapen: proj_out.bias is \(3,\), not \(128,\)"),
        (lambda t: t.update({"proj_out.bias": torch.ones(128, dtype=torch.int32)}), "not floating: proj_out.bias"),
        (lambda t: t.update({"pos_embed.pos_embed": torch.ones(1, 256, 24)}), "other places than its config says"),
    ],
)
def test_weights_that_are_refused(change: Callable[[dict[str, Tensor]], Any], message: str, tmp_path: Path) -> None:
    save_pixcell(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    change(tensors)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(FormatError, match=message):
        read_transformer(tmp_path)


def test_older_files(tmp_path: Path) -> None:
    """DiT's and PixArt's published folders name a class that is no more; some hold the places that are computed."""
    theirs = made(DIT)
    theirs.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())
    told |= {"_class_name": "Transformer2DModel", "cross_attention_dim": None, "num_vector_embeds": None}
    told.pop("norm_eps")
    (tmp_path / "config.json").write_text(json.dumps(told))
    tensors = load_file(tmp_path / WEIGHTS) | {"pos_embed.pos_embed": theirs.pos_embed.pos_embed}
    (tmp_path / WEIGHTS).unlink()
    torch.save(tensors, tmp_path / "diffusion_pytorch_model.bin")
    assert read_transformer(tmp_path).shape == DIT


def test_what_has_no_class_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="learned null"):
        transformer_config(TransformerShape("tokens", 8, tokens=4))
    with pytest.raises(InputError, match="one class"):
        TransformerShape("class", 8, tokens=4)
    (tmp_path / "config.json").write_text(json.dumps(transformer_config(DIT)))
    with pytest.raises(MissingError, match="holds a config but no weights"):
        read_transformer(tmp_path)
