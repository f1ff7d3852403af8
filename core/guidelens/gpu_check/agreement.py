"""Compare a device with the CPU: a guided step of the networks, and finished pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from guidelens.bench.subjects import EveryObjective, StepInputs, precision
from guidelens.diffusion.process import split_output
from guidelens.engine import Engine, Sample
from guidelens.guarding import predict
from guidelens.networks import frozen
from guidelens.sampling import Sampling

from .context import CheckContext
from .precision import Precision, dtype_of, tf32
from .record import CaseResult

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
TOLERANCE = 1e-4
"""Limit for float32 without TF32, as relative norm of the difference. Other precisions are only reported."""

_DEMO_PROMPTS = ("a red circle", "a blue square above a green triangle")
_LARGEST_PIXEL_DIFFERENCE = 0.02
"""Limit of the mean difference between pictures in [-1, 1]: 2.5 of 255 levels."""


def compare_step(
    context: CheckContext, reference: Callable[[], dict[str, Tensor]], kind: Precision
) -> CaseResult:
    """Compare the network's output, the losses and the gradient with respect to x_t with the CPU in float32.

    :param reference: returns :func:`reference_step`.
    """
    there = reference()
    here = _step(context, context.settings.device, kind)
    values = {name: _difference(here[name], there[name]) for name in there}
    if kind == "float32" and max(values.values()) > TOLERANCE:
        return CaseResult("failed", values, f"differs from the CPU by more than {TOLERANCE:g}")
    return CaseResult("ok", values)


def reference_step(context: CheckContext) -> dict[str, Tensor]:
    """Return the tensors of a guided step on the CPU in float32."""
    return _step(context, "cpu", "float32")


def _step(context: CheckContext, device: str, kind: Precision) -> dict[str, Tensor]:
    engine = Engine(context.generator, context.guidance, Sampling(dtype=dtype_of(kind)), device=device)
    model = engine.guidance_model or context.guidance  # the instance that the engine moved to the device
    objectives = tuple(sorted(model.objectives))
    with frozen(engine.generator, model), tf32(kind == "tf32"):
        s = StepInputs.of(engine, model, context.settings.prompt, 1, objectives)
        of_x_t, of_output = engine.settings.process.x0_coefficients(
            s.index, engine.generator.prediction, s.x_t
        )
        with torch.enable_grad():
            point = s.x_t.detach().requires_grad_()
            with precision(engine):
                output = predict(engine.generator, point, s.timesteps)
            predicted, _ = split_output(output.to(point.dtype), point, engine.generator.learned_variance)
            losses = s.losses(point if s.reads_x_t else of_x_t * point + of_output * predicted)
            total = torch.stack([loss.sum() for loss in losses.values()]).sum()
            (gradient,) = torch.autograd.grad(total, point)
    named = {f"loss {name}": loss for name, loss in losses.items()}
    found = {"output": output, "gradient": gradient, **named}
    return {name: tensor.detach().cpu().double() for name, tensor in found.items()}


def compare_pictures(context: CheckContext) -> CaseResult:
    """Compare finished pictures of the default generator and guidance model."""
    pictures = {device: _pictures(context, device) for device in ("cpu", context.settings.device)}
    here, there = pictures[context.settings.device], pictures["cpu"]
    mean = (here - there).abs().mean().item()
    values = {"mean_difference": mean, "largest_difference": (here - there).abs().max().item()}
    if not mean <= _LARGEST_PIXEL_DIFFERENCE:
        return CaseResult("failed", values, f"pictures differ by {mean:.3g} on average")
    return CaseResult("ok", values)


def _pictures(context: CheckContext, device: str) -> Tensor:
    generator, model = context.demo
    samples = [Sample(prompt, EveryObjective(model.objectives), 0) for prompt in _DEMO_PROMPTS]
    with tf32(False):
        engine = Engine(generator, model, Sampling(steps=context.settings.steps), device=device)
        return torch.stack([result.image.cpu() for result in engine.run(samples)])


def _difference(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).norm() / expected.norm().clamp(min=1e-30)).item()
