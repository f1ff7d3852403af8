"""Helpers for checks of generators and guidance models: precision, finite differences, comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from guidelens.guarding import ComponentError
from guidelens.networks import frozen, place

from .checklist import Failed, NotChecked, Numbers, at_most, one_line

C = TypeVar("C")

_ROUNDING = 1e-4
_ROUNDING_ACCELERATED = 5e-3  # TensorFloat-32, which cuDNN's convolutions use, has 10 bits
FINITE_DIFFERENCE = 1e-6
"""Step of the central differences, relative to pixels in [-1, 1]."""
GRADIENT_ERROR = 1e-4
"""Largest error of a directional derivative, relative to the gradient's norm."""
_TINY = 1e-12


def pictures(count: int, shape: Sequence[int], *, seed: int = 0) -> Tensor:
    """Return random pictures (count, C, H, W) float32 in [-1, 1]: coarse blobs under fine noise.

    :param shape: (C, H, W).
    """
    random = torch.Generator().manual_seed(seed)
    channels, height, width = shape
    coarse = torch.rand(count, channels, 4, 4, generator=random) * 2 - 1
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    fine = torch.rand(count, channels, height, width, generator=random) * 2 - 1
    return (0.7 * smooth + 0.3 * fine).clamp(-1, 1)


@contextmanager
def borrowed(component: C, device: torch.device, dtype: torch.dtype = torch.float32) -> Iterator[C]:
    """Place a network like an engine: on ``device`` in ``dtype``, in eval mode and frozen. Afterwards it stays on
    ``device`` and has its old precision again.
    """
    own: list[tuple[Tensor, torch.dtype]] = []
    if isinstance(component, nn.Module):
        own = [(t, t.dtype) for t in (*component.parameters(), *component.buffers())]
    placed: C = place(component, device, dtype)
    try:
        with torch.inference_mode(False), torch.enable_grad(), frozen(placed):
            yield placed
    finally:
        for tensor, original in own:
            tensor.data = tensor.data.to(original)
        if not own and dtype != torch.float32:
            place(placed, device, torch.float32)


@contextmanager
def in_float64(component: C, device: torch.device) -> Iterator[C]:
    """Place a network like :func:`borrowed`, in float64.

    :raises NotChecked: if it cannot be moved there, or fails there.
    """
    try:
        with borrowed(component, device, torch.float64) as placed:
            yield placed
    except (RuntimeError, TypeError, ComponentError) as error:
        cause = error.__cause__ if isinstance(error, ComponentError) else error
        if not isinstance(cause, RuntimeError | TypeError):
            raise
        raise NotChecked(f"it does not run in float64 ({one_line(cause, 120)})") from error


def rounding(device: torch.device) -> float:
    """Return the largest allowed difference of float32 results between two batches, relative to their largest
    value."""
    return _ROUNDING if device.type == "cpu" else _ROUNDING_ACCELERATED


def largest_difference(first: Tensor, second: Tensor) -> float:
    """Return the largest difference of two tensors, relative to the largest value (at least 1e-3). In a matrix each
    column has its own largest value, because objectives differ in magnitude.
    """
    a, b = first.detach().double(), second.detach().double()
    over = 0 if a.ndim == 2 else tuple(range(a.ndim))
    scale = torch.maximum(a.abs().amax(over), b.abs().amax(over)).clamp(min=1e-3)
    return ((a - b).abs() / scale).max().item()


def check_fingerprint(component: Any, before: Any, use: Callable[[], object]) -> Numbers:
    """Check that a fingerprint is a text that does not change with use.

    :param before: its value before the other checks.
    :param use: runs the component.
    """
    if not isinstance(before, str) or not before.strip():
        raise Failed(f"it is {before!r}; give a text that identifies architecture and weights")
    use()
    if component.fingerprint != before:
        raise Failed(f"it was {before!r}, and later {component.fingerprint!r}")
    return {"characters": len(before)}


def check_parameters(component: Any, use: Callable[[], object]) -> Numbers:
    """Check that nothing accumulates gradients, and that modules that the engine does not find are frozen."""
    modules = held_modules(component)
    parameters = [parameter for module in modules for parameter in module.parameters()]
    if not isinstance(component, nn.Module):
        trainable = [parameter for parameter in parameters if parameter.requires_grad]
        if trainable:
            raise Failed(
                f"{len(trainable)} of {len(parameters)} parameters require gradients, which costs memory; the "
                "engine freezes only components that are torch.nn.Modules: call requires_grad_(False)",
                trainable=len(trainable),
            )
        training = [type(module).__name__ for module in modules if module.training]
        if training:
            raise Failed(f"{', '.join(training)} is in training mode; call eval()")
    use()
    touched = [parameter for parameter in parameters if parameter.grad is not None]
    if touched:
        raise Failed(f"{len(touched)} parameters were given a gradient", parameters=len(touched))
    return {"parameters": sum(parameter.numel() for parameter in parameters)}


