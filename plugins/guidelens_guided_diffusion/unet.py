"""OpenAI's guided-diffusion UNet: the same constructor flags, state-dict names and numbers; our own code.

Architecture: Dhariwal & Nichol 2021, *Diffusion Models Beat GANs on Image Synthesis* (appendix B), after Nichol &
Dhariwal 2021 and Ho et al. 2020. A checkpoint published for guided-diffusion loads with ``load_state_dict``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def timestep_embedding(timesteps: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Embed timesteps (B,) as sinusoids (B, dim), cosines first (Vaswani et al. 2017, with Ho et al.'s frequencies)."""
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps[:, None].float() * torch.exp(-math.log(max_period) * exponents)
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return F.pad(embedding, (0, dim % 2))


class GroupNorm32(nn.GroupNorm):
    """Group normalisation over 32 groups, computed in float32 whatever the dtype of the input."""

    def __init__(self, channels: int) -> None:
        super().__init__(32, channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32:
            return super().forward(x)
        return F.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps).to(x.dtype)


def _zeroed(module: nn.Module) -> nn.Module:
    """Zero the parameters, so that a block starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Upsample(nn.Module):
    """Double height and width by nearest neighbour, then an optional 3x3 convolution."""

    def __init__(self, channels: int, use_conv: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if use_conv else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return x if self.conv is None else self.conv(x)


class Downsample(nn.Module):
    """Halve height and width by a strided 3x3 convolution, or by averaging."""

    def __init__(self, channels: int, use_conv: bool) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if use_conv else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class ResBlock(nn.Module):
    """Residual block conditioned on the timestep embedding; ``resample`` makes it change resolution itself."""

    def __init__(
        self,
        channels: int,
        emb_channels: int,
        dropout: float,
        out_channels: int,
        use_scale_shift_norm: bool,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.use_scale_shift_norm = use_scale_shift_norm
        self.resample = resample
        self.in_layers = nn.Sequential(
            GroupNorm32(channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        emb_out = 2 * out_channels if use_scale_shift_norm else out_channels
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, emb_out))
        self.out_layers = nn.Sequential(
            GroupNorm32(out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            _zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection: nn.Module = nn.Identity()
        if out_channels != channels:
            self.skip_connection = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        norm, activation, conv = self.in_layers
        h = activation(norm(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = conv(h)
        condition = self.emb_layers(emb).to(h.dtype)[:, :, None, None]
        if self.use_scale_shift_norm:
            scale, shift = condition.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[1:](h)
        else:
            h = self.out_layers(h + condition)
        return self.skip_connection(x) + h


class AttentionBlock(nn.Module):
    """Self-attention over all pixels, residual.

    The published checkpoints order the rows of ``qkv`` in one of two ways: head by head (q, k, v of head 0, of
    head 1, ...), or, with ``use_new_attention_order``, all q, all k, all v.
    """

    def __init__(self, channels: int, num_heads: int, use_new_attention_order: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.use_new_attention_order = use_new_attention_order
        self.norm = GroupNorm32(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = _zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        flat = x.reshape(batch, channels, height * width)
        qkv = self.qkv(self.norm(flat))
        if self.use_new_attention_order:
            q, k, v = qkv.view(batch, 3, self.num_heads, -1, height * width).transpose(3, 4).unbind(1)
        else:
            q, k, v = qkv.view(batch, self.num_heads, 3, -1, height * width).transpose(3, 4).unbind(2)
        attended = F.scaled_dot_product_attention(q, k, v)
        h = self.proj_out(attended.transpose(2, 3).reshape(batch, channels, height * width))
        return (flat + h).view(batch, channels, height, width)


class _Stage(nn.Sequential):
    """A sequence whose residual blocks also receive the timestep embedding."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:  # type: ignore[override]  # the embedding is the point
        for layer in self:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
        return x


