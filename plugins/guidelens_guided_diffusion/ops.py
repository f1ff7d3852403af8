"""Operations of the UNet's layers: a plain version, and a fast one for frozen weights.

The fast versions need gradients of the input only, so they save memory and time:

- They store less for the backward pass. A frozen convolution does not store its input, and an activation is
  recomputed from what its normalisation stores.
- They compute no gradients of weights, and read and write memory less often.

Convolutions have a fast version on CPUs and on CUDA, normalisation on CPUs and in half precision on CUDA
(:mod:`.fused_norm`), the other operations on CPUs only. The plain versions are used
if a weight needs a gradient, for small tensors, and under ``torch.compile``, which fuses operations itself. The
results are the same up to rounding.

Tensors may be in half precision while weights are in float32. Weights are then cast once and cached (:func:`held`).
Normalisation computes in float32 with its own float32 weights, like the original.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from . import fused_norm

CHANNELS_LAST = ("cpu", "cuda", "meta")
"""Device types on which convolutions are fastest in the channels-last layout. meta represents CUDA when costs are
counted."""
HALF_PRECISION = (torch.float16, torch.bfloat16)
NATIVE_HALF_NORM = ("cuda", "meta")
"""Device types whose normalisation reads and writes half precision, with statistics in float32."""
SMALL = 2**17
"""Below this many elements per sample, the plain versions are faster."""

TensorState = tuple[int, int]
_KEPT = "_kept_weights"
_PHASES_PAY = 32
"""From this height on, an upsampled convolution is faster as a transposed convolution."""


def conv(x: Tensor, layer: nn.Conv2d, *, upsampled: bool = False) -> Tensor:
    """Apply a convolution to ``x``, or to ``x`` with height and width doubled by nearest neighbour."""
    if upsampled and (_plain(x, layer) or x.shape[2] < _PHASES_PAY):
        x, upsampled = upsample(x), False
    weight, bias = held(layer, x.dtype, upsampled=upsampled)
    if upsampled:
        return _FrozenUpsampledConv.apply(x, weight, bias)
    if layer.stride != (1, 1) or _plain(x, layer, CHANNELS_LAST):
        return F.conv2d(x, weight, bias, layer.stride, layer.padding)
    return _FrozenConv.apply(x, weight, bias, layer.padding)


def linear(tokens: Tensor, layer: nn.Conv1d) -> Tensor:
    """Apply a 1x1 convolution to tokens (B, pixels, C) as a matrix product."""
    weight, bias = held(layer, tokens.dtype)
    return F.linear(tokens, weight.squeeze(-1), bias)


def norm(
    x: Tensor, layer: nn.GroupNorm, scale: Tensor | None = None, shift: Tensor | None = None, *, silu: bool
) -> Tensor:
    """Return norm(x) * (1 + scale) + shift, optionally followed by SiLU. Statistics are float32 or better.

    :param x: (B, C, H, W). The result has the same dtype.
    :param scale: (B, C), like ``shift``. Give both or neither.
    """
    if x.dtype in HALF_PRECISION and fused_norm.suits(x, layer, scale):
        return fused_norm.norm(x, layer, scale, shift, silu=silu)
    wide = torch.float32 if x.dtype in HALF_PRECISION else x.dtype
    if _plain(x, layer) or (scale is not None and scale.requires_grad):
        return _plain_norm(x, layer, scale, shift, silu)
    gain, offset = layer.weight.to(wide), layer.bias.to(wide)
    if scale is not None and shift is not None:
        factor = 1 + scale.to(wide)
        gain, offset = gain * factor, offset * factor + shift.to(wide)
    shape = (len(x), x.shape[1])
    return _FrozenNorm.apply(x, gain.expand(shape), offset.expand(shape), layer.num_groups, layer.eps, silu)


def _plain_norm(
    x: Tensor, layer: nn.GroupNorm, scale: Tensor | None, shift: Tensor | None, silu: bool
) -> Tensor:
    if x.device.type in NATIVE_HALF_NORM and not torch.compiler.is_compiling():
        weight, bias = held(layer, x.dtype)  # avoids a cast of a tensor as large as x
        h = F.group_norm(x, layer.num_groups, weight, bias, layer.eps)
    else:
        wide = x.float() if x.dtype in HALF_PRECISION else x
        weight, bias = layer.weight.to(wide.dtype), layer.bias.to(wide.dtype)
        h = F.group_norm(wide, layer.num_groups, weight, bias, layer.eps).to(x.dtype)
    if scale is not None and shift is not None:
        scale, shift = scale.to(x.dtype)[:, :, None, None], shift.to(x.dtype)[:, :, None, None]
        h = torch.addcmul(shift, h, 1 + scale)  # one pass over memory
    return F.silu(h) if silu else h


def downsample(x: Tensor) -> Tensor:
    """Halve height and width by averaging."""
    odd = x.shape[2] % 2 or x.shape[3] % 2
    if x.device.type != "cpu" or odd or torch.compiler.is_compiling():
        return F.avg_pool2d(x, 2)
    return _Downsample.apply(x)


def upsample(x: Tensor) -> Tensor:
    """Double height and width by nearest neighbour."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.interpolate(x, scale_factor=2, mode="nearest")
    return _Upsample.apply(x)


