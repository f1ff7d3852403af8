"""OpenAI's guided-diffusion UNet: the same constructor flags, state-dict names and numbers; our own code.

Architecture: Dhariwal & Nichol 2021, *Diffusion Models Beat GANs on Image Synthesis* (appendix B), after
Nichol & Dhariwal 2021 and Ho et al. 2020. A checkpoint published for guided-diffusion loads with
``load_state_dict``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import ops
from .flags import UNetFlags
from .layers import (
    AttentionBlock,
    Downsample,
    NormActConv,
    ResBlock,
    Upsample,
    timestep_embedding,
)


class Stage(nn.Sequential):
    """A sequence whose residual blocks also receive the timestep embedding."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:  # type: ignore[override]  # the embedding is the point
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, emb)
            else:
                x = ops.conv(x, layer) if isinstance(layer, nn.Conv2d) else layer(x)
        return x


class _Builder:
    """Makes the stages of a UNet, following the channels and the downsampling factor from stage to stage."""

    def __init__(self, flags: UNetFlags) -> None:
        self.flags = flags
        self.channels = flags.widths[0]
        self.factor = 1
        self.skips: list[int] = []

    def encoder(self) -> Iterator[Stage]:
        """Yield the input blocks; each one's output is also a skip connection."""
        flags = self.flags
        yield self._skipped(nn.Conv2d(flags.in_channels, self.channels, 3, padding=1))
        for level, width in enumerate(flags.widths):
            for _ in range(flags.num_res_blocks):
                yield self._skipped(*self._block(self.channels, width, flags.num_heads))
            if level < len(flags.widths) - 1:
                yield self._skipped(self._resampler(Downsample))
                self.factor *= 2

    def middle(self) -> Stage:
        """Return the block at the lowest resolution."""
        return Stage(
            self._res(self.channels, self.channels),
            self._attention(self.flags.num_heads),
            self._res(self.channels, self.channels),
        )

    def decoder(self) -> Iterator[Stage]:
        """Yield the output blocks, each of which takes the last skip connection that is left."""
        flags = self.flags
        for level, width in reversed(list(enumerate(flags.widths))):
            for block in range(flags.num_res_blocks + 1):
                layers = self._block(self.channels + self.skips.pop(), width, flags.heads_upsample)
                if level > 0 and block == flags.num_res_blocks:
                    layers.append(self._resampler(Upsample))
                    self.factor //= 2
                yield Stage(*layers)

    def _skipped(self, *layers: nn.Module) -> Stage:
        self.skips.append(self.channels)
        return Stage(*layers)

    def _block(self, channels: int, width: int, num_heads: int) -> list[nn.Module]:
        layers: list[nn.Module] = [self._res(channels, width)]
        self.channels = width
        if self.factor in self.flags.attention_resolutions:
            layers.append(self._attention(num_heads))
        return layers

    def _res(self, channels: int, width: int, resample: Upsample | Downsample | None = None) -> ResBlock:
        flags = self.flags
        return ResBlock(
            channels, flags.emb_channels, flags.dropout, width, flags.use_scale_shift_norm, resample
        )

    def _attention(self, num_heads: int) -> AttentionBlock:
        flags = self.flags
        heads = num_heads if flags.num_head_channels == -1 else self.channels // flags.num_head_channels
        return AttentionBlock(self.channels, heads, flags.use_new_attention_order)

    def _resampler(self, kind: type[Upsample] | type[Downsample]) -> nn.Module:
        if self.flags.resblock_updown:
            return self._res(self.channels, self.channels, kind(self.channels, use_conv=False))
        return kind(self.channels, use_conv=self.flags.conv_resample)


class UNet(nn.Module):
    """Noise predictor with the constructor flags of the published guided-diffusion models.

    :param flags: the fields of :class:`UNetFlags`, in order or by name.
    :raises UsageError: flags that fit no network, saying which.
    """

    def __init__(self, *args: object, **flags: object) -> None:
        super().__init__()
        self.flags = UNetFlags(*args, **flags)  # type: ignore[arg-type]  # checks its fields itself
        self.image_size = self.flags.image_size
        self.in_channels = self.flags.in_channels
        self.model_channels = self.flags.model_channels
        self.out_channels = self.flags.out_channels
        self.num_classes = self.flags.num_classes
        self.use_checkpoint = self.flags.use_checkpoint
        self.use_fp16 = False
        emb_channels = self.flags.emb_channels
        self.time_embed = nn.Sequential(
            nn.Linear(self.model_channels, emb_channels), nn.SiLU(), nn.Linear(emb_channels, emb_channels)
        )
        if self.num_classes is not None:
            self.label_emb = nn.Embedding(self.num_classes, emb_channels)
        builder = _Builder(self.flags)
        self.input_blocks = nn.ModuleList(builder.encoder())
        self.middle_block = builder.middle()
        self.output_blocks = nn.ModuleList(builder.decoder())
        self.out = NormActConv(builder.channels, self.out_channels, zero=True)

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
        kind = x.device.type
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else x.dtype
        if self.use_fp16:
            dtype = torch.float16
        # Autocast off: it would cast frozen weights again at every call. The layers go by their input's dtype.
        with torch.autocast(kind, enabled=False) if autocast else nullcontext():
            emb = timestep_embedding(timesteps, self.model_channels)
            emb = self.time_embed(emb.to(next(self.time_embed.parameters()).dtype))
            if y is not None:
                emb = emb + self.label_emb(y)
            # oneDNN's convolutions and the fused attention want channels last; every layer keeps the layout.
            h = x.to(dtype)
            h = h.contiguous(memory_format=torch.channels_last) if kind == "cpu" else h
            skips = []
            for stage in self.input_blocks:
                h = self._run(stage, h, emb)
                skips.append(h)
            h = self._run(self.middle_block, h, emb)
            for stage in self.output_blocks:
                h = self._run(stage, torch.cat([h, skips.pop()], dim=1), emb)
            return self.out(h.to(x.dtype)).contiguous()

    def _run(self, stage: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
        if self.use_checkpoint and torch.is_grad_enabled():
            return checkpoint(stage, h, emb, use_reentrant=False)
        return stage(h, emb)
