"""Convert a guided-diffusion UNet's flags and weights to a ``UNet2DModel`` of diffusers.

Both describe the UNet of Ho et al. 2020 with the extensions of Dhariwal & Nichol 2021. A ``UNet2DModel`` numbers
levels instead of stages, has separate layers for q, k and v, and one width for all attention heads.
:func:`conversion_problems` lists what it cannot express.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from guidelens.errors import GuidelensError
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import UNet2DModel

_NORM_GROUPS = 32

_RES_BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
"""Layers of a residual block: diffusers's names -> guided-diffusion's names."""

_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def as_unet2d_model(flags: Mapping[str, Any], state: Mapping[str, Tensor]) -> UNet2DModel:
    """Build the ``UNet2DModel`` that computes the same as a guided-diffusion UNet.

    Where possible, its parameters are views of the tensors in ``state``, so it needs little memory.

    :param flags: the constructor flags of guided-diffusion's UNet, all of them.
    :param state: its state dict.
    :raises GuidelensError: a ``UNet2DModel`` cannot express such a network. The error says why.
    """
    if problems := conversion_problems(flags):
        raise GuidelensError(f"a UNet2DModel cannot compute what this UNet does: {'; '.join(problems)}")
    from diffusers import UNet2DModel

    with torch.device("meta"):  # no memory, no random initialisation
        model = UNet2DModel(**_config(flags))
    model.load_state_dict(dict(_tensors(flags, state)), assign=True)
    return model.eval()


def conversion_problems(flags: Mapping[str, Any]) -> list[str]:
    """Return why a ``UNet2DModel`` cannot express a guided-diffusion UNet, or nothing if it can."""
    problems = []
    widths = _widths(flags)
    if widths[0] != flags["model_channels"]:
        problems.append(
            f"its first level is {widths[0]} channels wide and its timestep embedding {flags['model_channels']}"
            " (channel_mult must begin with 1)"
        )
    if not flags["resblock_updown"] and not flags["conv_resample"]:
        problems.append("it resamples without learned convolutions (conv_resample)")
    if flags["num_head_channels"] == -1:
        if flags["num_heads_upsample"] not in (-1, flags["num_heads"]):
            problems.append("it has other attention heads on the way up (num_heads_upsample)")
        if len(attended := _attended_widths(flags)) > 1 and flags["num_heads"] != 1:
            problems.append(
                f"it has {flags['num_heads']} attention heads at each of the widths "
                f"{', '.join(map(str, sorted(attended)))}, where a UNet2DModel has one width per head"
            )
    return problems


def _widths(flags: Mapping[str, Any]) -> list[int]:
    return [int(mult * flags["model_channels"]) for mult in flags["channel_mult"]]


def _attends(flags: Mapping[str, Any], level: int) -> bool:
    return 2**level in flags["attention_resolutions"]


def _attended_widths(flags: Mapping[str, Any]) -> set[int]:
    """Return the channels of the levels with attention. The middle block always has attention."""
    widths = _widths(flags)
    return {widths[-1], *(width for level, width in enumerate(widths) if _attends(flags, level))}


def _head_dim(flags: Mapping[str, Any]) -> int | None:
    """Return the channels of a head, or None for one head with all channels."""
    if flags["num_head_channels"] != -1:
        return int(flags["num_head_channels"])
    return None if flags["num_heads"] == 1 else _attended_widths(flags).pop() // int(flags["num_heads"])


def _config(flags: Mapping[str, Any]) -> dict[str, Any]:
    widths = _widths(flags)
    levels = range(len(widths))
    kind = "resnet" if flags["resblock_updown"] else "conv"
    plain = {"down": "ResnetDownsampleBlock2D", "up": "ResnetUpsampleBlock2D"}
    if kind == "conv":
        plain = {"down": "DownBlock2D", "up": "UpBlock2D"}
    return {
        "sample_size": flags["image_size"],
        "in_channels": flags["in_channels"],
        "out_channels": flags["out_channels"],
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "down_block_types": tuple("AttnDownBlock2D" if _attends(flags, n) else plain["down"] for n in levels),
        "up_block_types": tuple(
            "AttnUpBlock2D" if _attends(flags, n) else plain["up"] for n in reversed(levels)
        ),
        "block_out_channels": tuple(widths),
        "layers_per_block": flags["num_res_blocks"],
        "downsample_type": kind,
        "upsample_type": kind,
        "dropout": flags["dropout"],
        "attention_head_dim": _head_dim(flags),
        "norm_num_groups": _NORM_GROUPS,
        # Without it, the attention of the middle block has no norm if the embedding scales and shifts.
        "attn_norm_num_groups": _NORM_GROUPS,
        "norm_eps": 1e-5,
        "resnet_time_scale_shift": "scale_shift" if flags["use_scale_shift_norm"] else "default",
        "num_class_embeds": flags["num_classes"],
    }


@dataclass(frozen=True)
class _Pair:
    """Two corresponding modules: diffusers's name, guided-diffusion's name, and their type."""

    ours: str
    theirs: str
    kind: str


def _tensors(flags: Mapping[str, Any], state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the state dict of the ``UNet2DModel``."""
    for ours, theirs in _ENDS.items():
        yield from _layer(state, ours, theirs)
    if flags["num_classes"] is not None:
        yield "class_embedding.weight", state["label_emb.weight"]
    for pair in (*_down(flags), *_middle(), *_up(flags)):
        if pair.kind == "resnet":
            for ours, theirs in _RES_BLOCK.items():
                yield from _layer(state, f"{pair.ours}.{ours}", f"{pair.theirs}.{theirs}")
        elif pair.kind == "attention":
            yield from _attention(flags, state, pair)
        else:
            yield from _layer(state, f"{pair.ours}.conv", f"{pair.theirs}.{pair.kind}")


