"""Latent diffusion's names of layers beside ours, for any size of network.

A table maps our layer (`down.0.residual.norm`) to theirs (`input_blocks.1.0.in_layers.0`), without the prefix that says
which of a checkpoint's networks it belongs to; the last part, `weight` or `bias`, is the same in both. A tensor that
has another last part there stands in the table with its whole name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from patchloom.autoencoders.ldm_first_stage import FirstStage
from patchloom.autoencoders.ldm_layers import Level
from patchloom.networks.ldm_layers import Transformer
from patchloom.networks.ldm_tokens import TokenEmbedder
from patchloom.networks.ldm_unet import Halving, LatentUNet, Step
from patchloom.networks.zoom import ZoomEmbedder

Table = dict[str, str]

_RESIDUAL = {
    "norm": "in_layers.0",
    "first": "in_layers.2",
    "noise": "emb_layers.1",
    "second_norm": "out_layers.0",
    "second": "out_layers.3",
    "shortcut": "skip_connection",
}
TRANSFORMER = {"norm": "norm", "enter": "proj_in", "leave": "proj_out"}
TRANSFORMER_BLOCK = {
    "self_norm": "norm1",
    "self_attention.query": "attn1.to_q",
    "self_attention.key": "attn1.to_k",
    "self_attention.value": "attn1.to_v",
    "self_attention.out": "attn1.to_out.0",
    "cross_norm": "norm2",
    "cross_attention.query": "attn2.to_q",
    "cross_attention.key": "attn2.to_k",
    "cross_attention.value": "attn2.to_v",
    "cross_attention.out": "attn2.to_out.0",
    "feed_norm": "norm3",
    "feed_in": "ff.net.0.proj",
    "feed_out": "ff.net.2",
}
_STAGE_RESIDUAL = {
    "norm": "norm1",
    "first": "conv1",
    "second_norm": "norm2",
    "second": "conv2",
    "shortcut": "nin_shortcut",
}
_ZOOM = {
    "magnifications": "mag_embedding",
    "patch": "dim_reduce",
    "padding": "pad_token",
    "positions": "encoder.pos_embedding",
    "norm": "encoder.ln",
    "leave": "final_proj",
    "leave_norm": "layer_norm",
}
_ZOOM_BLOCK = {
    "norm": "ln_1",
    "attention": "self_attention",
    "attention.out_proj": "self_attention.out_proj",
    "feed_norm": "ln_2",
    "feed_in": "mlp.0",
    "feed_out": "mlp.3",
}
_STAGE_ATTENTION = {"norm": "norm", "query": "q", "key": "k", "value": "v", "out": "proj_out"}


def unet_names(network: LatentUNet) -> Table:
    """The table of a U-Net (theirs below `model.diffusion_model.`)."""
    table = {
        "time_in": "time_embed.0",
        "time_out": "time_embed.2",
        "enter": "input_blocks.0.0",
        "leave_norm": "out.0",
        "leave": "out.2",
        **under("after", "middle_block.2", _RESIDUAL),
        **_step("middle", "middle_block", network.middle),
    }
    for number, step in enumerate(network.down):
        table |= _step(f"down.{number}", f"input_blocks.{number + 1}", step)
    for number, step in enumerate(network.up):
        table |= _step(f"up.{number}", f"output_blocks.{number}", step)
    return table


def stage_names(network: FirstStage) -> Table:
    """The table of a first stage (theirs below `first_stage_model.`)."""
    table = {"to_latents": "quant_conv", "from_latents": "post_quant_conv", "codebook": "quantize.embedding"}
    for side in ("encoder", "decoder"):
        table |= {
            f"{side}.enter": f"{side}.conv_in",
            f"{side}.norm": f"{side}.norm_out",
            f"{side}.leave": f"{side}.conv_out",
            **under(f"{side}.middle.before", f"{side}.mid.block_1", _STAGE_RESIDUAL),
            **under(f"{side}.middle.attention", f"{side}.mid.attn_1", _STAGE_ATTENTION),
            **under(f"{side}.middle.after", f"{side}.mid.block_2", _STAGE_RESIDUAL),
        }
    depth = len(network.decoder.levels)
    for number, level in enumerate(network.encoder.levels):
        table |= _level(f"encoder.levels.{number}", f"encoder.down.{number}", "downsample", level)
    for number, level in enumerate(network.decoder.levels):  # theirs count from the finest
        table |= _level(f"decoder.levels.{number}", f"decoder.up.{depth - 1 - number}", "upsample", level)
    return table


def embedder_names(network: TokenEmbedder) -> Table:
    """The table of the conditioning stage (theirs below `cond_stage_model.`)."""
    if not isinstance(network, ZoomEmbedder):
        return {"patch": "patch_fc", "region": "region_fc"}
    table = dict(_ZOOM)
    for number in range(len(network.blocks)):
        table |= under(f"blocks.{number}", f"encoder.layers.encoder_layer_{number}", _ZOOM_BLOCK)
    return table


def to_ours(tensors: Mapping[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Tensors under their names to ours; a name that the table does not know stays, to be refused by name."""
    back = {theirs: own for own, theirs in table.items()}
    return {_renamed(name, back): value for name, value in tensors.items()}


def to_theirs(network: nn.Module, table: Table, prefix: str) -> dict[str, Tensor]:
    """A network's tensors under their names."""
    return {f"{prefix}.{_renamed(name, table)}": value for name, value in network.state_dict().items()}


def _renamed(name: str, table: Table) -> str:
    if name in table:
        return table[name]
    layer, _, last = name.rpartition(".")
    return f"{table[layer]}.{last}" if layer in table else name


def under(own: str, theirs: str, table: Table) -> Table:
    """A table with its names below a layer of ours and a layer of theirs."""
    return {f"{own}.{a}": f"{theirs}.{b}" for a, b in table.items()}


def _step(own: str, theirs: str, step: nn.Module) -> Table:
    """Their steps number the parts that there are."""
    if isinstance(step, Halving):
        return {f"{own}.shrink.conv": f"{theirs}.0.op"}
    assert isinstance(step, Step)  # a way holds nothing else
    table = under(f"{own}.residual", f"{theirs}.0", _RESIDUAL)
    place = 1
    if step.attention is not None:
        table |= dict(transformer_names(f"{own}.attention", f"{theirs}.{place}", step.attention))
        place += 1
    if step.grow is not None:
        table[f"{own}.grow.conv"] = f"{theirs}.{place}.conv"
    return table


def transformer_names(own: str, theirs: str, part: Transformer) -> Iterator[tuple[str, str]]:
    """The rows of a transformer; diffusers kept these names."""
    yield from under(own, theirs, TRANSFORMER).items()
    for number in range(len(part.blocks)):
        yield from under(f"{own}.blocks.{number}", f"{theirs}.transformer_blocks.{number}", TRANSFORMER_BLOCK).items()


def _level(own: str, theirs: str, resize: str, level: nn.Module) -> Table:
    assert isinstance(level, Level)
    table = {f"{own}.resize.conv": f"{theirs}.{resize}.conv"} if level.resize is not None else {}
    for number in range(len(level.blocks)):
        table |= under(f"{own}.blocks.{number}", f"{theirs}.block.{number}", _STAGE_RESIDUAL)
    for number in range(len(level.attention)):
        table |= under(f"{own}.attention.{number}", f"{theirs}.attn.{number}", _STAGE_ATTENTION)
    return table
