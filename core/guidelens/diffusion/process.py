"""The Gaussian diffusion process: noise tables, respacing to fewer steps, and the reverse posterior.

The notation is that of Ho et al. 2020 (DDPM, arXiv:2006.11239): beta_t is the variance added at step t,
alpha_t = 1 - beta_t, abar_t = prod alpha, and q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I). Respacing
and the interpolated variance follow Nichol & Dhariwal 2021 (arXiv:2102.09672); v-prediction follows Salimans & Ho
2022 (arXiv:2202.00512).

Tables are float64 on the CPU. They are combined in float64, and the result is cast to the dtype and device of the
images. So no precision is lost if 1 - abar is tiny, and devices without float64 work.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from ..contracts import FixedVariance, Prediction
from ..device_copies import to_device
from ..errors import UsageError

if TYPE_CHECKING:  # shapes, for readers and tests; nothing is checked at run time
    from jaxtyping import Float, Float64, Int64

Respacing = int | str | Sequence[int]


def beta_schedule(name: Literal["linear", "cosine"], num_timesteps: int = 1000) -> Float64[Tensor, "T"]:
    """Return the training betas (T,) float64 of a named schedule.

    ``linear``: from 1e-4 to 0.02 at T = 1000 (Ho et al. 2020), scaled by 1000 / T elsewhere. ``cosine``:
    abar(u) = cos^2((u + 0.008) / 1.008 * pi / 2), betas at most 0.999 (Nichol & Dhariwal 2021, eq. 17).

    :raises UsageError: for an unknown name, or if a beta is outside (0, 1) at this T.
    """
    if num_timesteps < 1:
        raise UsageError(f"a diffusion process needs at least 1 timestep, got {num_timesteps}")
    if name == "linear":
        scale = 1000 / num_timesteps
        betas = torch.linspace(scale * 1e-4, scale * 0.02, num_timesteps, dtype=torch.float64)
    elif name == "cosine":
        u = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
        signal = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - signal[1:] / signal[:-1]).clamp(max=0.999)
    else:
        raise UsageError(f"unknown beta schedule {name!r}; choose linear or cosine")
    if not bool((betas < 1).all()):
        raise UsageError(f"the {name} schedule needs more than {num_timesteps} timesteps: its betas reach 1")
    return betas


def alphas_cumprod_of(betas: Float[Tensor, "T"]) -> Float64[Tensor, "T"]:
    """Return abar (T,) float64, the running product of 1 - beta."""
    return torch.cumprod(1 - betas.to(torch.float64), dim=0)


def space_timesteps(num_timesteps: int, respacing: Respacing) -> list[int]:
    """Return the training timesteps of a shorter process, ascending.

    :param respacing: ``N`` (int or string): N timesteps spread evenly from 0 to T - 1. ``"4+3+2"``, ``"4,3,2"`` or a
        sequence of ints: T is divided into equal sections with these numbers of evenly spaced timesteps, including the
        first and last of each. ``"ddimN"``: N timesteps from 0 at one integer stride, as in the DDIM paper (Song et
        al. 2020).
    :raises UsageError: for an invalid respacing, or more timesteps than the process has.

    The timesteps are those of guided-diffusion, with one exception: a process of a single step uses the noisiest
    timestep instead of the cleanest, because sampling starts from pure noise.
    """
    if isinstance(respacing, str) and respacing.strip().startswith("ddim"):
        return _strided(num_timesteps, respacing.strip())
    counts = _section_counts(respacing)
    if sum(counts) > num_timesteps or min(counts) < 1:
        raise UsageError(
            f"{respacing!r} sampling steps; choose between 1 and the {num_timesteps} training timesteps"
        )
    if counts == [1]:
        return [num_timesteps - 1]
    size, extra = divmod(num_timesteps, len(counts))
    chosen: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        length = size + (section < extra)
        if length < count:
            raise UsageError(
                f"cannot place {count} steps in a section of {length} timesteps (respacing {respacing!r})"
            )
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        # Sum the strides instead of multiplying them, as the original does, so that round() breaks ties the same way.
        offsets = accumulate(repeat(stride, count - 1), initial=0.0)
        chosen.extend(start + round(offset) for offset in offsets)
        start += length
    return chosen


def _section_counts(respacing: Respacing) -> list[int]:
    parts: Sequence[object]
    if isinstance(respacing, str):
        parts = re.split("[,+]", respacing)
    elif isinstance(respacing, Sequence):
        parts = respacing
    else:
        parts = [respacing]
    try:
        counts = [int(part) if isinstance(part, str) else part for part in parts]
    except ValueError:
        counts = []
    if not counts or not all(isinstance(count, int) and not isinstance(count, bool) for count in counts):
        raise UsageError(f"cannot read the respacing {respacing!r}; write 50, '4+3+2' or 'ddim50'")
    return [count for count in counts if isinstance(count, int)]


def _strided(num_timesteps: int, respacing: str) -> list[int]:
    try:
        count = int(respacing[len("ddim") :])
    except ValueError:
        raise UsageError(f"cannot read the respacing {respacing!r}; write 50, '4+3+2' or 'ddim50'") from None
    if count == 1:
        return [num_timesteps - 1]
    for stride in range(1, num_timesteps):
        if len(range(0, num_timesteps, stride)) == count:
            return list(range(0, num_timesteps, stride))
    raise UsageError(
        f"no integer stride visits exactly {count} of {num_timesteps} timesteps; write {count} without ddim"
    )


@dataclass(frozen=True, eq=False)
class PosteriorStep:
    """p(x_{t-1} | x_t) of one reverse step. Every entry has shape (B, C, H, W)."""

    mean: Tensor
    variance: Tensor
    log_variance: Tensor
    pred_x0: Tensor


class DiffusionProcess:
    """A process over the N timesteps that sampling visits. Its abar equals that of the training process there.

    ``index`` arguments are int64 (B,), one per sample. They are positions 0..N-1 in the *respaced* process, where 0 is
    the cleanest. The network receives ``timesteps[index]``. Keep ``index`` on the CPU: tables are looked up there,
    without waiting for an accelerator.

    :param alphas_cumprod: (T,) float64, strictly decreasing within (0, 1).
    :param respacing: see :func:`space_timesteps`; None visits all T timesteps.
    :raises UsageError: for an invalid table, or a respacing that does not fit it.
    """

    def __init__(self, alphas_cumprod: Tensor, respacing: Respacing | None = None) -> None:
        training = _checked_alphas_cumprod(alphas_cumprod)
        total = len(training)
        chosen = list(range(total)) if respacing is None else space_timesteps(total, respacing)
        self.num_steps = len(chosen)
        self.timesteps = torch.tensor(chosen, dtype=torch.int64)
        self.alphas_cumprod = training[self.timesteps]
        self.alphas_cumprod_prev = torch.cat([torch.ones(1, dtype=torch.float64), self.alphas_cumprod[:-1]])
        self.betas = 1 - self.alphas_cumprod / self.alphas_cumprod_prev

        signal, signal_prev = self.alphas_cumprod, self.alphas_cumprod_prev
        self.sqrt_alphas_cumprod = signal.sqrt()
        self.sqrt_one_minus_alphas_cumprod = (1 - signal).sqrt()
        # Posterior q(x_{t-1} | x_t, x_0), Ho et al. 2020, eq. 6-7.
        self.posterior_variance = self.betas * (1 - signal_prev) / (1 - signal)
        self.posterior_mean_coef1 = self.betas * signal_prev.sqrt() / (1 - signal)
        self.posterior_mean_coef2 = (1 - signal_prev) * (1 - self.betas).sqrt() / (1 - signal)
        # The posterior variance of the last step is 0, and its logarithm does not exist. It is replaced by that of the
        # step before, or by beta in a process of one step. The last step adds no noise, but its variance scales the
        # guidance.
        floor = self.posterior_variance[1:2] if self.num_steps > 1 else self.betas[:1]
        self.fixed_large = torch.cat([floor, self.betas[1:]])
        self.posterior_log_variance_clipped = torch.cat([floor, self.posterior_variance[1:]]).log()
        self._log_betas, self._log_fixed_large = self.betas.log(), self.fixed_large.log()
        noise = self.sqrt_one_minus_alphas_cumprod
        self._x0_coefficients: dict[str, tuple[Tensor, Tensor]] = {
            "epsilon": (signal.rsqrt(), -(1 / signal - 1).sqrt()),
            "x0": (torch.zeros_like(signal), torch.ones_like(signal)),
            "v": (self.sqrt_alphas_cumprod, -noise),
        }

    def __repr__(self) -> str:
        first, last = self.timesteps[0], self.timesteps[-1]
        return f"{type(self).__name__}({self.num_steps} steps, timesteps {first}..{last})"

    def q_sample(
        self, x0: Float[Tensor, "B C H W"], index: Int64[Tensor, "B"], noise: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        """Diffuse x0 (B, C, H, W) to x_t with ``noise`` ~ N(0, I) of the same shape (Ho et al. 2020, eq. 4)."""
        of_noise = lookup(self.sqrt_one_minus_alphas_cumprod, index, x0)
        return lookup(self.sqrt_alphas_cumprod, index, x0) * x0 + of_noise * noise

    def renoise(
        self, x_prev: Float[Tensor, "B C H W"], index: Int64[Tensor, "B"], noise: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B C H W"]:
        """Diffuse x_{t-1} (B, C, H, W) one step of this process forward, to x_t (Ho et al. 2020, eq. 2)."""
        kept = lookup((1 - self.betas).sqrt(), index, x_prev)
        return kept * x_prev + lookup(self.betas.sqrt(), index, x_prev) * noise

    def x0_coefficients(
        self, index: Int64[Tensor, "B"], prediction: Prediction, like: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B 1 1 1"], Float[Tensor, "B 1 1 1"]]:
        """Return a and b, (B, 1, 1, 1), such that pred_x0 = a * x_t + b * output.

        They depend on what the network predicts. ``epsilon``: a = 1 / sqrt(abar), b = -sqrt(1 - abar) / sqrt(abar).
        ``x0``: a = 0, b = 1. ``v``: a = sqrt(abar), b = -sqrt(1 - abar).
        """
        if prediction not in self._x0_coefficients:
            raise UsageError(f"unknown prediction {prediction!r}; choose {', '.join(get_args(Prediction))}")
        of_x_t, of_output = self._x0_coefficients[prediction]
        return lookup(of_x_t, index, like), lookup(of_output, index, like)

    def predict_x0(
        self,
        output: Float[Tensor, "B C H W"],
        x_t: Float[Tensor, "B C H W"],
        index: Int64[Tensor, "B"],
        prediction: Prediction,
    ) -> Float[Tensor, "B C H W"]:
        """Return x0 (B, C, H, W), not clamped, from the first C channels of the network's output."""
        of_x_t, of_output = self.x0_coefficients(index, prediction, x_t)
        return of_x_t * x_t + of_output * output

    def predict_eps(
        self, x0: Float[Tensor, "B C H W"], x_t: Float[Tensor, "B C H W"], index: Int64[Tensor, "B"]
    ) -> Float[Tensor, "B C H W"]:
        """Return the noise eps (B, C, H, W) for which x_t = sqrt(abar) x0 + sqrt(1 - abar) eps."""
        clean = lookup(self.sqrt_alphas_cumprod, index, x_t) * x0
        return (x_t - clean) / lookup(self.sqrt_one_minus_alphas_cumprod, index, x_t)

    def p_mean_variance(
        self,
        output: Float[Tensor, "B outputs H W"],
        x_t: Float[Tensor, "B C H W"],
        index: Int64[Tensor, "B"],
        *,
        prediction: Prediction,
        learned_variance: bool,
        clip_denoised: bool,
        fixed_variance: FixedVariance | None = None,
    ) -> PosteriorStep:
        """Return p(x_{t-1} | x_t) from one network output.

        :param output: (B, C, H, W), or (B, 2C, H, W) with a learned variance. The last C channels, in [-1, 1], then
            interpolate log Sigma between the posterior variance and beta (Nichol & Dhariwal 2021, eq. 15).
        :param clip_denoised: whether to clamp x0 to [-1, 1] before the mean is computed from it.
        :param fixed_variance: use the posterior variance (``small``) or beta (``large``), even if the network learned
            a variance. None: the learned variance, or ``small`` without one.
        """
        predicted, interpolation = split_output(output, x_t, learned_variance)
        pred_x0 = self.predict_x0(predicted, x_t, index, prediction)
        if clip_denoised:
            pred_x0 = pred_x0.clamp(-1, 1)
        first, second = self.posterior_mean_coef1, self.posterior_mean_coef2
        mean = lookup(first, index, x_t) * pred_x0 + lookup(second, index, x_t) * x_t
        if interpolation is not None and fixed_variance is None:
            share = (interpolation + 1) / 2
            lowest = lookup(self.posterior_log_variance_clipped, index, x_t)
            highest = lookup(self._log_betas, index, x_t)
            log_variance = share * highest + (1 - share) * lowest
            variance = log_variance.exp()
        elif fixed_variance in (None, "small"):
            variance = lookup(self.posterior_variance, index, x_t).expand_as(x_t)
            log_variance = lookup(self.posterior_log_variance_clipped, index, x_t).expand_as(x_t)
        elif fixed_variance == "large":
            variance = lookup(self.fixed_large, index, x_t).expand_as(x_t)
            log_variance = lookup(self._log_fixed_large, index, x_t).expand_as(x_t)
        else:
            raise UsageError(f"unknown fixed variance {fixed_variance!r}; choose small or large")
        return PosteriorStep(mean=mean, variance=variance, log_variance=log_variance, pred_x0=pred_x0)


