"""ZoomLDM: its summary of grids against torch's own transformer, its checkpoint's layout, and its windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from tests.importers.recorded import FIXTURES
from torch import Tensor, nn

from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.errors import FormatError, InputError
from patchloom.geometry import Box
from patchloom.importers.latent_diffusion import EMBEDDER, LatentDiffusion, export_state, import_checkpoint
from patchloom.importers.ldm_config import read_config
from patchloom.importers.ldm_export import export_checkpoint
from patchloom.importers.official import How, default_run
from patchloom.importers.zoom_scene import ZoomScene
from patchloom.loom.orders import weave_canvas
from patchloom.loom.slerp import SlerpScene
from patchloom.networks.ldm_files import load_latent_denoiser, save_latent_denoiser
from patchloom.networks.ldm_tokens import TokenCondition
from patchloom.networks.ldm_unet import LatentUNet
from patchloom.networks.zoom import ZoomEmbedder, ZoomShape
from patchloom.pipelines.imported import Facts, save_imported
from patchloom.pipelines.pipeline import load_pipeline
from patchloom.pipelines.record import Source

SHAPE = ZoomShape(12, width=16, magnifications=3, depth=2, heads=2, hidden=24, side=4)


class Theirs(nn.Module):
    """The published description in torch's own parts, each named as the public layout names it, but for the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.mag_embedding = nn.Embedding(3, 16)
        self.dim_reduce = nn.Linear(12, 16)
        self.pad_token = nn.Parameter(torch.randn(1, 1, 16))
        self.pos_embedding = nn.Parameter(torch.randn(1, 17, 16))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 24, 0.0, F.gelu, layer_norm_eps=1e-6, batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.ln = nn.LayerNorm(16, eps=1e-6)
        self.final_proj = nn.Linear(16, 16)
        self.layer_norm = nn.LayerNorm(16)

    def forward(self, grid: Tensor, magnification: int) -> Tensor:
        """Of one grid (channels, rows, cols), as their loader gives it: (1, 17, 16)."""
        grid = (grid - grid.mean(0, keepdim=True)) / (grid.std(0, keepdim=True) + 1e-8)
        rows = self.dim_reduce(grid.flatten(1).T)
        whole = self.pad_token[0].repeat(16, 1)
        first = 8 - len(rows) // 2
        whole[first : first + len(rows)] = rows
        x = torch.cat([self.mag_embedding.weight[[magnification]], whole])[None] + self.pos_embedding
        for layer in self.layers:
            x = layer(x)
        return self.layer_norm(self.final_proj(self.ln(x)))  # type: ignore[no-any-return]

    def named(self) -> dict[str, Tensor]:
        """Its tensors under the names of a checkpoint."""
        inner = {
            "linear1": "mlp.0",
            "linear2": "mlp.3",
            "norm1": "ln_1",
            "norm2": "ln_2",
            "self_attn": "self_attention",
        }
        named = {}
        for name, value in self.state_dict().items():
            first, _, rest = name.partition(".")
            if first == "layers":
                number, part, last = rest.split(".", 2)
                named[f"{EMBEDDER}.encoder.layers.encoder_layer_{number}.{inner[part]}.{last}"] = value
            else:
                within = "encoder." if first in ("pos_embedding", "ln") else ""
                named[f"{EMBEDDER}.{within}{name}"] = value
        return named


def theirs() -> Theirs:
    torch.manual_seed(5)
    module = Theirs().eval()
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.3)
    return module


def model() -> LatentDiffusion:
    """Tiny networks of the official classes, the conditioning stage among them."""
    base = read_config(next((FIXTURES / "tiny_patch" / "configs").glob("*-project.yaml")))
    spec = replace(base, embedder=SHAPE, unet=replace(base.unet, context=16))
    torch.manual_seed(2)
    parts = LatentUNet(spec.unet), FirstStage(spec.first_stage), ZoomEmbedder(SHAPE)
    for part in parts:
        part.eval().requires_grad_(False)
    return LatentDiffusion(spec, *parts)


