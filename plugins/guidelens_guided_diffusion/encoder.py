"""OpenAI's EncoderUNetModel, a classifier of noisy pictures: the first half of the UNet with a pooled output.

Dhariwal & Nichol 2021, section 4.3. Our own code, with the flags, state-dict names and results of the original.
"""

from __future__ import annotations

from typing import cast

import torch
from guidelens.networks import own_precision
from torch import Tensor, nn

from . import ops
from .flags import EncoderFlags
from .layers import GroupNorm32, attend, zeroed
from .unet import Builder, TimestepNetwork

_HIDDEN = 2048


class AttentionPool2d(nn.Module):
    """Pool a feature map into one vector: the mean of its pixels attends to all pixels and to itself.

    CLIP's ResNets pool in this way (Radford et al. 2021). Here heads have a given width, and one convolution
    computes q, k and v.

    :param size: height and width of the feature map.
    """

    def __init__(self, size: int, channels: int, head_channels: int, out_channels: int) -> None:
        super().__init__()
        self.size = size
        self.num_heads = channels // head_channels
        self.positional_embedding = nn.Parameter(torch.randn(channels, size**2 + 1) / channels**0.5)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, size, size) to (B, out_channels)."""
        tokens = x.flatten(2)
        tokens = torch.cat([tokens.mean(dim=2, keepdim=True), tokens], dim=2)
        tokens = tokens + self.positional_embedding.to(x.dtype)
        qkv = ops.linear(tokens.transpose(1, 2), self.qkv_proj)
        mean = attend(qkv, self.num_heads, qkv_first=True)[:, :1]
        return ops.linear(mean, self.c_proj)[:, 0]


class EncoderUNet(TimestepNetwork):
    """Classifier of noisy pictures, with the constructor flags of the published classifiers.

    :param flags: the fields of :class:`~guidelens_guided_diffusion.EncoderFlags`, by name.
    :raises UsageError: a flag is out of range, or flags do not fit together.
    """

    def __init__(self, **flags: object) -> None:
        self.flags = EncoderFlags(**flags)  # type: ignore[arg-type]  # checks its fields itself
        super().__init__(self.flags)
        builder = Builder(self.flags)
        self.input_blocks = nn.ModuleList(builder.encoder())
        self.middle_block = builder.middle()
        self.out = self._pooled(builder)

    def _pooled(self, builder: Builder) -> nn.Sequential:
        flags, channels = self.flags, builder.channels
        if flags.pool == "adaptive":
            conv = zeroed(nn.Conv2d(channels, flags.out_channels, 1))
            return nn.Sequential(
                GroupNorm32(channels), nn.SiLU(), nn.AdaptiveAvgPool2d(1), conv, nn.Flatten()
            )
        if flags.pool == "attention":
            size = flags.image_size // builder.factor
            pool = AttentionPool2d(size, channels, flags.num_head_channels, flags.out_channels)
            return nn.Sequential(GroupNorm32(channels), nn.SiLU(), pool)
        # Average every stage, including the middle.
        first = nn.Linear(sum(builder.skips) + channels, _HIDDEN)
        last = nn.Linear(_HIDDEN, flags.out_channels)
        if flags.pool == "spatial":
            return nn.Sequential(first, nn.ReLU(), last)
        return nn.Sequential(first, nn.GroupNorm(32, _HIDDEN), nn.SiLU(), last)

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Return the logits (B, out_channels) of noisy pictures.

        :param x: (B, in_channels, H, W). H and W must be ``image_size`` if ``pool`` is ``attention``.
        :param timesteps: (B,) training timesteps.
        """
        with own_precision(x.device) as asked:
            emb = self.embed(timesteps)
            h = self.laid_out(x.to(self.precision(x, asked)))
            pooled = []
            for stage in [*self.input_blocks, self.middle_block]:
                h = self.run(stage, h, emb)
                if self.flags.pool.startswith("spatial"):
                    pooled.append(h.to(x.dtype).mean(dim=(2, 3)))
            if pooled:
                return cast(Tensor, self.out(torch.cat(pooled, dim=1)))
            norm, _, *rest = self.out
            h = ops.norm(h.to(x.dtype), cast(GroupNorm32, norm), silu=True)
            for layer in rest:
                h = layer(h)
            return h
