"""Guidance: the gradient of a guidance model's objectives with respect to x_t, from one network evaluation.

For a sample with weights w_k(p) of its schedule and constant scales c_k, the gradient is

    g = -d( sum_k w_k(p) c_k L_k(x0(x_t)) ) / dx_t

which a sampler adds, times s * Sigma, to the mean (Kong & Kwak 2023, eq. 1; Dhariwal & Nichol 2021,
algorithm 1). It is computed in two stages. First dL_k/dx0 for each objective alone, which gives norms and
pairwise cosines for nothing. Then one vector-Jacobian product of their weighted sum through the network.
Since x0 = a * x_t + b * output with known a and b, only the output's part goes through autograd.

Losses are summed over the batch and no network mixes samples, so a sample's gradient is that of its own loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, get_args

import torch
from torch import Tensor

from .contracts import GuidanceModel, Prediction, Schedule, TextBatch
from .diffusion.process import DiffusionProcess, lookup, split_output
from .errors import GuidelensError, UsageError

Through = Literal["unet", "x0"]
See = Literal["x0", "blend"]

HALF_PRECISION_LOSS_SCALES = (2.0**10, 2.0**5, 1.0, 2.0**-5)
"""Tried in turn where gradients pass through float16, until those of a sample are finite."""


@dataclass(frozen=True)
class GuidanceOptions:
    """How the gradient enters sampling.

    :param scale: s, for every sample that states none itself; 0 is unguided.
    :param objective_scales: c_k by objective; the guidance model's ``default_scales`` elsewhere, else 1.
    :param through: ``unet`` differentiates the network. ``x0`` does not, and takes dx0/dx_t = sqrt(abar)
        instead, which is exact for standard normal data: cheaper, and what v-prediction gives with its
        network held constant.
    :param see: what the guidance model is shown: the predicted ``x0``; or ``blend``, sqrt(1 - abar) * x0 +
        (1 - sqrt(1 - abar)) * x_t, which turns from x0 to x_t itself as the noise goes.
    :param clip_denoised: clamp the predicted x0 to [-1, 1] where the reverse step uses it; what the guidance
        model sees is never clamped, a clamp having no gradient outside.
    """

    scale: float = 1.0
    objective_scales: Mapping[str, float] = field(default_factory=dict)
    through: Through = "unet"
    see: See = "x0"
    clip_denoised: bool = True

    def __post_init__(self) -> None:
        check_finite("the guidance scale", self.scale)
        for name, value in self.objective_scales.items():
            check_finite(f"the scale of objective {name!r}", value)
        if self.through not in get_args(Through):
            raise UsageError(
                f"cannot guide through {self.through!r}; choose {' or '.join(get_args(Through))}"
            )
        if self.see not in get_args(See):
            raise UsageError(f"a guidance model cannot see {self.see!r}; choose {' or '.join(get_args(See))}")


def check_finite(what: str, value: float) -> float:
    """Return ``value`` as a float.

    :raises UsageError: if it is no finite number.
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{what} must be a finite number, got {value!r}")
    return float(value)


def resolve_scales(model: GuidanceModel | None, given: Mapping[str, float]) -> dict[str, float]:
    """Return c_k for every objective of ``model``: the given one, else the model's default, else 1.

    :raises UsageError: if ``given`` names an objective that the model does not have.
    """
    known = model.objectives if model is not None else frozenset()
    for name in given:
        check_objective(name, known, "the objective scales")
    defaults = getattr(model, "default_scales", {})
    return {
        name: check_finite(f"the scale of {name!r}", given.get(name, defaults.get(name, 1.0)))
        for name in known
    }


def check_objective(name: str, known: frozenset[str], where: str) -> None:
    """:raises UsageError: naming the choices, if ``name`` is no objective of the guidance model."""
    if name not in known:
        choices = f"it has {', '.join(sorted(known))}" if known else "there is none"
        raise UsageError(f"{where} names the objective {name!r}, unknown to the guidance model; {choices}")


