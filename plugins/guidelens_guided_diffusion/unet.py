"""OpenAI's guided-diffusion UNet. Our own code, with the constructor flags, state-dict names and results.

Architecture: Dhariwal & Nichol 2021, *Diffusion Models Beat GANs on Image Synthesis* (section 3), after
Nichol & Dhariwal 2021 and Ho et al. 2020. A checkpoint published for guided-diffusion loads with
``load_state_dict``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from guidelens.networks import own_precision
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
    """A sequence of layers. Its residual blocks also receive the timestep embedding."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:  # type: ignore[override]  # takes the embedding as well
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, emb)
            else:
                x = ops.conv(x, layer) if isinstance(layer, nn.Conv2d) else layer(x)
        return x


class Builder:
    """Build the stages of a UNet, and track channels and downsampling factor from stage to stage."""

    def __init__(self, flags: UNetFlags) -> None:
        self.flags = flags
        self.channels = flags.widths[0]
        self.factor = 1
        self.skips: list[int] = []

    def encoder(self) -> Iterator[Stage]:
        """Yield the input blocks. Each output is also a skip connection."""
        flags = self.flags
        yield self._skipped(nn.Conv2d(flags.in_channels * flags.patch_size**2, self.channels, 3, padding=1))
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
        """Yield the output blocks. Each takes the last remaining skip connection."""
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


class TimestepNetwork(nn.Module):
    """Base of both networks: timestep embedding, precision, memory layout and recomputation.

    ``use_checkpoint`` may change at any time. It does not affect the results.
    """

    def __init__(self, flags: UNetFlags) -> None:
        super().__init__()
        self.use_checkpoint = flags.use_checkpoint
        self._fp16, self._width, wide = flags.use_fp16, flags.model_channels, flags.emb_channels
        self.time_embed = nn.Sequential(nn.Linear(self._width, wide), nn.SiLU(), nn.Linear(wide, wide))

    def precision(self, x: Tensor, asked: torch.dtype | None) -> torch.dtype:
        """Return the dtype to compute in.

        :param asked: autocast's dtype or None, from :func:`guidelens.networks.own_precision`.
        """
        return torch.float16 if self._fp16 else asked or x.dtype

    def embed(self, timesteps: Tensor) -> Tensor:
        """Return the embedding (B, emb_channels) of timesteps (B,), in the precision of its weights."""
        embedding = timestep_embedding(timesteps, self._width)
        return cast(Tensor, self.time_embed(embedding.to(next(self.time_embed.parameters()).dtype)))

    def laid_out(self, x: Tensor) -> Tensor:
        """Return ``x`` in channels-last layout, which every layer keeps."""
        return x.contiguous(memory_format=torch.channels_last) if x.device.type in ops.CHANNELS_LAST else x

    def run(self, stage: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
        """Apply a stage. With ``use_checkpoint`` its activations are recomputed in the backward pass."""
        if self.use_checkpoint and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(stage, h, emb, use_reentrant=False))
        return cast(Tensor, stage(h, emb))


class UNet(TimestepNetwork):
    """Noise predictor with the constructor flags of the published guided-diffusion models.

    :param flags: the fields of :class:`UNetFlags`, in order or by name.
    :raises UsageError: a flag is out of range, or flags do not fit together.
    """

    def __init__(self, *args: object, **flags: object) -> None:
        self.flags = UNetFlags(*args, **flags)  # type: ignore[arg-type]  # the dataclass checks its fields
        super().__init__(self.flags)
        self.image_size = self.flags.image_size
        self.in_channels = self.flags.in_channels
        self.model_channels = self.flags.model_channels
        self.out_channels = self.flags.out_channels
        self.num_classes = self.flags.num_classes
        if self.num_classes is not None:
            self.label_emb = nn.Embedding(self.num_classes, self.flags.emb_channels)
        builder = Builder(self.flags)
        self.input_blocks = nn.ModuleList(builder.encoder())
        self.middle_block = builder.middle()
        self.output_blocks = nn.ModuleList(builder.decoder())
        self.out = NormActConv(builder.channels, self.out_channels * self.flags.patch_size**2, zero=True)

    def forward(self, x: Tensor, timesteps: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict from noisy images.

        :param x: (B, in_channels, H, W), H and W multiples of patch_size * 2 ** (levels - 1).
        :param timesteps: (B,) training timesteps, 0..T-1 (fractions are allowed).
        :param y: (B,) class labels, if and only if the model is class-conditional.
        :returns: (B, out_channels, H, W).
        :raises ValueError: labels are given for an unconditional model, or missing for a conditional one.
        """
        if (y is not None) != (self.num_classes is not None):
            raise ValueError("class-conditional models need class labels y, other models take none")
        with own_precision(x.device) as asked:
            return self.predict(x, timesteps, y, self.precision(x, asked))

    def without_class(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Predict like :meth:`forward`, with no class embedding added, also by a class-conditional model."""
        with own_precision(x.device) as asked:
            return self.predict(x, timesteps, None, self.precision(x, asked))

    def predict(self, x: Tensor, timesteps: Tensor, y: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Compute :meth:`forward` in ``dtype``, and the last layers in the dtype of ``x``."""
        emb = self.embed(timesteps)
        if y is not None:
            emb = emb + self.label_emb(y)
        patch = self.flags.patch_size
        h, skips = self.laid_out(x.to(dtype) if patch == 1 else F.pixel_unshuffle(x.to(dtype), patch)), []
        for stage in self.input_blocks:
            h = self.run(stage, h, emb)
            skips.append(h)
        h = self.run(self.middle_block, h, emb)
        for stage in self.output_blocks:
            h = self.run(stage, torch.cat([h, skips.pop()], dim=1), emb)
        predicted = cast(Tensor, self.out(h.to(x.dtype)))
        return (predicted if patch == 1 else F.pixel_shuffle(predicted, patch)).contiguous()


class SuperResUNet(UNet):
    """An upsampler: a UNet with the enlarged small picture as further input channels.

    :param flags: the flags of :class:`UNet`. ``in_channels`` counts the channels of the picture only.
    """

    def __init__(self, *args: object, **flags: object) -> None:
        picture = UNetFlags(*args, **flags)  # type: ignore[arg-type]  # the dataclass checks its fields
        super().__init__(**{**picture.to_dict(), "in_channels": 2 * picture.in_channels})

    def forward(  # type: ignore[override]  # takes the small picture as well
        self, x: Tensor, timesteps: Tensor, low_res: Tensor, y: Tensor | None = None
    ) -> Tensor:
        """Predict from noisy images and the small picture ``low_res`` (B, C, h, w) in [-1, 1]."""
        enlarged = F.interpolate(low_res, x.shape[2:], mode="bilinear")
        return super().forward(torch.cat([x, enlarged], dim=1), timesteps, y)