def checkpoint(folder: Path) -> Path:
    """A folder as the released ones are: `weights.ckpt`, the bare tensors, averaged ones beside them; `config.yaml`."""
    made = model()
    export_checkpoint(made, folder / "whole")
    config = yaml.safe_load((folder / "whole" / "configs" / "patchloom-project.yaml").read_text())
    params: dict[str, Any] = config["model"]["params"]
    params |= {"use_ema": True, "x_feat_extracted": True, "cond_stage_key": "hybrid", "num_timesteps_cond": 1}
    params["cond_stage_config"] = {
        "target": "ldm.modules.encoders.modules.EmbeddingViT2_5",
        "params": {
            "feat_key": "ssl_feat",
            "mag_key": "mag",
            "num_layers": 2,
            "input_channels": 12,
            "hidden_channels": 16,
            "output_channels": 16,
            "vit_mlp_dim": 24,
            "num_heads": 2,
            "seq_length": 16,
            "mag_levels": 3,
            "p_uncond": 0.1,
        },
    }
    state = {name: value for name, value in export_state(made).items() if not name.startswith(EMBEDDER)}
    inner = [name for name in state if name.startswith("model.diffusion_model.")]
    state |= {f"model_ema.{name.removeprefix('model.').replace('.', '')}": state[name] * 1.5 for name in inner}
    state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    (folder / "brca").mkdir()
    torch.save(state | theirs().named(), folder / "brca" / "weights.ckpt")
    (folder / "brca" / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "brca"


needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the tiny config (shared/fixtures/ldm) is not here")


@needs_fixtures
@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_the_tokens_are_those_of_the_published_description(side: int, tmp_path: Path) -> None:
    """From the layout of the released weights; 8 x 8 cells are averaged to 4 x 4 on the way."""
    embedder = import_checkpoint(checkpoint(tmp_path)).embedder
    assert isinstance(embedder, ZoomEmbedder)
    grid = torch.randn(12, side, side)
    pooled = F.adaptive_avg_pool2d(grid, min(side, 4))
    for magnification in range(3):
        with torch.no_grad():
            expected = theirs()(pooled, magnification)
            found = embedder.told(grid.permute(1, 2, 0)[None], magnification)
        torch.testing.assert_close(found.tokens, expected, atol=1e-5, rtol=1e-5)
        assert not found.nothing.any()


@needs_fixtures
def test_averaged_weights_and_the_way_back(tmp_path: Path) -> None:
    averaged, raw = import_checkpoint(checkpoint(tmp_path)), import_checkpoint(tmp_path / "brca", ema=False)
    torch.testing.assert_close(averaged.network.enter.weight, raw.network.enter.weight * 1.5)
    export_checkpoint(raw, tmp_path / "again")
    again = import_checkpoint(tmp_path / "again")
    assert again.spec == replace(raw.spec, ema=False)
    assert all(torch.equal(a, b) for a, b in zip(again.embedder.parameters(), raw.embedder.parameters(), strict=True))
    save_latent_denoiser(raw.parts, tmp_path / "ours")
    kept = load_latent_denoiser(tmp_path / "ours").embedder
    assert kept.shape == SHAPE
    vector = torch.randn(2, 12)
    torch.testing.assert_close(kept.condition(vector).tokens, raw.embedder.condition(vector).tokens)


@needs_fixtures
def test_an_image_at_the_finest_magnification_and_at_a_coarser_one(tmp_path: Path) -> None:
    own = import_checkpoint(checkpoint(tmp_path))
    assert isinstance(own.embedder, ZoomEmbedder)
    grid = np.random.default_rng(0).standard_normal((2, 2, 12)).astype(np.float32)
    fine = weave_canvas(default_run(own, SlerpScene.lattice(grid, 16, own.embedder), (32, 32), How(steps=2)))
    scene = ZoomScene(grid, own.embedder, magnification=1, window=16)
    assert scene.canvas == (16, 16)
    coarse = weave_canvas(default_run(own, scene, scene.canvas, How(steps=2)))
    assert np.isfinite(fine.read(Box(0, 0, 32, 32))).all()
    assert np.isfinite(coarse.read(Box(0, 0, 16, 16))).all()


@needs_fixtures
def test_it_is_a_pipeline_of_one_embedding_a_window(tmp_path: Path) -> None:
    own = import_checkpoint(checkpoint(tmp_path))
    source = Source("latent-diffusion", own.spec.ema, own.passengers, "MIT")
    save_imported(tmp_path / "p", own.parts, own.autoencoder, own.spec.patch_px, source, Facts("zoom", "0.5um"))
    pipeline = load_pipeline(tmp_path / "p")
    assert pipeline.record.encoder.dim == 12
    embeddings = np.random.default_rng(0).standard_normal((2, 12)).astype(np.float32)
    told = pipeline.conditioning.patches(embeddings)
    torch.testing.assert_close(told.tokens, own.embedder.condition(torch.from_numpy(embeddings)).tokens)


def test_windows_are_told_the_cells_that_lie_in_them() -> None:
    torch.manual_seed(0)
    embedder = ZoomEmbedder(SHAPE).eval()
    grid = np.random.default_rng(0).standard_normal((4, 6, 12)).astype(np.float32)
    scene = ZoomScene(grid, embedder, magnification=1, window=16)
    assert scene.canvas == (32, 48)
    boxes = [Box(0, 0, 16, 16), Box(16, 24, 16, 16), Box(10, 35, 16, 16), Box(20, 36, 16, 16)]
    found = scene.condition(boxes).tokens
    for row, (y, x) in zip(found, [(0, 0), (2, 3), (1, 4), (3, 5)], strict=True):
        rows, cols = [y, min(y + 1, 3)], [x, min(x + 1, 5)]
        cells = torch.from_numpy(grid[np.ix_(rows, cols)])[None]
        torch.testing.assert_close(row[None], embedder.told(cells, 1).tokens, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="windows of 16 x 16 latents"):
        scene.condition([Box(0, 0, 8, 8)])
    with pytest.raises(InputError, match="does not lie on windows of 18"):
        ZoomScene(grid, embedder, magnification=2, window=18)


def test_what_says_nothing() -> None:
    torch.manual_seed(0)
    embedder = ZoomEmbedder(SHAPE).eval()
    condition = embedder.condition(torch.stack([torch.zeros(12), torch.randn(12)]))
    assert isinstance(condition, TokenCondition)
    assert not condition.tokens[0].any()
    assert condition.tokens[1].any()
    assert not condition.null().tokens.any()


def test_grids_that_it_was_not_trained_on() -> None:
    embedder = ZoomEmbedder(SHAPE)
    with pytest.raises(InputError, match="12-d embeddings"):
        embedder.tokens(torch.zeros(1, 2, 2, 13), 0)
    with pytest.raises(InputError, match="magnifications 0 to 2, not 3"):
        embedder.tokens(torch.zeros(1, 2, 2, 12), 3)
    with pytest.raises(InputError, match="no middle"):
        embedder.tokens(torch.zeros(1, 3, 3, 12), 0)
    with pytest.raises(InputError, match="do not fit"):
        ZoomShape(12, width=15, heads=2)


@needs_fixtures
def test_a_config_that_is_not_run(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("seq_length: 16", "seq_length: 15"))
    with pytest.raises(FormatError, match="cells fill a square"):
        import_checkpoint(folder)
    (folder / "config.yaml").write_text(text.replace("mag_levels: 3", "mag_levels: 4"))
    with pytest.raises(FormatError, match=r"cond_stage_model\.mag_embedding\.weight is \(3, 16\), not \(4, 16\)"):
        import_checkpoint(folder)


def test_a_depth_that_nobody_trained_is_refused_before_it_is_laid_out() -> None:
    with pytest.raises(InputError, match="1 to 256 blocks"):
        replace(SHAPE, depth=10**9)