def lookup(
    table: Float64[Tensor, "N"], index: Int64[Tensor, "B"], like: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B 1 1 1"]:
    """Return ``table[index]`` as (B, 1, 1, 1), with the dtype and device of ``like`` (B, C, H, W)."""
    values = table[index.to(table.device)].to(like.dtype).reshape(-1, *(1,) * (like.ndim - 1))
    return to_device(values, like.device)


def split_output(
    output: Float[Tensor, "..."], x_t: Float[Tensor, "B C H W"], learned_variance: bool
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"] | None]:
    """Split a network output into the prediction (B, C, H, W) and the variance interpolation (or None).

    :raises UsageError: if the shape of the output does not match ``learned_variance``.
    """
    batch, channels, *size = x_t.shape
    expected = (batch, channels * (2 if learned_variance else 1), *size)
    if tuple(output.shape) != expected:
        variance = "a" if learned_variance else "no"
        raise UsageError(
            f"the generator returned {tuple(output.shape)} for {tuple(x_t.shape)};"
            f" with {variance} learned variance it should be {expected}"
        )
    if not learned_variance:
        return output, None
    return output[:, :channels], output[:, channels:]


def _checked_alphas_cumprod(alphas_cumprod: Tensor) -> Tensor:
    if alphas_cumprod.dtype != torch.float64:
        raise UsageError(
            f"alphas_cumprod must be float64, got {alphas_cumprod.dtype}: 1 - abar needs the digits"
        )
    table = alphas_cumprod.detach().cpu()
    if table.ndim != 1 or len(table) == 0:
        raise UsageError(f"alphas_cumprod must have the shape (T,), got {tuple(table.shape)}")
    if not bool(((table > 0) & (table < 1)).all() and (table.diff() < 0).all()):
        raise UsageError("alphas_cumprod must lie within (0, 1) and strictly decrease")
    return table.clone()
