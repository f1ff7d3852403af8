"""Gradients per sample: vector-Jacobian products, norms and clipping. No function mixes samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import GuidelensError, UsageError
from ..sampling import Sampling

if TYPE_CHECKING:  # shapes, for readers and tests; nothing is checked at run time
    from jaxtyping import Bool, Float, Shaped

HALF_PRECISION_LOSS_SCALES = (2.0**10, 2.0**5, 1.0, 2.0**-5)
"""The loss scales of float16 backward passes, tried in order until the gradients of a sample are finite."""


def vjp(
    output: Float[Tensor, "B *out"],
    point: Float[Tensor, "B *into"],
    cotangent: Float[Tensor, "B *out"],
    loss_scales: Sequence[float] = (1.0,),
    *,
    keep_graph: bool = False,
) -> Float[Tensor, "B *into"]:
    """Return d<cotangent, output>/d(point). If there are loss scales, use :func:`scaled_vjp`.

    :raises GuidelensError: if the output does not depend on the point.
    """
    if tuple(loss_scales) == (1.0,):
        return _grad(output, point, cotangent, keep_graph)
    return scaled_vjp(output, point, cotangent, loss_scales, keep_graph=keep_graph)


def scaled_vjp(
    output: Float[Tensor, "B *out"],
    point: Float[Tensor, "B *into"],
    cotangent: Float[Tensor, "B *out"],
    loss_scales: Sequence[float],
    *,
    keep_graph: bool = False,
) -> Float[Tensor, "B *into"]:
    """Return the vector-Jacobian product d<cotangent, output>/d(point) through a float16 graph.

    Float16 rounds values below 6e-8 to zero and overflows at 65504. So each sample's cotangent is scaled until its
    largest entry is in [0.5, 1). It is then multiplied by the first of ``loss_scales`` for which the sample's gradient
    is finite, and the gradient is scaled back in its own dtype. All factors are powers of two, so scaling is exact. A
    sample whose gradient is finite for none of the scales keeps its non-finite gradient.

    :param output: (B, ...), a function of ``point`` (B, ...) that does not mix samples.
    :param cotangent: a tensor of the output's shape.
    """
    peak = cotangent.abs().flatten(1).amax(dim=1) if cotangent.ndim > 1 else cotangent.abs()
    exponent = _exponent(torch.where(peak.isfinite(), peak, 0))
    unit = torch.ldexp(cotangent, -per_sample(exponent, cotangent))
    result: Tensor | None = None
    for attempt, scale in enumerate(loss_scales):
        keep = keep_graph or attempt + 1 < len(loss_scales)
        gradient = _grad(output, point, unit * scale, keep) / scale
        result = (
            gradient
            if result is None
            else torch.where(per_sample(all_finite(result), result), result, gradient)
        )
        if bool(all_finite(result).all()):
            break
    if result is None:
        raise UsageError("scaled_vjp needs at least one loss scale")
    return torch.ldexp(result, per_sample(exponent, result))


def _exponent(values: Tensor) -> Tensor:
    """Return the smallest e with |v| < 2**e."""
    if values.device.type == "mps":  # MPS has no frexp; float16 waits for the device anyway
        return torch.frexp(values.cpu()).exponent.to(values.device)
    return torch.frexp(values).exponent


def _grad(output: Tensor, point: Tensor, cotangent: Tensor, keep_graph: bool) -> Tensor:
    (gradient,) = torch.autograd.grad(output, point, cotangent, retain_graph=keep_graph, allow_unused=True)
    if gradient is None:
        raise GuidelensError(
            "a network's output does not depend on its input: there is no gradient to guide with"
        )
    return gradient


def step_length(gradient: Tensor, options: Sampling, loss: Tensor, noise: Tensor | None) -> Tensor:
    """Return g, normalised and clipped per sample according to the options.

    :param gradient: g (B, C, H, W).
    :param loss: the weighted loss (B,), used by ``normalize="loss"``.
    :param noise: x_t / sqrt(abar) - x0 (B, C, H, W), used by ``normalize="noise"``.
    """
    if options.normalize == "loss":
        gradient = gradient * per_sample(_reciprocal(2 * loss.abs().sqrt()), gradient)
    elif options.normalize != "none":
        length = _norm(gradient) if options.normalize == "unit" else _rms(gradient)
        factor = _reciprocal(length)
        if options.normalize == "noise" and noise is not None:
            factor = factor * _rms(noise)
        gradient = gradient * per_sample(factor, gradient)
    if options.clip_norm is not None:
        factor = (options.clip_norm / _norm(gradient)).clamp(max=1)  # a zero norm gives inf, clamped to 1
        gradient = gradient * per_sample(factor, gradient)
    return gradient


def all_finite(values: Float[Tensor, "B *rest"]) -> Bool[Tensor, "B"]:
    """Return for each sample whether all its entries are finite, (B,) bool."""
    return values.flatten(1).isfinite().all(dim=1)


def zero_rows(values: Float[Tensor, "B *rest"], rows: Bool[Tensor, "B"]) -> Float[Tensor, "B *rest"]:
    """Return ``values`` with zeros in the samples where ``rows`` (B,) is true."""
    # A product would not do: nan * 0 is nan.
    return torch.where(per_sample(rows, values), 0, values)


def per_sample(values: Shaped[Tensor, "B"], like: Float[Tensor, "B *rest"]) -> Shaped[Tensor, "B *ones"]:
    """Reshape (B,) to (B, 1, 1, 1), so that it broadcasts over ``like``."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def _norm(values: Tensor) -> Tensor:
    """Return |v| of each sample, scaled first: squares of entries beyond 1e19 would overflow float32."""
    flat = values.flatten(1)
    peak = flat.abs().amax(dim=1)
    peak = torch.where(peak == 0, 1, peak)
    return torch.linalg.vector_norm(flat / peak[:, None], dim=1) * peak


def _rms(values: Tensor) -> Tensor:
    return _norm(values) / values[0].numel() ** 0.5


def _reciprocal(values: Tensor) -> Tensor:
    """Return 1 / v, and 0 where v is 0, so that a sample without a gradient is not moved."""
    return torch.where(values == 0, 0, 1 / values)
