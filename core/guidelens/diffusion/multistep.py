"""DPM-Solver++ (2M): a second-order sampler for runs of few steps, which reuses the x0 of the previous step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..contracts import Into, Prediction
from .process import DiffusionProcess, lookup, split_output
from .samplers import DDIM, ReverseStep

if TYPE_CHECKING:  # shapes, for readers and tests; nothing is checked at run time
    from jaxtyping import Float, Float64, Int64


@dataclass(frozen=True)
class DPMSolver:
    """DPM-Solver++ (2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2), midpoint form.

    With alpha = sqrt(abar), sigma = sqrt(1 - abar), lambda = log(alpha / sigma), h = lambda_{t-1} - lambda_t:

        D = x0_t + h / (2 h_before) (x0_t - x0_before)
        x_{t-1} = sigma_{t-1} / sigma_t x_t - alpha_{t-1} (exp(-h) - 1) D

    The first step has no previous step, and h is infinite at the last. Both use D = x0_t, which makes them DDIM steps.
    No noise is drawn. Guidance moves x0 by (1 - abar) / sqrt(abar) s g, as under DDIM, and the next step reuses the
    guided x0. A learned variance is unused.
    """

    @property
    def draws_noise(self) -> bool:
        """False: the solver is deterministic."""
        return False

    def begin(self) -> _Run:
        """Return the sampler of one batch, which remembers its steps."""
        return _Run()

    def guidance_gain(
        self, process: DiffusionProcess, into: Into = "score", learned_variance: bool = False
    ) -> Float64[Tensor, "N"]:
        """Return how far a unit of s * g moves x_{t-1} in the step itself, by index, (N,) float64.

        ``score``: as under DDIM. ``x0``: the coefficient of x0. ``sample``: 1.
        """
        return _of_x0(process) if into == "x0" else DDIM().guidance_gain(process, into, learned_variance)

    def step(
        self,
        process: DiffusionProcess,
        output: Float[Tensor, "B outputs H W"],
        x_t: Float[Tensor, "B C H W"],
        index: Int64[Tensor, "B"],
        *,
        prediction: Prediction,
        learned_variance: bool,
        clip_denoised: bool,
        guidance: Float[Tensor, "B C H W"] | None = None,
        noise: Float[Tensor, "B C H W"] | None = None,
    ) -> ReverseStep:
        """Take a step without a previous step, see :meth:`Sampler.step`. ``noise`` is unused."""
        return self.begin().step(
            process,
            output,
            x_t,
            index,
            prediction=prediction,
            learned_variance=learned_variance,
            clip_denoised=clip_denoised,
            guidance=guidance,
        )


@dataclass(frozen=True, eq=False)
class _Estimate:
    """The guided x0 of a step, and the index of the step."""

    index: Int64[Tensor, "B"]
    x0: Float[Tensor, "B C H W"]


class _Run:
    """The steps of one batch under :class:`DPMSolver`.

    A repeated step (time travel) replaces its own estimate, and extrapolates from the same previous step.
    """

    draws_noise = False

    def __init__(self) -> None:
        self._before: _Estimate | None = None
        self._latest: _Estimate | None = None

    def step(
        self,
        process: DiffusionProcess,
        output: Float[Tensor, "B outputs H W"],
        x_t: Float[Tensor, "B C H W"],
        index: Int64[Tensor, "B"],
        *,
        prediction: Prediction,
        learned_variance: bool,
        clip_denoised: bool,
        guidance: Float[Tensor, "B C H W"] | None = None,
        noise: Float[Tensor, "B C H W"] | None = None,
    ) -> ReverseStep:
        """Take the next step, see :meth:`Sampler.step`. ``noise`` is unused."""
        predicted, _ = split_output(output, x_t, learned_variance)
        pred_x0 = process.predict_x0(predicted, x_t, index, prediction)
        if clip_denoised:
            pred_x0 = pred_x0.clamp(-1, 1)
        x0 = pred_x0
        if guidance is not None:
            signal = process.alphas_cumprod
            x0 = x0 + lookup((1 - signal) / signal.sqrt(), index, x_t) * guidance
        if self._latest is not None and not torch.equal(self._latest.index, index):
            self._before = self._latest
        self._latest = _Estimate(index, x0)
        slope = x0 if self._before is None else self._extrapolated(process, self._before, self._latest)
        ratio = ((1 - process.alphas_cumprod_prev) / (1 - process.alphas_cumprod)).sqrt()
        sample = lookup(ratio, index, x_t) * x_t + lookup(_of_x0(process), index, x_t) * slope
        return ReverseStep(sample=sample, pred_x0=pred_x0)

    def _extrapolated(
        self, process: DiffusionProcess, before: _Estimate, now: _Estimate
    ) -> Float[Tensor, "B C H W"]:
        """Return D (B, C, H, W)."""
        level = torch.special.logit(process.alphas_cumprod) / 2  # lambda
        index = now.index.to("cpu")
        ahead = torch.where(
            index > 0, level[(index - 1).clamp(min=0)] - level[index], 0
        )  # 0 at the last: D = x0
        share = ahead / (2 * (level[index] - level[before.index.to("cpu")]))
        return now.x0 + lookup(share, torch.arange(len(share)), now.x0) * (now.x0 - before.x0)


def _of_x0(process: DiffusionProcess) -> Float64[Tensor, "N"]:
    """Return -alpha_{t-1} (exp(-h) - 1) by index, (N,) float64, in a form that is valid for infinite h."""
    signal, signal_prev = process.alphas_cumprod, process.alphas_cumprod_prev
    return signal_prev.sqrt() - (signal * (1 - signal_prev) / (1 - signal)).sqrt()
