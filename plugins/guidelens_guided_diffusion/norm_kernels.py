"""Triton kernels for normalisation in the channels-last layout. Import this only where Triton is installed.

Tensors are (samples, pixels, channels) in memory. Each kernel computes in float32. See :mod:`.fused_norm` for the
formulas.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_ELEMENTS = 4096
"""Elements of a tile, which a program holds in registers."""
_TILES = 16
"""Tiles that a program adds up."""


def partial_sums(x: Tensor, grad: Tensor | None, coefficients: Tensor | None, silu: bool) -> Tensor:
    """Return sums over pixels, (B, parts, 2, C): of x and x^2, or with ``grad`` of dz and dz * x."""
    batch, channels, pixels = len(x), x.shape[1], x.shape[2:].numel()
    width, rows = _tile(channels)
    parts = triton.cdiv(pixels, rows * _TILES)
    sums = torch.empty(batch, parts, 2, channels, device=x.device, dtype=torch.float32)
    given = (x, x, x) if grad is None or coefficients is None else (x, grad, coefficients)
    _launch(
        _partial_sums,
        (parts, batch),
        x,
        (*given, sums, pixels, channels),
        {"GRADIENT": grad is not None, "SILU": silu, "TILES": _TILES, "ROWS": rows, "WIDTH": width},
    )
    return sums


def coefficients(
    sums: Tensor,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    groups: int,
    size: int,
    eps: float,
) -> Tensor:
    """Return slope, offset - mean * slope, mean and rstd of each channel, (B, 4, C)."""
    batch, parts, _, channels = sums.shape
    out = torch.empty(batch, 4, channels, device=sums.device, dtype=torch.float32)
    modulation = (weight, bias) if scale is None or shift is None else (scale, shift)
    _launch(
        _coefficients,
        (groups, batch),
        sums,
        (sums, weight, bias, *modulation, out, parts, channels, channels // groups, size, eps),
        {"MODULATED": scale is not None, **_reduction(parts, channels // groups)},
    )
    return out


def gradient_coefficients(sums: Tensor, coefficients: Tensor, groups: int, size: int) -> Tensor:
    """Return the factor of x and the summand of the gradient, (B, 2, C)."""
    batch, parts, _, channels = sums.shape
    out = torch.empty(batch, 2, channels, device=sums.device, dtype=torch.float32)
    _launch(
        _gradient_coefficients,
        (groups, batch),
        sums,
        (sums, coefficients, out, parts, channels, channels // groups, size),
        _reduction(parts, channels // groups),
    )
    return out


def apply(x: Tensor, coefficients: Tensor, silu: bool) -> Tensor:
    """Return z or SiLU(z) in the dtype and layout of x."""
    out = torch.empty_like(x)
    _pointwise(x, x, coefficients, coefficients, out, gradient=False, silu=silu)
    return out


def gradient(x: Tensor, grad: Tensor, coefficients: Tensor, further: Tensor, silu: bool) -> Tensor:
    """Return dx in the dtype and layout of x."""
    out = torch.empty_like(x)
    _pointwise(x, grad, coefficients, further, out, gradient=True, silu=silu)
    return out


def _pointwise(
    x: Tensor, grad: Tensor, coefficients: Tensor, further: Tensor, out: Tensor, *, gradient: bool, silu: bool
) -> None:
    channels, pixels = x.shape[1], x.shape[2:].numel()
    width, rows = _tile(channels)
    _launch(
        _apply,
        (triton.cdiv(pixels, rows), len(x)),
        x,
        (x, grad, coefficients, further, out, pixels, channels),
        {"GRADIENT": gradient, "SILU": silu, "ROWS": rows, "WIDTH": width},
    )


def _tile(channels: int) -> tuple[int, int]:
    """Return the channels (a power of two) and the pixels of a tile."""
    width = triton.next_power_of_2(channels)
    return width, max(1, _ELEMENTS // width)


def _reduction(parts: int, width: int) -> dict[str, int]:
    return {"PARTS": triton.next_power_of_2(parts), "WIDTH": triton.next_power_of_2(width)}


def _launch(
    kernel: Any, grid: tuple[int, int], like: Tensor, arguments: tuple[Any, ...], constants: Any
) -> None:
    with torch.cuda.device_of(like):  # Triton launches on the current device
        kernel[grid](*arguments, **constants)


@triton.jit
def _through_silu(grad, z):  # type: ignore[no-untyped-def]  # Triton code
    sigmoid = 1 / (1 + tl.exp(-z))
    return grad * sigmoid * (1 + z * (1 - sigmoid))


@triton.jit
def _partial_sums(  # type: ignore[no-untyped-def]  # Triton code
    x,
    grad,
    coefficients,
    sums,
    pixels,
    channels,
    GRADIENT: tl.constexpr,
    SILU: tl.constexpr,
    TILES: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    part = tl.program_id(0)
    sample = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, WIDTH)
    present = column < channels
    first = tl.zeros([WIDTH], tl.float32)
    second = tl.zeros([WIDTH], tl.float32)
    for tile in range(TILES):
        row = (part * TILES + tile) * ROWS + tl.arange(0, ROWS)
        mask = (row < pixels)[:, None] & present[None, :]
        place = (sample * pixels + row)[:, None] * channels + column[None, :]
        value = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
        if GRADIENT:
            of_z = tl.load(grad + place, mask=mask, other=0.0).to(tl.float32)
            if SILU:
                own = coefficients + sample * 4 * channels + column
                slope = tl.load(own, mask=present, other=0.0)
                offset = tl.load(own + channels, mask=present, other=0.0)
                of_z = _through_silu(of_z, slope[None, :] * value + offset[None, :])
            first += tl.sum(of_z, axis=0)
            second += tl.sum(of_z * value, axis=0)
        else:
            first += tl.sum(value, axis=0)
            second += tl.sum(value * value, axis=0)
    out = sums + (sample * tl.num_programs(0) + part) * 2 * channels + column
    tl.store(out, first, mask=present)
    tl.store(out + channels, second, mask=present)


@triton.jit
def _sums_of_group(sums, parts, channels, width, PARTS: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]  # Triton code
    """Return both sums of each channel of this program's group, and where the channels are."""
    sample = tl.program_id(1).to(tl.int64)
    within = tl.arange(0, WIDTH)
    present = within < width
    channel = tl.program_id(0) * width + within
    part = tl.arange(0, PARTS)
    place = sums + ((sample * parts + part) * 2)[:, None] * channels + channel[None, :]
    mask = (part < parts)[:, None] & present[None, :]
    first = tl.sum(tl.load(place, mask=mask, other=0.0), axis=0)
    second = tl.sum(tl.load(place + channels, mask=mask, other=0.0), axis=0)
    return first, second, channel, present, sample