class UNet(nn.Module):
    """Noise predictor with the constructor flags of the published guided-diffusion models.

    :param image_size: height and width of the images, in pixels (informative: the network is convolutional).
    :param in_channels: channels of x_t, 3 for RGB.
    :param model_channels: base width; multiplied per level by ``channel_mult``.
    :param out_channels: channels of the output; twice ``in_channels`` for models that learn the variance.
    :param num_res_blocks: residual blocks per level.
    :param attention_resolutions: downsampling factors at which attention is used (1 is full resolution).
    :param dropout: dropout probability inside residual blocks.
    :param channel_mult: one multiplier per level; each further level halves the resolution.
    :param conv_resample: learned convolutions in up- and downsampling (where ``resblock_updown`` is off).
    :param num_classes: None, or the number of classes of a class-conditional model.
    :param use_checkpoint: trade compute for memory: recompute each stage in the backward pass.
    :param num_heads: attention heads, unless ``num_head_channels`` fixes the width of a head instead.
    :param num_heads_upsample: attention heads on the way up; -1: as on the way down.
    :param use_scale_shift_norm: FiLM-like conditioning instead of adding the embedding.
    :param resblock_updown: residual blocks do the up- and downsampling.
    :param use_new_attention_order: see :class:`AttentionBlock`.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        model_channels: int,
        out_channels: int,
        num_res_blocks: int,
        attention_resolutions: Sequence[int],
        dropout: float = 0.0,
        channel_mult: Sequence[float] = (1, 2, 4, 8),
        conv_resample: bool = True,
        num_classes: int | None = None,
        use_checkpoint: bool = False,
        num_heads: int = 1,
        num_head_channels: int = -1,
        num_heads_upsample: int = -1,
        use_scale_shift_norm: bool = False,
        resblock_updown: bool = False,
        use_new_attention_order: bool = False,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.in_channels = in_channels
        self.model_channels = model_channels
        self.out_channels = out_channels
        self.num_classes = num_classes
        self.use_checkpoint = use_checkpoint
        emb_channels = 4 * model_channels
        heads_up = num_heads if num_heads_upsample == -1 else num_heads_upsample

        def res(channels: int, out: int, resample: nn.Module | None = None) -> ResBlock:
            return ResBlock(channels, emb_channels, dropout, out, use_scale_shift_norm, resample)

        def attention(channels: int, heads: int) -> AttentionBlock:
            count = heads if num_head_channels == -1 else channels // num_head_channels
            return AttentionBlock(channels, count, use_new_attention_order)

        def change_resolution(channels: int, kind: type[Upsample] | type[Downsample]) -> nn.Module:
            if resblock_updown:
                return res(channels, channels, kind(channels, use_conv=False))
            return kind(channels, use_conv=conv_resample)

        self.time_embed = nn.Sequential(
            nn.Linear(model_channels, emb_channels), nn.SiLU(), nn.Linear(emb_channels, emb_channels)
        )
        if num_classes is not None:
            self.label_emb = nn.Embedding(num_classes, emb_channels)

        widths = [int(mult * model_channels) for mult in channel_mult]
        channels = widths[0]
        self.input_blocks = nn.ModuleList([_Stage(nn.Conv2d(in_channels, channels, 3, padding=1))])
        skips = [channels]
        factor = 1
        for level, width in enumerate(widths):
            for _ in range(num_res_blocks):
                layers: list[nn.Module] = [res(channels, width)]
                channels = width
                if factor in attention_resolutions:
                    layers.append(attention(channels, num_heads))
                self.input_blocks.append(_Stage(*layers))
                skips.append(channels)
            if level < len(widths) - 1:
                self.input_blocks.append(_Stage(change_resolution(channels, Downsample)))
                skips.append(channels)
                factor *= 2

        self.middle_block = _Stage(
            res(channels, channels), attention(channels, num_heads), res(channels, channels)
        )

        self.output_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for block in range(num_res_blocks + 1):
                layers = [res(channels + skips.pop(), width)]
                channels = width
                if factor in attention_resolutions:
                    layers.append(attention(channels, heads_up))
                if level > 0 and block == num_res_blocks:
                    layers.append(change_resolution(channels, Upsample))
                    factor //= 2
                self.output_blocks.append(_Stage(*layers))

        self.out = nn.Sequential(
            GroupNorm32(channels), nn.SiLU(), _zeroed(nn.Conv2d(channels, out_channels, 3, padding=1))
        )

    def forward(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict from noisy images.

        :param x: (B, in_channels, H, W), H and W multiples of 2 ** (levels - 1).
        :param timesteps: (B,) training timesteps, 0..T-1 (fractions are allowed).
        :param y: (B,) class labels; given if and only if the model is class-conditional.
        :returns: (B, out_channels, H, W).
        :raises ValueError: labels given to an unconditional model, or missing for a conditional one.
        """
        if (y is not None) != (self.num_classes is not None):
            raise ValueError("class labels y are needed by class-conditional models, and by no others")
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels).to(x.dtype))
        if y is not None:
            emb = emb + self.label_emb(y)
        h = x
        skips = []
        for stage in self.input_blocks:
            h = self._run(stage, h, emb)
            skips.append(h)
        h = self._run(self.middle_block, h, emb)
        for stage in self.output_blocks:
            h = self._run(stage, torch.cat([h, skips.pop()], dim=1), emb)
        return self.out(h)

    def _run(self, stage: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
        if self.use_checkpoint and torch.is_grad_enabled():
            return checkpoint(stage, h, emb, use_reentrant=False)
        return stage(h, emb)
