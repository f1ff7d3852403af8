"""The expected displacement of x_t from its usual scale by guidance at one step, computed before sampling.

x_t has a root mean square of about 1 at every step. At very noisy steps, some kinds of guidance move it by many
times that: DDIM divides by sqrt(abar), and the noise in x0 is large if abar is nearly 0. The network then gets
inputs that it was never trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.process import DiffusionProcess
from ..diffusion.samplers import DDPM, Sampler
from ..sampling import Sampling

LARGEST = 2.0
"""Pictures are spoilt if the root mean square of a displacement of x_t is at least this large."""


@dataclass(frozen=True)
class Displacement:
    """The largest displacement of x_t that guidance alone causes.

    :param timestep: the training timestep of the step that causes it.
    :param rms: the displacement of the network's input, as a root mean square over the pixels.
    :param gain: the factor by which that step multiplies s * g.
    :param measured: whether the length of g is known (``normalize`` sets it). Otherwise ``rms`` assumes a gradient
        that would move x_t by 1 in total over a run of DDPM.
    """

    timestep: int
    rms: float
    gain: float
    measured: bool


def largest_displacement(
    sampler: Sampler,
    process: DiffusionProcess,
    options: Sampling,
    *,
    scale: float,
    laps: Sequence[int],
    learned_variance: bool,
    pixels: int,
) -> Displacement | None:
    """Predict the largest displacement of the network's input in the last repetition of a step.

    Let m be how far a step moves x_{t-1}. The input of the next step is then displaced by m. Each repetition of the
    next step except the last keeps sqrt(alpha (1 - abar_{t-1}) / (1 - abar_t)) of m and replaces the rest by noise. In
    repetitions of the step itself, the input is displaced by sqrt(alpha) m.

    :param scale: s, including the dose factor.
    :param laps: how many times each step is taken, the noisiest first.
    :param pixels: C * H * W of a picture.
    :returns: the displacement; None if the sampler does not define its gain, or if no step is guided.
    """
    gains = getattr(sampler, "guidance_gain", None)
    if gains is None:
        return None
    gain: Tensor = gains(process, options.into, learned_variance)
    length, measured = _length(process, options, abs(scale), pixels)
    moved = gain.abs() * length
    signal, signal_prev = process.alphas_cumprod, process.alphas_cumprod_prev
    if options.clip_after_guidance and options.clip_denoised:
        # x0 is clamped to [-1, 1], and eps is derived from it, so the move of x_{t-1} is bounded.
        bound = signal_prev.sqrt() + ((1 - signal_prev) * signal / (1 - signal)).sqrt()
        moved = torch.minimum(moved, bound)
    kept = (1 - process.betas).sqrt()
    again = kept * ((1 - signal_prev) / (1 - signal)).sqrt()
    times = torch.tensor(list(reversed(laps)), dtype=torch.float64)
    by_next = moved.clone()
    by_next[1:] = moved[1:] * again[:-1] ** (times[:-1] - 1)
    by_itself = torch.where(times > 1, moved * kept, 0)
    met = torch.maximum(by_next, by_itself)
    met[~torch.tensor(list(reversed(options.guided_steps(process.num_steps))))] = 0
    index = int(met.argmax())
    if met[index] == 0:
        return None
    return Displacement(int(process.timesteps[index]), float(met[index]), float(gain[index]), measured)


def _length(process: DiffusionProcess, options: Sampling, scale: float, pixels: int) -> tuple[Tensor, bool]:
    """Return the root mean square of s * g by index, and whether it is known."""
    one = torch.ones_like(process.alphas_cumprod)
    known = {
        "rms": one,
        "unit": one / pixels**0.5,
        "noise": (1 / process.alphas_cumprod - 1).sqrt(),
    }
    length = known.get(options.normalize)
    measured = length is not None
    # If the length is unknown, assume a gradient that would move x_t by 1 over a whole run of DDPM.
    length = one / DDPM("large").guidance_gain(process).sum() if length is None else scale * length
    if options.clip_norm is not None:
        length = length.clamp(max=scale * options.clip_norm / pixels**0.5)
    return length, measured


def displacement_warning(found: Displacement | None) -> str | None:
    """Return a warning about a displacement that spoils pictures, or None if it does not."""
    if found is None or not found.rms > LARGEST:
        return None
    what = (
        f"guidance would move x_t by {found.rms:.1f}, where x_t itself measures 1,"
        if found.measured
        else f"a step would magnify guidance {found.gain:.0f} times,"
    )
    return (
        f"{what} and spoil the picture: timestep {found.timestep} has almost no signal left;"
        " let guidance set in later (--start 0.05), or spell steps like 'ddim50'"
    )