def held_modules(component: Any) -> list[nn.Module]:
    """Return the modules of a component: itself, or its attributes that are modules."""
    if isinstance(component, nn.Module):
        return [component]
    held = list(getattr(component, "__dict__", {}).values())
    for value in list(held):
        if isinstance(value, Mapping):
            held += value.values()
        elif isinstance(value, list | tuple):
            held += value
    return [value for value in held if isinstance(value, nn.Module)]


def check_directional(
    function: Callable[[Tensor], Tensor], point: Tensor, *, what: str, directions: int = 2
) -> float:
    """Compare the gradient of a function with central differences in float64; return the relative error.

    The directions are the gradient itself and random ones, different for each sample.

    :param function: maps (B, C, H, W) to (B,).
    :param point: float64.
    :raises NotChecked: if the function does not stay in float64.
    """
    leaf = point.detach().requires_grad_()
    values = function(leaf)
    if values.dtype != torch.float64:
        raise NotChecked(f"in float64 {what} is still {values.dtype}".replace("torch.", ""))
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn(directions, *point.shape, generator=random, dtype=torch.float64)
    norm = _norm(gradient)
    step = FINITE_DIFFERENCE * point[0].numel() ** 0.5  # a pixel moves by about FINITE_DIFFERENCE
    worst = 0.0
    for direction in (gradient, *drawn.to(point.device)):
        unit = direction / _norm(direction).clamp(min=_TINY)
        with torch.no_grad():
            measured = (function(point + step * unit) - function(point - step * unit)) / (2 * step)
        stated = (gradient * unit).flatten(1).sum(dim=1)
        errors = (measured - stated).abs() / norm.flatten().clamp(min=_TINY)
        row = int(errors.argmax())
        worst = max(worst, errors[row].item())
        if not errors[row] <= GRADIENT_ERROR:
            raise Failed(
                f"along one direction the gradient of {what} says {stated[row].item():.5g}, central differences "
                f"{measured[row].item():.5g}: {errors[row].item():.3g} of its norm, and at most "
                f"{GRADIENT_ERROR:g} is allowed",
                relative_error=errors[row].item(),
            )
    return worst


def _norm(values: Tensor) -> Tensor:
    """The norm of each sample, (B, 1, 1, 1)."""
    return values.flatten(1).norm(dim=1).reshape(-1, *(1,) * (values.ndim - 1))


def check_rows(together: Tensor, alone: Sequence[Tensor], shuffled: Tensor, order: Sequence[int]) -> Numbers:
    """Compare the rows of one batch with each row alone, and with the batch in another order."""
    limit = rounding(together.device)
    by_itself = largest_difference(together, torch.cat(list(alone)))
    at_most("a sample alone and in a batch: the relative difference", by_itself, limit, alone=by_itself)
    in_order = largest_difference(together[list(order)], shuffled)
    at_most("a batch in another order: the relative difference", in_order, limit, reordered=in_order)
    return {"alone": by_itself, "reordered": in_order}


def check_cross_gradient(values: Tensor, inputs: Tensor) -> float:
    """Return the largest gradient of a sample's value with respect to another sample's input, relative to its own.

    :param values: (B, ...) computed from ``inputs`` (B, C, H, W).
    """
    worst = 0.0
    for row in range(len(values)):
        (gradient,) = torch.autograd.grad(values[row].sum(), inputs, retain_graph=True)
        norms = gradient.flatten(1).norm(dim=1)
        own, others = norms[row].item(), torch.cat([norms[:row], norms[row + 1 :]])
        if own > 0:
            worst = max(worst, others.max().item() / own)
    return at_most(
        "a sample's gradient in its neighbour, relative to its own,", worst, 1e-6, neighbours=worst
    )


def check_finite(what: str, values: Tensor) -> None:
    """:raises Failed: if any value is not finite."""
    finite = values.detach().isfinite()
    if not bool(finite.all()):
        raise Failed(f"{what}: {int((~finite).sum())} of {finite.numel()} values are not finite")
