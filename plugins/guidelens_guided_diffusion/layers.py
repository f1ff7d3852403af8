"""The blocks of guided-diffusion's UNet. Our own code, with the state-dict names of the original."""

from __future__ import annotations

import math
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import ops

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def timestep_embedding(timesteps: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Embed timesteps as sinusoids, cosines first (Vaswani et al. 2017, with Ho et al.'s frequencies).

    :param timesteps: (B,), any number type.
    :param dim: size of the embedding. If it is odd, the last entry is 0.
    :returns: (B, dim) float32: cos(t w_k), then sin(t w_k), w_k = max_period ** (-k / (dim // 2)).
    """
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps[:, None].float() * torch.exp(-math.log(max_period) * exponents)
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return F.pad(embedding, (0, dim % 2))


class GroupNorm32(nn.GroupNorm):
    """Group normalisation over 32 groups, with statistics in float32 or better. Keeps the dtype of the input."""

    def __init__(self, channels: int) -> None:
        super().__init__(32, channels)

    def forward(self, x: Tensor) -> Tensor:
        return ops.norm(x, self, silu=False)


def zeroed(module: ModuleT) -> ModuleT:
    """Set the parameters to 0, so that a residual block starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Upsample(nn.Module):
    """Double height and width by nearest neighbour, then an optional 3x3 convolution."""

    def __init__(self, channels: int, use_conv: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if use_conv else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.upsample(x) if self.conv is None else ops.conv(x, self.conv, upsampled=True)


class Downsample(nn.Module):
    """Halve height and width by a strided 3x3 convolution, or by averaging."""

    def __init__(self, channels: int, use_conv: bool) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if use_conv else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.downsample(x) if self.op is None else ops.conv(x, self.op)


class NormActConv(nn.Sequential):
    """Normalisation, SiLU, optional dropout and convolution, computed together. Names are positions.

    :param dropout: probability. None omits the layer, and the convolution takes its position.
    :param zero: initialise the convolution with 0.
    """

    def __init__(
        self, channels: int, out_channels: int, *, dropout: float | None = None, zero: bool = False
    ) -> None:
        conv = nn.Conv2d(channels, out_channels, 3, padding=1)
        between = [] if dropout is None else [nn.Dropout(dropout)]
        super().__init__(GroupNorm32(channels), nn.SiLU(), *between, zeroed(conv) if zero else conv)

    def forward(
        self,
        x: Tensor,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        resample: Upsample | Downsample | None = None,
    ) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W'); see :func:`.ops.norm` for ``scale`` and ``shift``.

        :param resample: applied before the convolution.
        """
        h = ops.norm(x, cast(GroupNorm32, self[0]), scale, shift, silu=True)
        if len(self) == 4:
            h = self[2](h)
        conv = cast(nn.Conv2d, self[-1])
        if isinstance(resample, Upsample):
            return ops.conv(h, conv, upsampled=True)
        return ops.conv(h if resample is None else resample(h), conv)


class ResBlock(nn.Module):
    """Residual block conditioned on the timestep embedding.

    :param channels: channels of the input.
    :param emb_channels: channels of the embedding.
    :param dropout: probability of the dropout before the last convolution.
    :param out_channels: channels of the output.
    :param use_scale_shift_norm: scale and shift the normalised activations by the embedding (FiLM; Dhariwal &
        Nichol 2021 call it adaptive group normalisation) instead of adding it.
    :param resample: a parameterless :class:`Upsample` or :class:`Downsample`, if the resolution changes.
    """

    def __init__(
        self,
        channels: int,
        emb_channels: int,
        dropout: float,
        out_channels: int,
        use_scale_shift_norm: bool,
        resample: Upsample | Downsample | None = None,
    ) -> None:
        super().__init__()
        self.use_scale_shift_norm = use_scale_shift_norm
        self.resample = resample
        self.in_layers = NormActConv(channels, out_channels)
        emb_out = 2 * out_channels if use_scale_shift_norm else out_channels
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, emb_out))
        self.out_layers = NormActConv(out_channels, out_channels, dropout=dropout, zero=True)
        self.skip_connection: nn.Identity | nn.Conv2d = nn.Identity()
        if out_channels != channels:
            self.skip_connection = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map (B, channels, H, W) and (B, emb_channels) to (B, out_channels, H', W')."""
        h = self.in_layers(x, resample=self.resample)
        condition = self.emb_layers(emb)
        if self.use_scale_shift_norm:
            h = self.out_layers(h, *condition.chunk(2, dim=1))
        else:
            h = self.out_layers(h + condition.to(h.dtype)[:, :, None, None])
        if self.resample is not None:
            x = self.resample(x)
        if isinstance(self.skip_connection, nn.Conv2d):
            x = ops.conv(x, self.skip_connection)
        return h.add_(x)  # in place, as nothing else uses h


class AttentionBlock(nn.Module):
    """Self-attention over all pixels, residual.

    Published checkpoints order the rows of ``qkv`` in one of two ways: head by head (q, k, v of head 0, then of
    head 1, ...), or with ``use_new_attention_order`` all q, then all k, then all v.
    """

    def __init__(self, channels: int, num_heads: int, use_new_attention_order: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.use_new_attention_order = use_new_attention_order
        self.norm = GroupNorm32(channels)
        # Stored as 1x1 convolutions (names and shapes), but applied as matrices.
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        # Pixels before channels, because fused attention kernels need a head's channels adjacent in memory.
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        attended = attend(ops.linear(tokens, self.qkv), self.num_heads, self.use_new_attention_order)
        h = ops.linear(attended, self.proj_out)
        return x + h.transpose(1, 2).reshape(x.shape)


def attend(qkv: Tensor, num_heads: int, qkv_first: bool) -> Tensor:
    """Return softmax(q k^T / sqrt(D)) v of (B, pixels, 3 C) as (B, pixels, C). The softmax is float32 or better.

    :param qkv_first: channels are ordered as all q, all k, all v, instead of head by head.
    """
    if qkv_first:
        q, k, v = qkv.unflatten(2, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
    else:
        q, k, v = qkv.unflatten(2, (num_heads, 3, -1)).permute(3, 0, 2, 1, 4)
    if q.device.type == "meta":  # CUDA's kernel, so that costs are counted as on CUDA
        heads = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
    elif q.device.type != "cpu" or q.dtype not in ops.HALF_PRECISION:
        heads = F.scaled_dot_product_attention(q, k, v)
    else:  # in half precision on a CPU, these products take half the time of PyTorch's fused kernel
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
        heads = scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v
    return heads.transpose(1, 2).flatten(2)
