"""Reverse steps of sampling: DDPM (ancestral) and DDIM, each with an optional guidance gradient.

A sampler receives the output of one network evaluation and returns x_{t-1}. It does not call networks, and it does not
depend on how the guidance gradient was computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, get_args

import torch
from torch import Tensor

from ..contracts import FixedVariance, Into, Prediction
from ..device_copies import to_device
from ..errors import UsageError
from .process import DiffusionProcess, lookup, split_output

if TYPE_CHECKING:  # shapes, for readers and tests; nothing is checked at run time
    from jaxtyping import Float, Float64, Int64


@dataclass(frozen=True, eq=False)
class ReverseStep:
    """x_{t-1}, and the unguided prediction of x0, clamped if ``clip_denoised`` was set. Each has shape (B, C, H, W)."""

    sample: Float[Tensor, "B C H W"]
    pred_x0: Float[Tensor, "B C H W"]


class Sampler(Protocol):
    """Computes x_{t-1} from x_t and the network's output.

    A sampler may also have two more methods. ``guidance_gain(process, into, learned_variance)`` returns how far a unit
    of s * g moves x_{t-1}, by index, (N,) float64. Guidance into x0 and a matched dose need it. ``begin()`` returns a
    new sampler for one batch; a sampler that remembers earlier steps needs it.
    """

    @property
    def draws_noise(self) -> bool:
        """Whether :meth:`step` uses noise. If False, no noise is drawn."""
        ...

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
        """Take one reverse step.

        :param output: the network's output at x_t, (B, C or 2C, H, W).
        :param index: (B,) respaced indices of x_t, see :class:`DiffusionProcess`.
        :param clip_denoised: whether to clamp the predicted x0 to [-1, 1]. Guidance is applied after that, unclamped.
        :param guidance: s * g (B, C, H, W), the scaled gradient of log p with respect to x_t; None: unguided.
        :param noise: standard normal noise (B, C, H, W); None adds none. Index 0 never adds noise.
        """
        ...


@dataclass(frozen=True)
class DDPM:
    """Ancestral sampling (Ho et al. 2020, algorithm 2). Guidance shifts the mean by Sigma * s * g.

    The shift is algorithm 1 of Dhariwal & Nichol 2021 (arXiv:2105.05233).

    :param fixed_variance: use the posterior variance (``small``) or beta (``large``), even if the network learned a
        variance. None: the learned variance, or ``small`` without one. With ``small``, the last step is unguided,
        because its posterior variance is 0.
    """

    fixed_variance: FixedVariance | None = None

    def __post_init__(self) -> None:
        if self.fixed_variance not in (None, *get_args(FixedVariance)):
            raise UsageError(f"unknown fixed variance {self.fixed_variance!r}; choose small or large")

    @property
    def draws_noise(self) -> bool:
        """True: every step except the last adds noise."""
        return True

    def guidance_gain(
        self, process: DiffusionProcess, into: Into = "score", learned_variance: bool = False
    ) -> Float64[Tensor, "N"]:
        """Return how far a unit of s * g moves x_{t-1}, by index, (N,) float64.

        ``score``: Sigma. A learned Sigma is not known in advance, so its upper bound beta is returned. ``x0``: the
        coefficient of x0 in the posterior mean. ``sample``: 1.
        """
        if into == "sample":
            return torch.ones(process.num_steps, dtype=torch.float64)
        if into == "x0":
            return process.posterior_mean_coef1
        if learned_variance and self.fixed_variance is None:
            return process.betas
        return process.fixed_large if self.fixed_variance == "large" else process.posterior_variance

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
        """Take one reverse step, see :meth:`Sampler.step`."""
        posterior = process.p_mean_variance(
            output,
            x_t,
            index,
            prediction=prediction,
            learned_variance=learned_variance,
            clip_denoised=clip_denoised,
            fixed_variance=self.fixed_variance,
        )
        sample = posterior.mean
        if guidance is not None:
            sample = sample + posterior.variance * guidance
        if noise is not None:
            sample = sample + _where_not_last(index, x_t) * (0.5 * posterior.log_variance).exp() * noise
        return ReverseStep(sample=sample, pred_x0=posterior.pred_x0)


@dataclass(frozen=True)
class DDIM:
    """Non-Markovian sampling (Song et al. 2020, arXiv:2010.02502, eq. 12 and 16). Guidance shifts the score.

    eps - sqrt(1 - abar) * s * g replaces eps (Dhariwal & Nichol 2021, algorithm 2). A learned variance is
    unused.

    :param eta: the share of the DDPM posterior's noise, from 0 (deterministic) to 1.
    :param clip_after_guidance: if ``clip_denoised`` is set, clamp x0 after guidance moved it instead of before, and
        derive eps from the clamped x0 (as in the code of Bansal et al. 2023).
    """

    eta: float = 0.0
    clip_after_guidance: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eta) and 0 <= self.eta <= 1):
            raise UsageError(f"eta lies between 0 and 1, got {self.eta}")

    @property
    def draws_noise(self) -> bool:
        """True if eta is positive."""
        return self.eta > 0

    def guidance_gain(
        self, process: DiffusionProcess, into: Into = "score", learned_variance: bool = False
    ) -> Float64[Tensor, "N"]:
        """Return how far a unit of s * g moves x_{t-1}, by index, (N,) float64. It corresponds to Sigma of DDPM.

        ``score``: guidance moves x0, and with it x_{t-1} by sqrt(abar_{t-1}) (1 - abar_t) / sqrt(abar_t). The change
        of eps moves x_{t-1} in the opposite direction, and the gain is the sum of both. The gain is large if abar_t is
        nearly 0 and the step is long; the network's errors grow with it. ``x0``: sqrt(abar_{t-1}). ``sample``: 1.
        """
        signal, signal_prev = process.alphas_cumprod, process.alphas_cumprod_prev
        if into == "sample":
            return torch.ones_like(signal)
        if into == "x0":
            return signal_prev.sqrt()
        through_x0 = (signal_prev / signal).sqrt() * (1 - signal)
        return through_x0 - self._of_eps(process) * (1 - signal).sqrt()

    def _of_eps(self, process: DiffusionProcess) -> Float64[Tensor, "N"]:
        remaining = 1 - process.alphas_cumprod_prev - self.eta**2 * process.posterior_variance
        return remaining.clamp(min=0).sqrt()

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
        """Take one reverse step, see :meth:`Sampler.step`."""
        predicted, _ = split_output(output, x_t, learned_variance)
        raw = process.predict_x0(predicted, x_t, index, prediction)
        pred_x0 = raw.clamp(-1, 1) if clip_denoised else raw
        x0 = raw if self.clip_after_guidance and guidance is not None else pred_x0
        eps = process.predict_eps(x0, x_t, index)
        signal_prev = process.alphas_cumprod_prev
        if guidance is not None:
            eps = eps - lookup(process.sqrt_one_minus_alphas_cumprod, index, x_t) * guidance
            x0 = process.predict_x0(eps, x_t, index, "epsilon")
            if clip_denoised and self.clip_after_guidance:
                x0 = x0.clamp(-1, 1)
                eps = process.predict_eps(x0, x_t, index)
        # At eta = 1 the posterior variance is eq. 16 squared. It is 0 at index 0, so the last step adds no noise.
        spread = self.eta * process.posterior_variance.sqrt()
        sample = lookup(signal_prev.sqrt(), index, x_t) * x0 + lookup(self._of_eps(process), index, x_t) * eps
        if noise is not None:
            sample = sample + lookup(spread, index, x_t) * noise
        return ReverseStep(sample=sample, pred_x0=pred_x0)


def _where_not_last(index: Int64[Tensor, "B"], like: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 1 1"]:
    keep = (index > 0).to(like.dtype)
    return to_device(keep.reshape(-1, *(1,) * (like.ndim - 1)), like.device)