@dataclass(frozen=True, eq=False)
class GuidancePlan:
    """The weights of every sample at every step, known before sampling starts.

    :param objectives: the K names that any sample ever uses, sorted.
    :param weights: w_k(p), (N, B, K) float64 on the CPU; 0 throughout for a sample that is unguided.
    :param scales: s, (B,) float64.
    """

    objectives: tuple[str, ...]
    weights: Tensor
    scales: Tensor

    def select(self, rows: Sequence[int]) -> GuidancePlan:
        """Return the plan of the samples at ``rows``, with the objectives that these use."""
        weights = self.weights[:, list(rows)]
        used = [k for k in range(len(self.objectives)) if bool((weights[:, :, k] != 0).any())]
        names = tuple(self.objectives[k] for k in used)
        return GuidancePlan(names, weights[:, :, used], self.scales[list(rows)])

    def groups(self, step: int) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
        """Return (objectives, rows) for each distinct set of objectives that are active at ``step``."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for row, active in enumerate((self.weights[step] != 0).tolist()):
            names = tuple(name for name, on in zip(self.objectives, active, strict=True) if on)
            if names:
                groups.setdefault(names, []).append(row)
        return [(names, tuple(rows)) for names, rows in groups.items()]

    def used_by(self, row: int) -> tuple[str, ...]:
        """Return the objectives that the sample at ``row`` uses at some step."""
        used = (self.weights[:, row] != 0).any(dim=0).tolist()
        return tuple(name for name, on in zip(self.objectives, used, strict=True) if on)


def plan_guidance(
    schedules: Sequence[Schedule | None],
    scales: Sequence[float],
    progress: Sequence[float],
    known: frozenset[str],
) -> GuidancePlan:
    """Ask every schedule for its weights at every step's progress.

    :param schedules: one per sample; None is unguided.
    :param scales: s per sample; a sample with 0 is unguided.
    :raises UsageError: for an objective that is not ``known``, or a weight that is not finite.
    """
    tables: dict[int, list[dict[str, float]]] = {}
    for schedule in schedules:
        if schedule is not None and id(schedule) not in tables:
            tables[id(schedule)] = [_checked_weights(schedule, p, known) for p in progress]
    names = tuple(sorted({name for table in tables.values() for weights in table for name in weights}))
    dense = torch.zeros(len(progress), len(schedules), len(names), dtype=torch.float64)
    for row, (schedule, scale) in enumerate(zip(schedules, scales, strict=True)):
        if schedule is not None and scale != 0:
            table = tables[id(schedule)]
            values = [[weights.get(name, 0.0) for name in names] for weights in table]
            dense[:, row] = torch.tensor(values, dtype=torch.float64).reshape(len(progress), len(names))
    plan = GuidancePlan(names, dense, torch.tensor(list(scales), dtype=torch.float64))
    return plan.select(range(len(schedules)))


def _checked_weights(schedule: Schedule, progress: float, known: frozenset[str]) -> dict[str, float]:
    checked = {}
    for name, weight in schedule.weights(progress).items():
        check_objective(name, known, f"the schedule {schedule!r}")
        checked[name] = check_finite(
            f"the weight of {name!r} at progress {progress:g} in {schedule!r}", weight
        )
    return checked


@dataclass(frozen=True, eq=False)
class Guided:
    """One network evaluation and what the objectives make of it. K objectives, in the order of the plan.

    :param output: the network's output (B, C or 2C, H, W), detached.
    :param gradient: s * g (B, C, H, W), zero for samples without guidance; None if no sample has any.
    :param losses: (K, B) L_k, nan where inactive.
    :param gradient_norms: (K, B) the norm of dL_k/d(image that the model sees), before weights and scales.
    :param cosines: of these gradients, by pair of objectives (B,); nan where either is inactive or 0.
    :param nonfinite: (B,) bool, the samples left unguided because their gradient was not finite.
    """

    output: Tensor
    gradient: Tensor | None
    losses: Tensor
    gradient_norms: Tensor
    cosines: dict[tuple[str, str], Tensor]
    nonfinite: Tensor


class Guide:
    """Evaluates the generator once per step, and the guidance of one batch of samples with it.

    :param generator: maps x_t (B, C, H, W) and training timesteps (B,) to the output.
    :param model: the guidance model; None only with a plan that is unguided throughout.
    :param text: the encoded prompts, one per sample.
    :param objective_scales: c_k, see :func:`resolve_scales`.
    :param autocast: returns the context in which networks are evaluated.
    :param loss_scales: for float16 backward passes, see :data:`HALF_PRECISION_LOSS_SCALES`; else (1,).
    """

    def __init__(
        self,
        generator: Callable[[Tensor, Tensor], Tensor],
        model: GuidanceModel | None,
        process: DiffusionProcess,
        plan: GuidancePlan,
        text: TextBatch | None,
        *,
        prediction: Prediction,
        learned_variance: bool,
        options: GuidanceOptions,
        objective_scales: Mapping[str, float],
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        loss_scales: Sequence[float] = (1.0,),
    ) -> None:
        self._generator = generator
        self._model = model
        self._process = process
        self._plan = plan
        self._text = text
        self._prediction: Prediction = prediction
        self._learned_variance = learned_variance
        self._options = options
        self._autocast = autocast
        self._loss_scales = tuple(loss_scales)
        constants = torch.tensor([objective_scales[name] for name in plan.objectives], dtype=torch.float64)
        self._coefficients = plan.weights * constants
        self._scales = plan.scales
        # Which rows are active rarely changes from step to step, and selecting text copies it.
        self._selections: dict[tuple[int, ...], _Selection] = {}

    def __call__(self, x_t: Tensor, index: Tensor, step: int) -> Guided:
        """Evaluate at x_t (B, C, H, W), respaced indices (B,) and the plan's ``step`` (0 the noisiest).

        To be called under ``torch.no_grad()``: gradients are switched on inside, where they are needed.
        """
        groups = self._plan.groups(step)
        timesteps = self._process.timesteps[index.to("cpu")].to(x_t.device, non_blocking=True)
        differentiate = bool(groups) and self._options.through == "unet"
        with torch.set_grad_enabled(differentiate):
            point = x_t.detach().requires_grad_(differentiate)
            with self._autocast():
                output = self._generator(point, timesteps)
            output = output.to(x_t.dtype)
            predicted, _ = split_output(output, x_t, self._learned_variance)
        telemetry = _Telemetry(self._plan.objectives, x_t)
        if not groups:
            return telemetry.guided(output.detach(), None, x_t.new_zeros(len(x_t), dtype=torch.bool))
        of_x_t, of_output = self._image_coefficients(index, x_t)
        images = of_x_t * x_t + of_output * predicted.detach()
        cotangent = self._image_gradient(images, groups, step, telemetry)
        nonfinite = ~_all_finite(cotangent)
        cotangent = _zero_rows(cotangent, nonfinite)
        if differentiate:
            gradient = of_x_t * cotangent + self._vjp(predicted, point, of_output * cotangent)
        else:
            gradient = self._straight_through(index, x_t) * cotangent
        gradient = -gradient * _per_sample(self._scales.to(x_t.dtype).to(x_t.device, non_blocking=True), x_t)
        nonfinite = nonfinite | ~_all_finite(gradient)
        return telemetry.guided(output.detach(), _zero_rows(gradient, nonfinite), nonfinite)

    def _image_coefficients(self, index: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """a, b with (what the model sees) = a * x_t + b * output."""
        of_x_t, of_output = self._process.x0_coefficients(index, self._prediction, like)
        if self._options.see == "x0":
            return of_x_t, of_output
        share = self._blend_share(index, like)
        return share * of_x_t + (1 - share), share * of_output

    def _straight_through(self, index: Tensor, like: Tensor) -> Tensor:
        """d(what the model sees) / dx_t with dx0/dx_t = sqrt(abar)."""
        of_x0 = lookup(self._process.alphas_cumprod.sqrt(), index, like)
        if self._options.see == "x0":
            return of_x0
        share = self._blend_share(index, like)
        return share * of_x0 + (1 - share)

    def _blend_share(self, index: Tensor, like: Tensor) -> Tensor:
        return lookup((1 - self._process.alphas_cumprod).sqrt(), index, like)

    def _image_gradient(
        self,
        images: Tensor,
        groups: list[tuple[tuple[str, ...], tuple[int, ...]]],
        step: int,
        telemetry: _Telemetry,
    ) -> Tensor:
        """Return sum_k w_k c_k dL_k/d(images), (B, C, H, W); samples meet only their own objectives."""
        total = torch.zeros_like(images)
        coefficients = self._coefficients[step].to(images.dtype).to(images.device, non_blocking=True)
        for names, rows in groups:
            selection = self._select(rows, images.device)
            losses, gradients = self._objective_gradients(images, names, selection)
            telemetry.record(selection.rows, names, losses, gradients)
            for name in names:
                weight = coefficients[selection.rows, self._plan.objectives.index(name)]
                total.index_add_(0, selection.rows, _per_sample(weight, images) * gradients[name])
        return total

    def _select(self, rows: tuple[int, ...], device: torch.device) -> _Selection:
        if self._text is None:
            raise GuidelensError("guidance needs encoded prompts; this batch has none")
        if rows not in self._selections:
            self._selections[rows] = _Selection(torch.tensor(rows, device=device), self._text.select(rows))
        return self._selections[rows]

    def _objective_gradients(
        self, images: Tensor, names: tuple[str, ...], selection: _Selection
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """L_k and dL_k/d(images) of the selected samples for the objectives ``names``."""
        if self._model is None:
            raise GuidelensError("guidance needs a guidance model; this engine has none")
        gradients = {}
        with torch.enable_grad():
            shown = images[selection.rows].requires_grad_()
            with self._autocast():
                losses = self._model.losses(shown, selection.text, names)
            losses = _checked_losses(losses, names, shown)
            for name in names:
                last = name == names[-1]
                gradients[name] = self._vjp(
                    losses[name], shown, torch.ones_like(losses[name]), keep_graph=not last
                )
        return {name: loss.detach() for name, loss in losses.items()}, gradients

    def _vjp(self, output: Tensor, point: Tensor, cotangent: Tensor, *, keep_graph: bool = False) -> Tensor:
        if self._loss_scales == (1.0,):
            return _grad(output, point, cotangent, keep_graph)
        return scaled_vjp(output, point, cotangent, self._loss_scales, keep_graph=keep_graph)


@dataclass(frozen=True, eq=False)
class _Selection:
    """Some rows of a batch (on its device), and their text."""

    rows: Tensor
    text: TextBatch


class _Telemetry:
    """Collects losses, norms and cosines of the groups of a batch, nan where nothing was evaluated."""

    def __init__(self, objectives: tuple[str, ...], like: Tensor) -> None:
        self._position = {name: k for k, name in enumerate(objectives)}
        shape = (len(objectives), len(like))
        self._losses = like.new_full(shape, math.nan)
        self._norms = like.new_full(shape, math.nan)
        self._cosines = {pair: like.new_full(shape[1:], math.nan) for pair in combinations(objectives, 2)}

    def record(
        self, rows: Tensor, names: Sequence[str], losses: dict[str, Tensor], gradients: dict[str, Tensor]
    ) -> None:
        flat = {name: gradients[name].flatten(1) for name in names}
        norms = {name: torch.linalg.vector_norm(flat[name], dim=1) for name in names}
        for name in names:
            self._losses[self._position[name], rows] = losses[name]
            self._norms[self._position[name], rows] = norms[name]
        for first, second in combinations(names, 2):
            # Normalised before the product, which might overflow or vanish otherwise; 0 / 0 is nan.
            units = (flat[first] / norms[first][:, None], flat[second] / norms[second][:, None])
            self._cosines[first, second][rows] = (units[0] * units[1]).sum(dim=1)

    def guided(self, output: Tensor, gradient: Tensor | None, nonfinite: Tensor) -> Guided:
        return Guided(output, gradient, self._losses, self._norms, self._cosines, nonfinite)


def scaled_vjp(
    output: Tensor,
    point: Tensor,
    cotangent: Tensor,
    loss_scales: Sequence[float],
    *,
    keep_graph: bool = False,
) -> Tensor:
    """Return the vector-Jacobian product d<cotangent, output>/d(point) through a float16 graph.

    Float16 flushes what is below 6e-8 to zero and overflows at 65504. So each sample's cotangent is brought
    to a largest entry in [0.5, 1), times the first of ``loss_scales`` (powers of two, so both are exact)
    under which that sample's gradient is finite; the gradient is scaled back in its own dtype. A sample that
    is finite under none keeps its non-finite gradient.

    :param output: (B, ...), a function of ``point`` (B, ...) that does not mix samples.
    :param cotangent: of the output's shape.
    """
    peak = cotangent.abs().flatten(1).amax(dim=1) if cotangent.ndim > 1 else cotangent.abs()
    exponent = torch.frexp(torch.where(peak.isfinite(), peak, 0)).exponent
    unit = torch.ldexp(cotangent, -_per_sample(exponent, cotangent))
    result: Tensor | None = None
    for attempt, scale in enumerate(loss_scales):
        keep = keep_graph or attempt + 1 < len(loss_scales)
        gradient = _grad(output, point, unit * scale, keep) / scale
        result = (
            gradient
            if result is None
            else torch.where(_per_sample(_all_finite(result), result), result, gradient)
        )
        if bool(_all_finite(result).all()):
            break
    if result is None:
        raise UsageError("scaled_vjp needs at least one loss scale")
    return torch.ldexp(result, _per_sample(exponent, result))


def _grad(output: Tensor, point: Tensor, cotangent: Tensor, keep_graph: bool) -> Tensor:
    (gradient,) = torch.autograd.grad(output, point, cotangent, retain_graph=keep_graph, allow_unused=True)
    if gradient is None:
        raise GuidelensError(
            "a network's output does not depend on its input: there is no gradient to guide with"
        )
    return gradient


def _checked_losses(losses: Mapping[str, Tensor], names: Sequence[str], images: Tensor) -> dict[str, Tensor]:
    if set(losses) != set(names):
        raise GuidelensError(
            f"the guidance model returned the losses {sorted(losses)}; it was asked for {sorted(names)}"
        )
    for name, loss in losses.items():
        if tuple(loss.shape) != (len(images),):
            raise GuidelensError(
                f"the objective {name!r} returned {tuple(loss.shape)}; a loss per sample is {(len(images),)}"
            )
        if not loss.requires_grad:
            raise GuidelensError(
                f"the objective {name!r} is not differentiable in the images: no gradient to guide with"
            )
    return {name: losses[name].to(images.dtype) for name in names}


def _all_finite(values: Tensor) -> Tensor:
    return values.flatten(1).isfinite().all(dim=1)


def _zero_rows(values: Tensor, rows: Tensor) -> Tensor:
    # Not a product: nan * 0 is nan.
    return torch.where(_per_sample(rows, values), 0, values)


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (like.ndim - 1))
