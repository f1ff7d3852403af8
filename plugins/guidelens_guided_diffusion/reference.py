"""The network evaluated like the published code, as a baseline for benchmarks.

It shares the weights of a :class:`~guidelens_guided_diffusion.UNet`, but not its layers:

- tensors are contiguous and in float32;
- normalisation, activation and modulation run one after the other;
- attention is two products with a softmax between them;
- parameters stay trainable, as in published sampling scripts, so autograd stores what their gradients need.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .flags import UNetFlags

Kind = Literal["conv", "block", "block down", "block up", "attention", "down", "up"]
Layer = tuple[Kind, str]

_NORM_GROUPS = 32


class ReferenceUNet:
    """Compute the same as a UNet of these flags and weights, without optimisations.

    :param flags: flags of an unconditional network.
    :param state: its state dict. Contiguous float32 tensors are shared, others are copied.
    """

    def __init__(self, flags: UNetFlags, state: Mapping[str, Tensor]) -> None:
        self._flags = flags
        self._weights = {
            name: nn.Parameter(tensor.detach().float().contiguous()) for name, tensor in state.items()
        }

    def __call__(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Map noisy images (B, in_channels, H, W) and timesteps (B,) to (B, out_channels, H, W)."""
        emb = self._linear(F.silu(self._linear(self._embedding(timesteps), "time_embed.0")), "time_embed.2")
        patch = self._flags.patch_size
        h, skips = _to_channels(x, patch), []
        for stage in _encoder(self._flags):
            h = self._stage(h, emb, stage)
            skips.append(h)
        for kind, name in _MIDDLE:
            h = self._stage(h, emb, [(kind, name)])
        for stage in _decoder(self._flags):
            h = self._stage(torch.cat([h, skips.pop()], dim=1), emb, stage)
        return _to_pixels(self._conv(F.silu(self._norm(h, "out.0")), "out.2"), patch)

    def _embedding(self, timesteps: Tensor) -> Tensor:
        """Return cos(t w_k), sin(t w_k) with w_k = 10000 ** (-k / half)."""
        width = self._flags.model_channels
        half = width // 2
        steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
        angles = timesteps[:, None].float() * torch.exp(-math.log(10_000) * steps / half)
        return F.pad(torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1), (0, width % 2))

    def _stage(self, h: Tensor, emb: Tensor, stage: list[Layer]) -> Tensor:
        for kind, name in stage:
            if kind == "conv":
                h = self._conv(h, name)
            elif kind == "attention":
                h = self._attention(h, name)
            elif kind == "down":
                h = self._conv(h, f"{name}.op", stride=2) if self._flags.conv_resample else _halved(h)
            elif kind == "up":
                h = self._conv(_doubled(h), f"{name}.conv") if self._flags.conv_resample else _doubled(h)
            else:
                h = self._block(h, emb, kind, name)
        return h

    def _block(self, x: Tensor, emb: Tensor, kind: Kind, name: str) -> Tensor:
        h = F.silu(self._norm(x, f"{name}.in_layers.0"))
        if kind != "block":
            resample = _halved if kind == "block down" else _doubled
            h, x = resample(h), resample(x)
        h = self._conv(h, f"{name}.in_layers.2")
        condition = self._linear(F.silu(emb), f"{name}.emb_layers.1")[:, :, None, None]
        if self._flags.use_scale_shift_norm:
            scale, shift = condition.chunk(2, dim=1)
            h = self._norm(h, f"{name}.out_layers.0") * (1 + scale) + shift
        else:
            h = self._norm(h + condition, f"{name}.out_layers.0")
        h = self._conv(F.silu(h), f"{name}.out_layers.3")
        skip = f"{name}.skip_connection"
        return (self._conv(x, skip) if f"{skip}.weight" in self._weights else x) + h

    def _attention(self, x: Tensor, name: str) -> Tensor:
        batch, channels, *size = x.shape
        flat = x.reshape(batch, channels, -1)
        qkv = self._conv1d(self._norm(flat, f"{name}.norm"), f"{name}.qkv")
        heads = self._heads(channels, name)
        if self._flags.use_new_attention_order:
            q, k, v = (part.reshape(batch * heads, -1, flat.shape[2]) for part in qkv.chunk(3, dim=1))
        else:
            q, k, v = qkv.reshape(batch * heads, -1, flat.shape[2]).chunk(3, dim=1)
        # The square root is applied to both factors, as in the original, to avoid overflow in half precision.
        root = q.shape[1] ** -0.25
        weight = torch.softmax(torch.einsum("bct,bcs->bts", q * root, k * root), dim=-1)
        attended = torch.einsum("bts,bcs->bct", weight, v).reshape(batch, -1, flat.shape[2])
        return (flat + self._conv1d(attended, f"{name}.proj_out")).reshape(batch, channels, *size)

    def _heads(self, channels: int, name: str) -> int:
        flags = self._flags
        if flags.num_head_channels != -1:
            return channels // flags.num_head_channels
        return flags.heads_upsample if name.startswith("output_blocks") else flags.num_heads

    def _conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self._weights[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return F.conv2d(x, weight, self._weights[f"{name}.bias"], stride=stride, padding=padding)

    def _conv1d(self, x: Tensor, name: str) -> Tensor:
        return F.conv1d(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.group_norm(x, _NORM_GROUPS, weight, bias)


_MIDDLE: list[Layer] = [
    ("block", "middle_block.0"),
    ("attention", "middle_block.1"),
    ("block", "middle_block.2"),
]


def _encoder(flags: UNetFlags) -> Iterator[list[Layer]]:
    """Yield the stages of the encoder, each a list of layers with their names."""
    yield [("conv", "input_blocks.0.0")]
    stage, levels = 1, len(flags.widths)
    for level in range(levels):
        for _ in range(flags.num_res_blocks):
            yield _with_attention(flags, level, f"input_blocks.{stage}")
            stage += 1
        if level < levels - 1:
            yield [("block down" if flags.resblock_updown else "down", f"input_blocks.{stage}.0")]
            stage += 1


def _decoder(flags: UNetFlags) -> Iterator[list[Layer]]:
    """Yield the stages of the decoder."""
    stage = 0
    for level in reversed(range(len(flags.widths))):
        for block in range(flags.num_res_blocks + 1):
            layers = _with_attention(flags, level, f"output_blocks.{stage}")
            if level > 0 and block == flags.num_res_blocks:
                kind: Kind = "block up" if flags.resblock_updown else "up"
                layers.append((kind, f"output_blocks.{stage}.{len(layers)}"))
            yield layers
            stage += 1


def _with_attention(flags: UNetFlags, level: int, name: str) -> list[Layer]:
    layers: list[Layer] = [("block", f"{name}.0")]
    if 2**level in flags.attention_resolutions:
        layers.append(("attention", f"{name}.1"))
    return layers


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _to_channels(x: Tensor, patch: int) -> Tensor:
    """Map (B, C, H, W) to (B, C * patch ** 2, H / patch, W / patch): the pixels of a patch become channels."""
    batch, channels, height, width = x.shape
    patches = x.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return patches.permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, height // patch, width // patch)


def _to_pixels(h: Tensor, patch: int) -> Tensor:
    """Undo :func:`_to_channels`."""
    batch, _, height, width = h.shape
    patches = h.reshape(batch, -1, patch, patch, height, width)
    return patches.permute(0, 1, 4, 2, 5, 3).reshape(batch, -1, height * patch, width * patch)
