"""Find scales that give all objectives gradients of equal size, measured along unguided trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..contracts import Prompt
from ..engine import Engine
from ..errors import GuidelensError, UsageError
from ..samples import Sample
from ..stats import Estimate, estimate

NO_GUIDANCE = 1e-30
"""A scale at which objectives are evaluated, but pictures equal unguided ones in every bit of float32."""


class _Every:
    """A schedule with all objectives at weight 1."""

    def __init__(self, objectives: Sequence[str]) -> None:
        self._weights = dict.fromkeys(objectives, 1.0)

    def weights(self, progress: float) -> Mapping[str, float]:
        return self._weights


@dataclass(frozen=True)
class Calibration:
    """Gradients of every objective on unguided trajectories. K objectives, N steps, P pictures.

    :param timesteps: (N), the noisiest first.
    :param norms: |dL_k/dx0| by objective, of each picture at each step, before weights and scales, (N, P).
    :param gains: how far a unit of s * g moves x_{t-1}, times sqrt(abar), (N).
    :param prompts: the prompt of each picture, (P).
    :param scales: the scales c_k that were in use during the measurement.
    """

    timesteps: list[int]
    norms: dict[str, torch.Tensor]
    gains: list[float]
    prompts: list[str]
    scales: dict[str, float]

    def mean_norm(self, objective: str) -> Estimate:
        """The mean norm over steps and pictures, with an interval over prompts."""
        return estimate(self.norms[objective].mean(dim=0).tolist(), self.prompts)

    def step_in_x0(self, objective: str) -> Estimate:
        """The mean norm weighted by how far guidance moves x_{t-1} at each step, with an interval over prompts."""
        weights = torch.tensor(self.gains, dtype=torch.float64)
        mean = (weights[:, None] * self.norms[objective]).sum(dim=0) / weights.sum()
        return estimate(mean.tolist(), self.prompts)

    def at_step(self, objective: str) -> list[Estimate]:
        """The mean norm at every step, with an interval over prompts."""
        return [estimate(row, self.prompts, resamples=499) for row in self.norms[objective].tolist()]

    def proposed(self, reference: str, *, by_step: bool = False) -> dict[str, float]:
        """Return scales c_k that make c_k times the mean norm (or the step in x0) equal for all objectives.

        :param reference: the objective that keeps its scale.
        :raises UsageError: for an unknown objective.
        """
        if reference not in self.norms:
            raise UsageError(f"unknown objective {reference!r}; choose {', '.join(self.norms)}")
        measure = self.step_in_x0 if by_step else self.mean_norm
        means = {name: measure(name).mean for name in self.norms}
        flat = [name for name, mean in means.items() if not mean > 0]
        if flat:
            raise GuidelensError(f"the objective {flat[0]!r} has no gradient, so no scale can match it")
        return {name: self.scales[reference] * means[reference] / mean for name, mean in means.items()}


def calibrate(engine: Engine, prompts: Sequence[Prompt], seeds: Sequence[int] = (0,)) -> Calibration:
    """Measure |dL_k/dx0| of every objective at every step of unguided trajectories of all prompts and seeds.

    :raises UsageError: if the engine has no guidance model, or does not guide at every step.
    """
    if engine.guidance_model is None:
        raise UsageError("there is nothing to calibrate without a guidance model")
    objectives = sorted(engine.guidance_model.objectives)
    settings = engine.settings
    if not all(settings.guided):
        raise UsageError("calibration measures every step; leave out --start, --stop and --every")
    schedule = _Every(objectives)
    samples = [Sample(prompt.text, schedule, seed, scale=NO_GUIDANCE) for prompt in prompts for seed in seeds]
    size = engine.batch_size if engine.batch_size != "auto" else len(samples)
    parts: list[list[torch.Tensor]] = []
    for start in range(0, len(samples), size):
        steps = engine.stream(samples[start : start + size])
        parts.append(
            [torch.stack([step.gradient_norms[n] for n in objectives]).double().cpu() for step in steps]
        )
    norms = torch.cat([torch.stack(part) for part in parts], dim=2)  # (N, K, P)
    if not bool(norms.isfinite().all()):
        raise GuidelensError("a gradient is not finite: calibrate with --dtype float32")
    return Calibration(
        timesteps=list(settings.timesteps),
        norms={name: norms[:, k] for k, name in enumerate(objectives)},
        gains=_gains(engine),
        prompts=[sample.prompt for sample in samples],
        scales={name: settings.sampling.objective_scales[name] for name in objectives},
    )


def _gains(engine: Engine) -> list[float]:
    from ..guidance.dose import guidance_gain

    settings = engine.settings
    gain = guidance_gain(
        settings.sampler,
        settings.process,
        settings.sampling.into,
        learned_variance=settings.learned_variance,
        needed_by="a step in x0",
    )
    values: list[float] = (gain.abs() * settings.process.sqrt_alphas_cumprod).flip(0).tolist()
    return values


def toml_fragment(calibration: Calibration, reference: str, generator: str, guidance: str) -> str:
    """Return the proposed scales as lines of a study file, for ``objective_scales`` of a grid."""
    count = len(calibration.prompts)
    lines = [
        f"# Measured by guidelens calibrate: {count} unguided pictures, {len(calibration.timesteps)} steps,",
        f"# generator {generator}, guidance model {guidance}. {reference} keeps its scale.",
    ]
    for name in calibration.norms:
        mean, step = calibration.mean_norm(name), calibration.step_in_x0(name)
        lines.append(
            f"# {name}: mean norm {mean.mean:.4g} ({mean.low:.4g} to {mean.high:.4g}),"
            f" weighted by gain {step.mean:.4g} ({step.low:.4g} to {step.high:.4g})"
        )
    for title, by_step in (("equal mean norm", False), ("equal step in x0, in its place", True)):
        scales = calibration.proposed(reference, by_step=by_step)
        pairs = ", ".join(f'"{name}" = {value:.4g}' for name, value in scales.items())
        lines += [f"# {title}", f"{'# ' if by_step else ''}objective_scales = [{{ {pairs} }}]"]
    return "\n".join(lines) + "\n"
