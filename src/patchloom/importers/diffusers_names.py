"""The names of diffusers' `UNet2DConditionModel`, `VQModel`, `AutoencoderKL` and `AutoencoderTiny` beside ours.

The same networks as latent diffusion's, laid out by level. What is a 1 x 1 convolution here is a linear layer there,
where it attends in a first stage.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from patchloom.autoencoders.ldm_first_stage import FirstStage, FirstStageShape
from patchloom.autoencoders.ldm_layers import Level
from patchloom.autoencoders.tiny import TinyAutoencoder, TinyBlock
from patchloom.importers.ldm_names import Table, transformer_names, under
from patchloom.networks.ldm_unet import Halving, LatentUNet, LatentUNetShape, Step

_RESIDUAL = {
    "norm": "norm1",
    "first": "conv1",
    "second_norm": "norm2",
    "second": "conv2",
    "shortcut": "conv_shortcut",
}
_TINY = {"first": "conv.0", "second": "conv.2", "third": "conv.4"}
_ATTENTION = {"norm": "group_norm", "query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0"}
_LINEAR = tuple(f".{name}.weight" for name in ("to_q", "to_k", "to_v", "to_out.0"))


def unet_names(network: LatentUNet) -> Table:
    """The table of a U-Net."""
    table = {
        "time_in": "time_embedding.linear_1",
        "time_out": "time_embedding.linear_2",
        "enter": "conv_in",
        "leave_norm": "conv_norm_out",
        "leave": "conv_out",
        **_step("middle", "mid_block", 0, network.middle),
        **_residual("after", "mid_block.resnets.1"),
    }
    level, number = 0, 0
    for place, step in enumerate(network.down):
        if isinstance(step, Halving):
            table[f"down.{place}.shrink.conv"] = f"down_blocks.{level}.downsamplers.0.conv"
            level, number = level + 1, 0
        else:
            table |= _step(f"down.{place}", f"down_blocks.{level}", number, step)
            number += 1
    level, number = 0, 0
    for place, step in enumerate(network.up):
        table |= _step(f"up.{place}", f"up_blocks.{level}", number, step)
        number += 1
        if isinstance(step, Step) and step.grow is not None:
            table[f"up.{place}.grow.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
            level, number = level + 1, 0
    return table


def stage_names(network: FirstStage) -> Table:
    """The table of a first stage."""
    table = {"to_latents": "quant_conv", "from_latents": "post_quant_conv", "codebook": "quantize.embedding"}
    for side, way, change in (("encoder", "down", "downsamplers"), ("decoder", "up", "upsamplers")):
        table |= {
            f"{side}.enter": f"{side}.conv_in",
            f"{side}.norm": f"{side}.conv_norm_out",
            f"{side}.leave": f"{side}.conv_out",
            **under(f"{side}.middle.before", f"{side}.mid_block.resnets.0", _RESIDUAL),
            **under(f"{side}.middle.attention", f"{side}.mid_block.attentions.0", _ATTENTION),
            **under(f"{side}.middle.after", f"{side}.mid_block.resnets.1", _RESIDUAL),
        }
        levels = (network.encoder if side == "encoder" else network.decoder).levels
        for number, level in enumerate(levels):
            table |= _level(f"{side}.levels.{number}", f"{side}.{way}_blocks.{number}", change, level)
    return table


def tiny_names(network: TinyAutoencoder) -> Table:
    """The table of a tiny autoencoder, whose layers stand in one row on either side."""
    table: Table = {}
    for side, row in (("encoder", network.encoder), ("decoder", network.decoder)):
        for number, layer in enumerate(row):
            place = f"{side}.{number}", f"{side}.layers.{number}"
            table |= under(*place, _TINY) if isinstance(layer, TinyBlock) else {place[0]: place[1]}
    return table


def unet_types(shape: LatentUNetShape) -> tuple[list[str], list[str]]:
    """The classes of the levels, on the way down and on the way up."""
    told = [2**level in shape.attention for level in range(len(shape.widths))]
    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in told]
    up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(told)]
    return down, up


def stage_types(shape: FirstStageShape) -> tuple[list[str], list[str]]:
    """The classes of the levels, on the way down and on the way up."""
    told = [2**level in shape.attention for level in range(len(shape.multipliers))]
    down = ["AttnDownEncoderBlock2D" if attends else "DownEncoderBlock2D" for attends in told]
    up = ["AttnUpDecoderBlock2D" if attends else "UpDecoderBlock2D" for attends in reversed(told)]
    return down, up


def as_linear(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A first stage's tensors under their names, attention's convolutions as matrices."""
    return {name: value.flatten(1) if name.endswith(_LINEAR) else value for name, value in tensors.items()}


def as_convolutions(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way back; older files hold convolutions already."""
    return {
        name: value[:, :, None, None] if name.endswith(_LINEAR) and value.ndim == 2 else value
        for name, value in tensors.items()
    }


def _residual(own: str, theirs: str) -> Table:
    return under(own, theirs, _RESIDUAL | {"noise": "time_emb_proj"})


def _step(own: str, theirs: str, number: int, step: object) -> Table:
    assert isinstance(step, Step)  # a way holds nothing else
    table = _residual(f"{own}.residual", f"{theirs}.resnets.{number}")
    if step.attention is not None:
        table |= dict(transformer_names(f"{own}.attention", f"{theirs}.attentions.{number}", step.attention))
    return table


def _level(own: str, theirs: str, change: str, level: object) -> Table:
    assert isinstance(level, Level)
    table = {f"{own}.resize.conv": f"{theirs}.{change}.0.conv"} if level.resize is not None else {}
    for number in range(len(level.blocks)):
        table |= under(f"{own}.blocks.{number}", f"{theirs}.resnets.{number}", _RESIDUAL)
    for number in range(len(level.attention)):
        table |= under(f"{own}.attention.{number}", f"{theirs}.attentions.{number}", _ATTENTION)
    return table