def _plain(x: Tensor, layer: nn.Module, fast_on: tuple[str, ...] = ("cpu",)) -> bool:
    """Return whether to use the plain version. ``fast_on``: device types that have a fast version."""
    weight: Tensor = layer.weight  # type: ignore[assignment]  # every layer here has a weight
    if weight.requires_grad or x.device.type not in fast_on or torch.compiler.is_compiling():
        return True
    return x[0].numel() < SMALL


def held(
    layer: nn.Conv1d | nn.Conv2d | nn.GroupNorm, dtype: torch.dtype, *, upsampled: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of a layer in ``dtype``. For a frozen layer they are cached.

    The cache is renewed when the layer's weights are replaced or changed in place.

    :param upsampled: return the weight (C_in, C_out, 4, 4) of the transposed convolution (stride 2, padding 1) that
        equals the layer's 3x3 convolution of an upsampled input. After upsampling, several taps read the same
        pixel. Adding their weights first leaves 4 of 9 products.
    """
    weight, bias = layer.weight, layer.bias
    if weight.requires_grad or torch.compiler.is_compiling():
        return weight.to(dtype), None if bias is None else bias.to(dtype)
    if weight.dtype == dtype and not upsampled:
        _lay_out(layer)
        return layer.weight, bias
    kept: dict[Any, Any] = layer.__dict__.setdefault(_KEPT, {})
    source = state_of(weight), None if bias is None else state_of(bias)
    if kept.get("source") != source:
        kept.clear()
        # Keep the tensors as well, so that their addresses cannot be reused for other weights.
        kept.update(source=source, alive=(weight.detach(), bias))
    if (dtype, upsampled) not in kept:
        made = (_of_phases(weight) if upsampled else weight).detach().to(dtype)
        if made.ndim == 4:
            made = made.contiguous(memory_format=torch.channels_last)
        kept[dtype, upsampled] = made, None if bias is None else bias.detach().to(dtype)
    return kept[dtype, upsampled]


def state_of(tensor: Tensor) -> TensorState:
    """Return a value that changes when a tensor is replaced or changed in place."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def states_of(network: nn.Module) -> tuple[TensorState, ...]:
    """Return :func:`state_of` of every parameter of a network."""
    return tuple(state_of(parameter) for parameter in network.parameters())


def held_by(network: nn.Module) -> list[Any]:
    """Return the weights that :func:`held` has cached for the layers of a network, to keep them in memory."""
    return [list(part.__dict__[_KEPT].values()) for part in network.modules() if _KEPT in part.__dict__]


def _lay_out(layer: nn.Module) -> None:
    """Store a weight channels last if convolutions need this layout. Otherwise each call would convert it."""
    weight: Tensor = layer.weight  # type: ignore[assignment]  # the same
    if weight.ndim != 4 or weight.device.type not in CHANNELS_LAST:
        return
    if not weight.is_contiguous(memory_format=torch.channels_last):
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def _of_phases(weight: Tensor) -> Tensor:
    mirrored = weight.detach().transpose(0, 1).flip(2, 3)
    summed = mirrored.new_zeros(*mirrored.shape[:2], 4, 4)
    for down in (0, 1):
        for right in (0, 1):
            summed[:, :, down : down + 3, right : right + 3] += mirrored
    return summed


class _FrozenConv(torch.autograd.Function):
    """A convolution of stride 1 that stores only its weight for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.padding = padding
        return F.conv2d(x, weight, bias, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        if weight.shape[2:] == (1, 1):  # faster than a transposed convolution
            return F.conv2d(grad, weight.transpose(0, 1)), None, None, None
        return F.conv_transpose2d(grad, weight, padding=ctx.padding), None, None, None


class _FrozenUpsampledConv(torch.autograd.Function):
    """A 3x3 convolution of an upsampled input, with the weight from :func:`held`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return F.conv2d(grad, weight, stride=2, padding=1), None, None


class _FrozenNorm(torch.autograd.Function):
    """Group normalisation with a gain and an offset per sample and channel, optionally followed by SiLU.

    Let x^ = (x - mean) * rstd per group of n elements, z = gain * x^ + offset, and dz the gradient at z. With SiLU,
    z is recomputed to get dz. Then

        dx = rstd * (gain * dz - m1 - x^ * m2),   m1 = sum(gain * dz) / n,   m2 = sum(gain * dz * x^) / n

    PyTorch's own kernel computes this in float32. In half precision its kernels for batch normalisation are several
    times faster, and they compute in float32 inside. They give every term: z and the two summands of dx as batch
    normalisation in evaluation mode, and the sums as gradients of its weights.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, offset: Tensor, groups: int, eps: float, silu: bool
    ) -> Tensor:
        channels, pixels = x.shape[1], x.shape[2:].numel()
        parts, means, rstds = [], [], []
        for i in range(len(x)):
            z, mean, rstd = torch.native_group_norm(
                x[i : i + 1], gain[i], offset[i], 1, channels, pixels, groups, eps
            )
            parts.append(F.silu(z, inplace=True) if silu else z)
            means.append(mean[0])
            rstds.append(rstd[0])
        ctx.save_for_backward(x, gain, offset, torch.stack(means), torch.stack(rstds))
        ctx.silu = silu
        return parts[0] if len(x) == 1 else torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        x, gain, offset, means, rstds = ctx.saved_tensors
        last = x.is_contiguous(memory_format=torch.channels_last)
        grad = grad.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        width = x.shape[1] // means.shape[1]
        found = []
        for i in range(len(x)):
            x_i, dz, sample = x[i : i + 1], grad[i : i + 1], (gain[i], means[i : i + 1], rstds[i : i + 1])
            if ctx.silu:
                mean, rstd = means[i].repeat_interleave(width), rstds[i].repeat_interleave(width)
                z = _affine(x_i, gain[i] * rstd, offset[i], mean)
                # In place, like SiLU itself, because a new tensor must be loaded into the cache before it is written.
                dz = torch.ops.aten.silu_backward.grad_input(dz, z, grad_input=z)
            through_norm = _half_gradient if x.dtype in HALF_PRECISION else _own_gradient
            found.append(through_norm(dz, x_i, *sample))
        return found[0] if len(x) == 1 else torch.cat(found), None, None, None, None, None


def _own_gradient(dz: Tensor, x: Tensor, gain: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    """Return dx of :class:`_FrozenNorm` for one sample, with PyTorch's own kernel."""
    size = (1, x.shape[1], x.shape[2:].numel(), mean.shape[1])
    dx: Tensor = torch.ops.aten.native_group_norm_backward(
        dz, x, mean, rstd, gain, *size, [True, False, False]
    )[0]
    return dx


def _half_gradient(dz: Tensor, x: Tensor, gain: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    """Return dx of :class:`_FrozenNorm` for one sample, with the kernels of batch normalisation."""
    groups = mean.shape[1]
    width = x.shape[1] // groups
    mean, rstd = mean[0].repeat_interleave(width), rstd[0].repeat_interleave(width)
    _, of_product, of_dz = torch.ops.aten.native_batch_norm_backward(
        dz, x, gain, None, None, mean, rstd, True, 0.0, [False, True, True]
    )
    size = width * x.shape[2:].numel()
    m1, m2 = (
        ((gain * total).view(groups, width).sum(1) / size).repeat_interleave(width)
        for total in (of_dz, of_product)
    )
    zero = torch.zeros_like(gain)
    return _affine(dz, gain * rstd, zero, zero).add_(_affine(x, -rstd * rstd * m2, -rstd * m1, mean))


def _affine(x: Tensor, slope: Tensor, offset: Tensor, centre: Tensor) -> Tensor:
    """Return slope * (x - centre) + offset per channel, computed in float32 or better, in the dtype of x."""
    one = torch.ones_like(slope)
    return torch.native_batch_norm(x, slope, offset, centre, one, False, 0.0, 0.0)[0]


class _Downsample(torch.autograd.Function):
    """Average of 2x2 pixels. PyTorch's own gradient takes several times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return F.interpolate(grad / 4, scale_factor=2, mode="nearest")


class _Upsample(torch.autograd.Function):
    """Nearest-neighbour upsampling. Its gradient is a sum over 2x2 pixels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return F.avg_pool2d(grad, 2, divisor_override=1)