def _down(flags: Mapping[str, Any]) -> Iterator[_Pair]:
    stage = 1  # 0 is the first convolution
    levels = len(_widths(flags))
    for level in range(levels):
        ours = f"down_blocks.{level}"
        for layer in range(flags["num_res_blocks"]):
            yield _Pair(f"{ours}.resnets.{layer}", f"input_blocks.{stage}.0", "resnet")
            if _attends(flags, level):
                yield _Pair(f"{ours}.attentions.{layer}", f"input_blocks.{stage}.1", "attention")
            stage += 1
        if level < levels - 1:
            kind = "resnet" if flags["resblock_updown"] else "op"
            yield _Pair(f"{ours}.downsamplers.0", f"input_blocks.{stage}.0", kind)
            stage += 1


def _middle() -> Iterator[_Pair]:
    yield _Pair("mid_block.resnets.0", "middle_block.0", "resnet")
    yield _Pair("mid_block.attentions.0", "middle_block.1", "attention")
    yield _Pair("mid_block.resnets.1", "middle_block.2", "resnet")


def _up(flags: Mapping[str, Any]) -> Iterator[_Pair]:
    stage = 0
    for block, level in enumerate(reversed(range(len(_widths(flags))))):
        ours, attends = f"up_blocks.{block}", _attends(flags, level)
        for layer in range(flags["num_res_blocks"] + 1):
            yield _Pair(f"{ours}.resnets.{layer}", f"output_blocks.{stage}.0", "resnet")
            if attends:
                yield _Pair(f"{ours}.attentions.{layer}", f"output_blocks.{stage}.1", "attention")
            stage += 1
        if level > 0:
            kind = "resnet" if flags["resblock_updown"] else "conv"
            yield _Pair(f"{ours}.upsamplers.0", f"output_blocks.{stage - 1}.{1 + attends}", kind)


def _layer(state: Mapping[str, Tensor], ours: str, theirs: str) -> Iterator[tuple[str, Tensor]]:
    """Yield a layer's weight and bias. A skip connection between equal channels has neither."""
    for kind in ("weight", "bias"):
        if f"{theirs}.{kind}" in state:
            yield f"{ours}.{kind}", state[f"{theirs}.{kind}"]


def _attention(
    flags: Mapping[str, Any], state: Mapping[str, Tensor], pair: _Pair
) -> Iterator[tuple[str, Tensor]]:
    yield from _layer(state, f"{pair.ours}.group_norm", f"{pair.theirs}.norm")
    for kind in ("weight", "bias"):
        # guided-diffusion has 1x1 convolutions, diffusers has linear layers.
        rows = (
            state[f"{pair.theirs}.qkv.{kind}"].flatten(1)
            if kind == "weight"
            else state[f"{pair.theirs}.qkv.{kind}"]
        )
        for name, part in zip(("to_q", "to_k", "to_v"), _split_qkv(flags, rows), strict=True):
            yield f"{pair.ours}.{name}.{kind}", part
    yield f"{pair.ours}.to_out.0.weight", state[f"{pair.theirs}.proj_out.weight"].flatten(1)
    yield f"{pair.ours}.to_out.0.bias", state[f"{pair.theirs}.proj_out.bias"]


def _split_qkv(flags: Mapping[str, Any], rows: Tensor) -> list[Tensor]:
    """Return the rows of q, k and v, each head by head, from either order of a checkpoint."""
    if flags["use_new_attention_order"]:
        return list(rows.chunk(3))
    dim = _head_dim(flags) or len(rows) // 3
    by_head = rows.unflatten(0, (-1, 3, dim))  # q, k, v of head 0, then of head 1, ...
    return [by_head[:, part].flatten(0, 1) for part in range(3)]
