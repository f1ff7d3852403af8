"""Group normalisation, scale and shift, and SiLU in half precision on a GPU, with few passes over memory.

    x^ = (x - mean) * rstd,   z = gain * x^ + offset,   y = SiLU(z) or z

On CUDA, PyTorch's own kernel copies a channels-last tensor to the other layout and back, and keeps the statistics in
the precision of the tensor. Scale and shift and SiLU then read and write the tensor again. The kernels here keep the
layout and compute in float32. The forward pass reads x twice and writes y. The backward pass reads x and dy twice and
writes dx. It needs x and four numbers per channel: slope = gain * rstd, offset - mean * slope, mean and rstd. With
S1 = sum(slope * dz) and S2 = sum(slope * dz * x) over the n elements of a group,

    dx = slope * dz + p * x + q,   p = -rstd^2 (S2 - mean S1) / n,   q = -S1 / n - p mean

The kernels are operators of PyTorch (``torch.ops.guidelens_guided_diffusion``), so that
:func:`guidelens.bench.cost.count_cost` counts them on the meta device.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

logger = logging.getLogger(__name__)

DEVICES = ("cuda", "meta")
"""Device types with these kernels. meta represents CUDA when costs are counted."""
LEAST = 2**22
"""Number of elements from which the kernels are used. Launching them takes the host longer than PyTorch's own."""
_TOLERANCE = 0.02
"""Largest relative error in bfloat16, in the trial before the first use."""

_NAMESPACE = "guidelens_guided_diffusion"
_LIBRARY = torch.library.Library(_NAMESPACE, "DEF")
_SCHEMAS = {
    "partial_sums": "(Tensor x, Tensor? grad, Tensor? coefficients, bool silu) -> Tensor",
    "coefficients": "(Tensor sums, Tensor weight, Tensor bias, Tensor? scale, Tensor? shift, int groups, int size, "
    "float eps) -> Tensor",
    "apply": "(Tensor x, Tensor coefficients, bool silu) -> Tensor",
    "gradient_coefficients": "(Tensor sums, Tensor coefficients, int groups, int size) -> Tensor",
    "gradient": "(Tensor x, Tensor grad, Tensor coefficients, Tensor further, bool silu) -> Tensor",
}


def norm(x: Tensor, layer: nn.GroupNorm, scale: Tensor | None, shift: Tensor | None, *, silu: bool) -> Tensor:
    """Return norm(x) * (1 + scale) + shift, optionally followed by SiLU.

    :param x: (B, C, H, W) in half precision, channels last. The result has the same dtype and layout.
    :param scale: (B, C), like ``shift``. Give both or neither.
    """
    output: Tensor = _FusedNorm.apply(
        x, layer.weight, layer.bias, scale, shift, layer.num_groups, layer.eps, silu
    )
    return output


def suits(x: Tensor, layer: nn.GroupNorm, scale: Tensor | None) -> bool:
    """Return whether :func:`norm` can be used, and is faster than PyTorch's operations."""
    if x.device.type not in DEVICES or x.numel() < LEAST or torch.compiler.is_compiling():
        return False
    if layer.weight.requires_grad or (scale is not None and scale.requires_grad):
        return False
    # Convolutions on the meta device do not keep the layout as they do on CUDA.
    return (x.is_meta or x.is_contiguous(memory_format=torch.channels_last)) and usable(x.device)


@functools.cache
def usable(device: torch.device) -> bool:
    """Return whether the kernels can be compiled for a device and compute what PyTorch does. A warning says if not."""
    if device.type == "meta":
        return True
    try:
        error = _trial(device)
        reason = "" if error <= _TOLERANCE else f"their results are wrong by {error:.2g}"
    except Exception as caught:  # Triton or a compiler may be missing
        reason = (str(caught).splitlines() or [type(caught).__name__])[0]
    if reason:
        logger.warning("Triton kernels for normalisation cannot be used (%s); PyTorch's own are used", reason)
    return not reason


def _trial(device: torch.device) -> float:
    """Return the largest relative error of a small output and gradient in bfloat16."""
    random = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(2, 96, 9, 8, generator=random).to(device) for _ in range(2))
    layer = nn.GroupNorm(32, 96, device=device).requires_grad_(False)
    scale, shift = (torch.randn(2, 96, generator=random).to(device) for _ in range(2))
    results = []
    with torch.enable_grad():
        for fused in (True, False):
            point = x.to(torch.bfloat16 if fused else torch.float32)
            point = point.contiguous(memory_format=torch.channels_last).requires_grad_()
            if fused:
                y = norm(point, layer, scale, shift, silu=True)
            else:
                z = layer(point) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
                y = F.silu(z)
            results.append((y.detach(), *torch.autograd.grad(y, point, grad.to(y.dtype))))
    pairs = [(ours.float(), theirs) for ours, theirs in zip(*results, strict=True)]
    return max(float((ours - theirs).norm() / theirs.norm()) for ours, theirs in pairs)


class _FusedNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        groups: int,
        eps: float,
        silu: bool,
    ) -> Tensor:
        operators = torch.ops.guidelens_guided_diffusion
        size = x[0].numel() // groups
        sums = operators.partial_sums(x, None, None, silu)
        if scale is not None and shift is not None:
            scale, shift = scale.contiguous(), shift.contiguous()
        coefficients = operators.coefficients(sums, weight, bias, scale, shift, groups, size, eps)
        ctx.save_for_backward(x, coefficients)
        ctx.groups, ctx.size, ctx.silu = groups, size, silu
        output: Tensor = operators.apply(x, coefficients, silu)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        operators = torch.ops.guidelens_guided_diffusion
        x, coefficients = ctx.saved_tensors
        if not grad.is_meta:  # as in suits()
            grad = grad.contiguous(memory_format=torch.channels_last)
        sums = operators.partial_sums(x, grad, coefficients, ctx.silu)
        further = operators.gradient_coefficients(sums, coefficients, ctx.groups, ctx.size)
        dx = operators.gradient(x, grad, coefficients, further, ctx.silu)
        return dx, *(None,) * 7


def _kernel(name: str) -> Any:
    def launch(*arguments: Any) -> Tensor:
        from . import norm_kernels  # loads Triton

        result: Tensor = getattr(norm_kernels, name)(*arguments)
        return result

    return launch


def _sums_on_meta(x: Tensor, grad: Tensor | None, coefficients: Tensor | None, silu: bool) -> Tensor:
    return x.new_empty(len(x), 1, 2, x.shape[1], dtype=torch.float32)


_ON_META = {
    "partial_sums": _sums_on_meta,
    "coefficients": lambda sums, *rest: sums.new_empty(len(sums), 4, sums.shape[3]),
    "apply": lambda x, *rest: torch.empty_like(x),
    "gradient_coefficients": lambda sums, *rest: sums.new_empty(len(sums), 2, sums.shape[3]),
    "gradient": lambda x, *rest: torch.empty_like(x),
}
for _name, _schema in _SCHEMAS.items():
    _LIBRARY.define(_name + _schema)
    _LIBRARY.impl(_name, _kernel(_name), "CUDA")
    _LIBRARY.impl(_name, _ON_META[_name], "Meta")
