"""The gradient of a guidance model's objectives with respect to x_t, from one network evaluation.

For a sample with weights w_k(p) of its schedule and constant scales c_k, the gradient is

    g = -d( sum_k w_k(p) c_k L_k(x0(x_t)) ) / dx_t

A sampler multiplies it by s * Sigma and adds it to the mean (Kong & Kwak 2023, eq. 1; Dhariwal & Nichol 2021,
algorithm 1). The gradient is computed in two stages:

1. dL_k/dx0 for each objective alone. Norms, pairwise cosines and saliency maps follow from it at no extra cost.
2. One vector-Jacobian product of the weighted sum of these gradients through the network. Since
   x0 = a * x_t + b * output with known a and b, only the output needs autograd.

If the generator diffuses latents, x0 is decoded once. The gradients of the objectives and all telemetry then refer to
the decoded picture. One vector-Jacobian product through the decoder gives dL/dx0.

Losses are summed over the batch. No network mixes samples, so a sample's gradient is the gradient of its own loss.
The code in this module does not wait for the device, except when it chooses a loss scale for float16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from ..contracts import GuidanceModel, Prediction, TextBatch
from ..device_copies import to_device
from ..diffusion.noise import KeyedNoise
from ..diffusion.process import lookup, split_output
from ..errors import GuidelensError
from ..guarding import conditions_of, decode, losses_of, predict
from .gradients import all_finite, per_sample, step_length, vjp, zero_rows
from .plan import GuidancePlan, RowGroup
from .settings import Settings
from .views import Views, combined_loss


@dataclass(frozen=True, eq=False)
class Guided:
    """The results of one network evaluation and its guidance. K objectives, in the order of the plan.

    :param output: the network's output (B, C or 2C, H, W), detached.
    :param gradient: s * g (B, C, H, W), zero for samples without guidance; None if no sample is guided.
    :param losses: L_k, (K, B), nan where inactive; the mean over views if there are several.
    :param gradients: dL_k/d(image that the model sees) by objective, (B, C, H, W), before weights and scales; nan
        where inactive.
    :param gradient_norms: the norms of these gradients, (K, B).
    :param cosines: the cosines between these gradients, (B,) by pair of objectives; nan where either objective is
        inactive or its gradient is 0.
    :param nonfinite: (B,) bool, the samples left unguided because their gradient was not finite.
    :param preview: x0 decoded into pictures (B, 3, h, w), for latents; None if it was not decoded.
    """

    output: Tensor
    gradient: Tensor | None
    losses: Tensor
    gradients: dict[str, Tensor]
    gradient_norms: Tensor
    cosines: dict[tuple[str, str], Tensor]
    nonfinite: Tensor
    preview: Tensor | None = None

    @staticmethod
    def join(parts: Sequence[Guided]) -> Guided:
        """Join the parts of a batch, in order."""
        if len(parts) == 1:
            return parts[0]
        gradients: list[Tensor | None] = [part.gradient for part in parts]
        gradient = None
        if any(part is not None for part in gradients):
            like = next(part for part in gradients if part is not None)
            gradient = torch.cat(
                [
                    like.new_zeros(len(part.output), *like.shape[1:])
                    if part.gradient is None
                    else part.gradient
                    for part in parts
                ]
            )
        previews = [part.preview for part in parts if part.preview is not None]
        return Guided(
            preview=torch.cat(previews) if len(previews) == len(parts) else None,
            output=torch.cat([part.output for part in parts]),
            gradient=gradient,
            losses=torch.cat([part.losses for part in parts], dim=1),
            gradients={
                name: torch.cat([part.gradients[name] for part in parts]) for name in parts[0].gradients
            },
            gradient_norms=torch.cat([part.gradient_norms for part in parts], dim=1),
            cosines={pair: torch.cat([part.cosines[pair] for part in parts]) for pair in parts[0].cosines},
            nonfinite=torch.cat([part.nonfinite for part in parts]),
        )


class GuidedDenoiser:
    """Evaluates the generator once per step, and computes the guidance of one batch of samples.

    :param generator: maps x_t (B, C, H, W) and training timesteps (B,) to the output.
    :param model: the guidance model; None is allowed only if the plan guides no sample.
    :param settings: the process, the options, and the quantity that the generator predicts.
    :param text: the encoded prompts, one per sample.
    :param seeds: one seed per sample, for the random views and for the generator's own conditions; None: all 0.
    :param autocast: returns the context in which networks are evaluated.
    :param loss_scales: the loss scales of float16 backward passes, see
        :data:`~guidelens.guidance.HALF_PRECISION_LOSS_SCALES`; (1,) for other dtypes.
    """

    def __init__(
        self,
        generator: Callable[[Tensor, Tensor], Tensor],
        model: GuidanceModel | None,
        settings: Settings,
        plan: GuidancePlan,
        text: TextBatch | None,
        *,
        seeds: Sequence[int] | None = None,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        loss_scales: Sequence[float] = (1.0,),
    ) -> None:
        self._generator = generator
        self._model = model
        self._reads_x_t = getattr(model, "reads", "x0") == "x_t"
        self._process = settings.process
        self._latent = settings.latent
        self._picture_shape = settings.picture_shape
        self._plan = plan
        self._text = text
        self._prediction: Prediction = settings.prediction
        self._learned_variance = settings.learned_variance
        self._options = settings.sampling
        seeds = seeds if seeds is not None else [0] * len(plan.scales)
        self._views = Views(settings.sampling, KeyedNoise(seeds))
        self._conditions = conditions_of(generator, seeds)
        self._autocast = autocast
        self._loss_scales = tuple(loss_scales)
        scales = settings.sampling.objective_scales
        constants = torch.tensor([scales[name] for name in plan.objectives], dtype=torch.float64)
        self._coefficients = plan.weights * constants
        self._scales = plan.scales
        # Selecting text copies it, and the active rows rarely change between steps, so selections are cached.
        self._selections: dict[tuple[tuple[int, ...], tuple[int, ...]], _Selection] = {}

    def __call__(
        self, x_t: Tensor, index: Tensor, step: int, *, lap: int = 0, rows: range | None = None
    ) -> Guided:
        """Evaluate at x_t (B, C, H, W), respaced indices (B,) and the plan's ``step`` (0 is the noisiest).

        Call this under ``torch.no_grad()``. It enables gradients itself where they are needed.

        :param lap: the number of earlier repetitions of this step.
        :param rows: the samples of the plan that x_t contains; None: all.
        """
        rows = range(len(x_t)) if rows is None else rows
        context = _StepContext(x_t, index, step, lap, rows, self._plan.groups(step, rows))
        timesteps = to_device(self._process.timesteps[index.to("cpu")], x_t.device)
        differentiate = bool(context.groups) and self._options.through == "unet" and not self._reads_x_t
        with torch.set_grad_enabled(differentiate):
            point = x_t.detach().requires_grad_(differentiate)
            with self._autocast():
                output = predict(
                    self._generator, point, timesteps, conditions=self._conditions_at(rows, point)
                )
            output = output.to(x_t.dtype)
            predicted, _ = split_output(output, x_t, self._learned_variance)
        telemetry = _Telemetry(self._plan.objectives, x_t, self._picture_shape)
        if not context.groups:
            return telemetry.guided(output.detach(), None, x_t.new_zeros(len(x_t), dtype=torch.bool))
        if self._reads_x_t:
            slope = self._image_gradient(x_t, context, telemetry, timesteps)
            nonfinite = ~all_finite(slope)
        else:
            slope, nonfinite = self._through_x0(predicted, point, context, telemetry)
        gradient = self._step(-slope, predicted.detach(), context, telemetry)
        nonfinite = nonfinite | ~all_finite(gradient)
        return telemetry.guided(output.detach(), zero_rows(gradient, nonfinite), nonfinite)

    def _through_x0(
        self, predicted: Tensor, point: Tensor, context: _StepContext, telemetry: _Telemetry
    ) -> tuple[Tensor, Tensor]:
        """Return d(weighted loss)/dx_t, and which samples are not finite. If guidance moves x0 itself, it is d/dx0."""
        x_t, options = context.x_t, self._options
        of_x_t, of_output = self._process.x0_coefficients(context.index, self._prediction, x_t)
        x0 = of_x_t * x_t + of_output * predicted.detach()
        share = (
            self._lookup(self._process.sqrt_one_minus_alphas_cumprod, context)
            if options.see == "blend"
            else None
        )
        clamped = options.see == "clamped" and options.clip_denoised
        seen = x0.clamp(-1, 1) if clamped else x0 if share is None else share * x0 + (1 - share) * x_t
        if self._latent:
            of_seen, nonfinite = self._through_decoder(seen, context, telemetry)
        else:
            of_seen = self._image_gradient(seen, context, telemetry)
            nonfinite = ~all_finite(of_seen)
        # A non-finite cotangent could spread to other samples inside the network, so it is replaced by zeros.
        of_seen = zero_rows(of_seen, nonfinite)
        of_x0 = of_seen if share is None else share * of_seen
        if clamped and options.through == "unet":
            of_x0 = torch.where(x0.abs() <= 1, of_x0, 0)
        if options.range_scale:
            of_x0 = of_x0 + options.range_scale * self._range_gradient(x0, context)
        if options.through == "x0" and options.into != "score":
            return of_x0, nonfinite
        if options.through == "x0":
            slope = self._lookup(self._process.sqrt_alphas_cumprod, context) * of_x0
        else:
            slope = of_x_t * of_x0 + vjp(predicted, point, of_output * of_x0, self._loss_scales)
        return (slope if share is None else slope + (1 - share) * of_seen), nonfinite

    def _conditions_at(self, rows: range, like: Tensor) -> Tensor | None:
        if self._conditions is None:
            return None
        return to_device(self._conditions[rows.start : rows.stop], like.device)

    def _through_decoder(
        self, latents: Tensor, context: _StepContext, telemetry: _Telemetry
    ) -> tuple[Tensor, Tensor]:
        """Return d(weighted loss)/d(latents), through the decoder, and which samples are not finite."""
        with torch.enable_grad():
            point = latents.detach().requires_grad_()
            with self._autocast():
                picture = decode(self._generator, point)
            picture = picture.to(latents.dtype)
        if self._options.see == "x0":
            telemetry.preview = picture.detach()
        of_picture = self._image_gradient(picture.detach(), context, telemetry)
        nonfinite = ~all_finite(of_picture)
        gradient = vjp(picture, point, zero_rows(of_picture, nonfinite), self._loss_scales)
        return gradient, nonfinite | ~all_finite(gradient)

    def _range_gradient(self, x0: Tensor, context: _StepContext) -> Tensor:
        """Return d(mean of (x0 - clamp(x0))^2)/dx0 for the guided samples."""
        members = [row for _, members in context.groups for row in members]
        gradient = (x0 - x0.clamp(-1, 1)) * (2 / x0[0].numel())
        if len(members) == len(x0):
            return gradient
        guided = torch.zeros(len(x0), dtype=torch.bool)
        guided[members] = True
        return zero_rows(gradient, ~to_device(guided, x0.device))

    def _step(
        self, gradient: Tensor, predicted: Tensor, context: _StepContext, telemetry: _Telemetry
    ) -> Tensor:
        """Return s times the gradient, normalised and clipped."""
        x_t, noise = context.x_t, None
        if self._options.normalize == "noise":
            x0 = self._process.predict_x0(predicted, x_t, context.index, self._prediction)
            noise = self._lookup(self._process.alphas_cumprod.rsqrt(), context) * x_t - x0
        gradient = step_length(gradient, self._options, telemetry.weighted_loss, noise)
        scales = self._scales[context.rows.start : context.rows.stop]
        return gradient * per_sample(to_device(scales.to(x_t.dtype), x_t.device), x_t)

    def _lookup(self, table: Tensor, context: _StepContext) -> Tensor:
        return lookup(table, context.index, context.x_t)

    def _image_gradient(
        self, images: Tensor, context: _StepContext, telemetry: _Telemetry, timesteps: Tensor | None = None
    ) -> Tensor:
        """Return sum_k w_k c_k dL_k/d(images), (B, C, H, W). Each sample is evaluated only for its own objectives."""
        total = torch.zeros_like(images)
        coefficients = self._coefficients[context.step, context.rows.start : context.rows.stop]
        coefficients = to_device(coefficients.to(images.dtype), images.device)
        for names, members in context.groups:
            selection = self._select(tuple(context.rows[row] for row in members), members, images.device)
            weights = {n: coefficients[selection.rows, self._plan.objectives.index(n)] for n in names}
            losses, gradients, loss = self._objective_gradients(
                images, names, selection, weights, context, timesteps
            )
            telemetry.record(selection.rows, names, losses, gradients, loss)
            for name in names:
                total.index_add_(0, selection.rows, per_sample(weights[name], images) * gradients[name])
        return total

    def _select(self, samples: tuple[int, ...], rows: tuple[int, ...], device: torch.device) -> _Selection:
        if self._text is None:
            raise GuidelensError("guidance needs encoded prompts; this batch has none")
        if (samples, rows) not in self._selections:
            on_device = to_device(torch.tensor(rows), device)
            self._selections[samples, rows] = _Selection(samples, on_device, _text_of(self._text, samples))
        return self._selections[samples, rows]

    def _objective_gradients(
        self,
        images: Tensor,
        names: tuple[str, ...],
        selection: _Selection,
        weights: dict[str, Tensor],
        context: _StepContext,
        timesteps: Tensor | None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Return L_k and dL_k/d(images) of the selected samples for the objectives ``names``, and their weighted loss.

        The weighted loss determines the share of each smoothing draw in every gradient. The augmented views of a draw
        are averaged.
        """
        radius: Tensor | None = None
        if self._options.smoothing:
            spread = self._lookup(self._process.sqrt_one_minus_alphas_cumprod, context)[selection.rows]
            radius = self._options.smoothing_radius * spread
        draws = []
        for draw in range(self._views.draws):
            losses: dict[str, Tensor] = {}
            gradients: dict[str, Tensor] = {}
            for view in range(self._views.augmentations):
                each = self._view_gradients(
                    images, names, selection, context, (draw, view), radius, timesteps
                )
                for mean, part in zip((losses, gradients), each, strict=True):
                    for name in names:
                        value = part[name] / self._views.augmentations
                        mean[name] = mean[name] + value if name in mean else value
            draws.append((losses, gradients, torch.stack([weights[n] * losses[n] for n in names]).sum(dim=0)))
        if len(draws) == 1:
            return draws[0]
        loss, shares = combined_loss(torch.stack([d[2] for d in draws]), self._options.smoothing_average)
        return (
            {n: torch.stack([d[0][n] for d in draws]).mean(dim=0) for n in names},
            {n: _weighted_sum([d[1][n] for d in draws], shares) for n in names},
            loss,
        )

    def _view_gradients(
        self,
        images: Tensor,
        names: tuple[str, ...],
        selection: _Selection,
        context: _StepContext,
        view: tuple[int, int],
        radius: Tensor | None,
        timesteps: Tensor | None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return L_k and dL_k/d(images) for one view of the images."""
        if self._model is None:
            raise GuidelensError("guidance needs a guidance model; this engine has none")
        extra: dict[str, Any] = {} if timesteps is None else {"timesteps": timesteps[selection.rows]}
        gradients = {}
        with torch.enable_grad():
            point = images[selection.rows].requires_grad_()
            shown = self._views.show(point, radius, selection.samples, (context.step, context.lap), *view)
            with self._autocast():
                losses = losses_of(self._model, shown, selection.text, names, **extra)
            for name in names:
                gradients[name] = vjp(
                    losses[name],
                    point,
                    torch.ones_like(losses[name]),
                    self._loss_scales,
                    keep_graph=name != names[-1],
                )
        return {name: loss.detach() for name, loss in losses.items()}, gradients


@dataclass(frozen=True, eq=False)
class _StepContext:
    """The state of one call, its position in the process and in the plan, and the objectives of each sample."""

    x_t: Tensor
    index: Tensor
    step: int
    lap: int
    rows: range
    groups: list[RowGroup]


@dataclass(frozen=True, eq=False)
class _Selection:
    """Selected samples: their numbers in the batch, their rows in the state (on its device), and their text."""

    samples: tuple[int, ...]
    rows: Tensor
    text: TextBatch


class _Telemetry:
    """Collects losses, gradients, norms and cosines of the groups of a batch. Entries not evaluated are nan.

    :param like: a tensor (B, ...) with the size, dtype and device of the batch.
    :param shape: the shape (C, H, W) of the images that the guidance model sees.
    """

    def __init__(self, objectives: tuple[str, ...], like: Tensor, shape: tuple[int, int, int]) -> None:
        self._like = like
        self._shape = (len(like), *shape)
        self.preview: Tensor | None = None
        """The decoded x0, if it was decoded."""
        self._position = {name: k for k, name in enumerate(objectives)}
        self._gradients: dict[str, Tensor] = {}
        table, row = (len(objectives), len(like)), (len(like),)
        self._losses = like.new_full(table, math.nan)
        self._norms = like.new_full(table, math.nan)
        self._cosines = {pair: like.new_full(row, math.nan) for pair in combinations(objectives, 2)}
        self.weighted_loss = like.new_zeros(row)
        """The weighted loss sum_k w_k c_k L_k, (B,). It is 0 for an unguided sample."""

    def record(
        self,
        rows: Tensor,
        names: Sequence[str],
        losses: dict[str, Tensor],
        gradients: dict[str, Tensor],
        weighted_loss: Tensor,
    ) -> None:
        self.weighted_loss[rows] = weighted_loss
        flat = {name: gradients[name].flatten(1) for name in names}
        norms = {name: torch.linalg.vector_norm(flat[name], dim=1) for name in names}
        for name in names:
            self._losses[self._position[name], rows] = losses[name]
            self._norms[self._position[name], rows] = norms[name]
            self._keep(name, rows, gradients[name])
        for first, second in combinations(names, 2):
            # Normalise before the product, which could otherwise overflow or underflow; 0 / 0 is nan.
            units = (flat[first] / norms[first][:, None], flat[second] / norms[second][:, None])
            self._cosines[first, second][rows] = (units[0] * units[1]).sum(dim=1)

    def _keep(self, name: str, rows: Tensor, gradient: Tensor) -> None:
        if len(rows) == len(self._like):  # all of them, in order: no copy
            self._gradients[name] = gradient
            return
        if name not in self._gradients:
            self._gradients[name] = self._like.new_full(self._shape, math.nan)
        self._gradients[name][rows] = gradient

    def guided(self, output: Tensor, gradient: Tensor | None, nonfinite: Tensor) -> Guided:
        for name in self._position.keys() - self._gradients.keys():
            self._gradients[name] = self._like.new_full(self._shape, math.nan)
        gradients = {name: self._gradients[name] for name in self._position}
        return Guided(
            output, gradient, self._losses, gradients, self._norms, self._cosines, nonfinite, self.preview
        )


def _text_of(text: TextBatch, samples: tuple[int, ...]) -> TextBatch:
    """Select text as :meth:`TextBatch.select` does, without waiting for the device of the tensors."""
    if samples == tuple(range(len(text))):
        return text
    chosen = torch.tensor(samples)
    return replace(
        text,
        prompts=tuple(text.prompts[sample] for sample in samples),
        tensors={name: tensor[to_device(chosen, tensor.device)] for name, tensor in text.tensors.items()},
        notes=tuple(text.notes[sample] for sample in samples) if text.notes else (),
    )


def _weighted_sum(values: Sequence[Tensor], shares: Tensor) -> Tensor:
    """Return the sum of values (B, ...) weighted by shares (n, B). A stack of them would double the memory."""
    total = torch.zeros_like(values[0])
    for value, share in zip(values, shares, strict=True):
        # A draw with share 0 may be nan: skip it, because 0 * nan is nan.
        total = total + torch.where(per_sample(share == 0, value), 0, per_sample(share, value) * value)
    return total