@triton.jit
def _coefficients(  # type: ignore[no-untyped-def]  # Triton code
    sums,
    weight,
    bias,
    scale,
    shift,
    out,
    parts,
    channels,
    width,
    size,
    eps,
    MODULATED: tl.constexpr,
    PARTS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    first, second, channel, present, sample = _sums_of_group(sums, parts, channels, width, PARTS, WIDTH)
    mean = tl.sum(first, axis=0) / size
    variance = tl.maximum(tl.sum(second, axis=0) / size - mean * mean, 0.0)
    rstd = 1 / tl.sqrt(variance + eps)
    gain = tl.load(weight + channel, mask=present, other=0.0).to(tl.float32)
    offset = tl.load(bias + channel, mask=present, other=0.0).to(tl.float32)
    if MODULATED:
        own = sample * channels + channel
        factor = 1 + tl.load(scale + own, mask=present, other=0.0).to(tl.float32)
        gain = gain * factor
        offset = offset * factor + tl.load(shift + own, mask=present, other=0.0).to(tl.float32)
    place = out + sample * 4 * channels + channel
    tl.store(place, gain * rstd, mask=present)
    tl.store(place + channels, offset - mean * gain * rstd, mask=present)
    tl.store(place + 2 * channels, gain * 0 + mean, mask=present)
    tl.store(place + 3 * channels, gain * 0 + rstd, mask=present)


@triton.jit
def _gradient_coefficients(  # type: ignore[no-untyped-def]  # Triton code
    sums, coefficients, out, parts, channels, width, size, PARTS: tl.constexpr, WIDTH: tl.constexpr
):
    first, second, channel, present, sample = _sums_of_group(sums, parts, channels, width, PARTS, WIDTH)
    own = coefficients + sample * 4 * channels + channel
    slope = tl.load(own, mask=present, other=0.0)
    mean = tl.load(own + 2 * channels, mask=present, other=0.0)
    rstd = tl.load(own + 3 * channels, mask=present, other=0.0)
    of_dz = tl.sum(slope * first, axis=0)
    of_product = tl.sum(slope * second, axis=0)
    factor = -rstd * rstd * (of_product - mean * of_dz) / size
    place = out + sample * 2 * channels + channel
    tl.store(place, factor, mask=present)
    tl.store(place + channels, -of_dz / size - factor * mean, mask=present)


@triton.jit
def _apply(  # type: ignore[no-untyped-def]  # Triton code
    x,
    grad,
    coefficients,
    further,
    out,
    pixels,
    channels,
    GRADIENT: tl.constexpr,
    SILU: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    sample = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, WIDTH)
    present = column < channels
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    mask = (row < pixels)[:, None] & present[None, :]
    place = (sample * pixels + row)[:, None] * channels + column[None, :]
    own = coefficients + sample * 4 * channels + column
    slope = tl.load(own, mask=present, other=0.0)[None, :]
    value = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
    z = slope * value + tl.load(own + channels, mask=present, other=0.0)[None, :]
    if GRADIENT:
        of_z = tl.load(grad + place, mask=mask, other=0.0).to(tl.float32)
        if SILU:
            of_z = _through_silu(of_z, z)
        place_of = further + sample * 2 * channels + column
        factor = tl.load(place_of, mask=present, other=0.0)[None, :]
        summand = tl.load(place_of + channels, mask=present, other=0.0)[None, :]
        result = slope * of_z + factor * value + summand
    elif SILU:
        result = z / (1 + tl.exp(-z))
    else:
        result = z
    tl.store(out + place, result.to(out.dtype.element_ty), mask=mask)
