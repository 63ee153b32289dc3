"""A model back into the official layout: `checkpoints/last.ckpt` and `configs/NAME-project.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from patchloom.autoencoders.ldm_first_stage import FirstStageShape
from patchloom.errors import CapacityError, InputError
from patchloom.importers.latent_diffusion import LatentDiffusion, export_state
from patchloom.importers.ldm_config import LatentDiffusionSpec
from patchloom.networks.ldm_tokens import EmbedderShape
from patchloom.networks.ldm_unet import LatentUNetShape
from patchloom.networks.zoom import ZoomShape

_ENCODERS = "ldm.modules.encoders.modules"
_TWO_TOKENS = 512  # the width of tokens where there are two of them is not a parameter there


def export_checkpoint(model: LatentDiffusion, folder: Path, name: str = "patchloom") -> None:
    """Write a folder that the official loader, and `import_checkpoint`, read; the config comes last.

    The weights are written once, as those last trained. Raises InputError for what the layout cannot say, and
    CapacityError on a full disk.
    """
    import yaml

    config = {"model": _model(model.spec)}
    for place in ("checkpoints", "configs"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    part = checkpoint.with_name(f".{checkpoint.name}.part")
    try:
        torch.save({"state_dict": export_state(model)}, part)
        part.replace(checkpoint)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise CapacityError(f"`{checkpoint}` could not be written: {error}") from None
    path = folder / "configs" / f"{name}-project.yaml"
    part = path.with_name(f".{path.name}.part")
    part.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    part.replace(path)


def _model(spec: LatentDiffusionSpec) -> dict[str, Any]:
    label, stage = spec.parametrisation.label, spec.first_stage
    plain = label.kind == "ddpm" and label.spacing == "root" and not label.offset
    if spec.parametrisation.kind not in ("eps", "v", "x0") or not plain or stage.shift:
        raise InputError(
            "the official layout holds models of latent diffusion's beta table alone, with latents that are not shifted"
        )
    factor = 2 ** (len(stage.multipliers) - 1)
    params = {
        "linear_start": label.beta_first,
        "linear_end": label.beta_last,
        "timesteps": label.steps,
        "parameterization": spec.parametrisation.kind,
        "image_size": spec.patch_px // factor,
        "channels": spec.unet.channels,
        "conditioning_key": "crossattn",
        "use_ema": False,
        **({"scale_by_std": True} if spec.scale_in_weights else {"scale_factor": stage.scale}),
        "unet_config": _target("ldm.modules.diffusionmodules.openaimodel.UNetModel", _unet(spec.unet)),
        "first_stage_config": _first_stage(stage, spec.patch_px),
        "cond_stage_config": _embedder(spec.embedder),
    }
    return _target("ldm.models.diffusion.ddpm.LatentDiffusion", params)


def _unet(shape: LatentUNetShape) -> dict[str, Any]:
    heads = {"num_heads": shape.heads} if shape.heads is not None else {"num_head_channels": shape.head_width}
    return {
        "in_channels": shape.channels,
        "out_channels": shape.channels,
        "model_channels": shape.width,
        "channel_mult": list(shape.multipliers),
        "num_res_blocks": shape.blocks[0] if len(set(shape.blocks)) == 1 else list(shape.blocks),
        "attention_resolutions": list(shape.attention),
        "use_spatial_transformer": True,
        "transformer_depth": shape.depth,
        "context_dim": shape.context,
        **heads,
    }


def _first_stage(shape: FirstStageShape, resolution: int) -> dict[str, Any]:
    vq = shape.kind == "vq"
    if not shape.mixed:
        raise InputError(
            "the official layout has 1 x 1 convolutions on either side of the latents; this stage has none"
        )
    if any(resolution % factor for factor in shape.attention):
        raise InputError(f"attention at factors {shape.attention} has no whole side in a patch of {resolution} px")
    stage = {
        "double_z": not vq,
        "z_channels": shape.inner,
        "resolution": resolution,
        "in_channels": 3,
        "out_ch": 3,
        "ch": shape.width,
        "ch_mult": list(shape.multipliers),
        "num_res_blocks": shape.blocks,
        "attn_resolutions": [resolution // factor for factor in shape.attention],
        "dropout": 0.0,
    }
    params = {"embed_dim": shape.channels, **({"n_embed": shape.codes} if vq else {}), "ddconfig": stage}
    nothing = {"target": "torch.nn.Identity"}
    return _target(
        f"ldm.models.autoencoder.{'VQModelInterface' if vq else 'AutoencoderKL'}", params | {"lossconfig": nothing}
    )


def _embedder(shape: EmbedderShape) -> dict[str, Any]:
    if isinstance(shape, ZoomShape):
        return _target(f"{_ENCODERS}.EmbeddingViT2_5", _zoom(shape))
    params: dict[str, Any] = {"patch_embed_dim": shape.patch, "normalize_ssl": shape.normalise}
    if shape.region is None:
        params |= {"patch_ssl_key": "feat_patch", "target_dim": shape.width}
        return _target(f"{_ENCODERS}.PatchEmbedder", params)
    if shape.width != _TWO_TOKENS:
        raise InputError(f"the official layout has two tokens of {_TWO_TOKENS} values, not of {shape.width}")
    params |= {"patch_ssl_key": "feat_20x", "region_ssl_key": "feat_5x", "region_embed_dim": shape.region}
    return _target(f"{_ENCODERS}.SSLEmbedder", params)


def _zoom(shape: ZoomShape) -> dict[str, Any]:
    return {
        "feat_key": "ssl_feat",
        "mag_key": "mag",
        "input_channels": shape.patch,
        "hidden_channels": shape.width,
        "output_channels": shape.width,
        "vit_mlp_dim": shape.hidden,
        "seq_length": shape.side**2,
        "mag_levels": shape.magnifications,
        "num_layers": shape.depth,
        "num_heads": shape.heads,
    }


def _target(target: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"target": target, "params": params}
