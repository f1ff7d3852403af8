"""The dose of guidance: how far s * g has moved the state by the end of a run, for a gradient of length 1.

The dose of a run is s times the sum of the gains of its guided steps. The gain of a step is how far a unit of s * g
moves x_{t-1}; for DDPM it is Sigma. If Sigma is beta, the sum for the linear schedule is 10.05 at 1000 steps and 5.44
at 10. So a short run receives a smaller dose at the same s.
"""

from __future__ import annotations

from torch import Tensor

from ..contracts import Into
from ..diffusion.process import DiffusionProcess
from ..diffusion.samplers import Sampler
from ..errors import UsageError, concerning
from ..sampling import Sampling


def guidance_gain(
    sampler: Sampler, process: DiffusionProcess, into: Into, *, learned_variance: bool, needed_by: str
) -> Tensor:
    """Return how far a unit of s * g moves x_{t-1}, by respaced index, (N,) float64.

    :raises UsageError: for a sampler that does not define its gain.
    """
    gain = getattr(sampler, "guidance_gain", None)
    if gain is None:
        raise UsageError(f"{needed_by} needs a sampler with guidance_gain; {sampler!r} has none")
    table: Tensor = gain(process, into, learned_variance)
    return table


def total_dose(
    sampler: Sampler, process: DiffusionProcess, options: Sampling, *, learned_variance: bool
) -> float:
    """Return the dose at s = 1: the sum of the gains of the guided steps. Repetitions of a step count once."""
    gain = guidance_gain(
        sampler, process, options.into, learned_variance=learned_variance, needed_by="a dose"
    )
    guided = options.guided_steps(process.num_steps)
    return sum(value for value, on in zip(reversed(gain.tolist()), guided, strict=True) if on)


def dose_factor(
    alphas_cumprod: Tensor,
    sampler: Sampler,
    process: DiffusionProcess,
    options: Sampling,
    *,
    learned_variance: bool,
) -> float:
    """Return the factor of s: 1 for a plain dose, else dose(reference) / dose(this run).

    :param alphas_cumprod: the table of the training process.
    :raises UsageError: if the reference is not a possible run, or if the guided steps do not move the picture.
    """
    if options.dose == "plain":
        return 1.0
    steps = len(alphas_cumprod) if options.dose_steps is None else options.dose_steps
    if steps > len(alphas_cumprod):
        raise UsageError(
            f"dose_steps ({steps}) exceeds the {len(alphas_cumprod)} training timesteps", setting="dose_steps"
        )
    reference = DiffusionProcess(alphas_cumprod, steps)
    with concerning("dose"):
        wanted, received = (
            total_dose(sampler, which, options, learned_variance=learned_variance)
            for which in (reference, process)
        )
    if not received > 0:
        raise UsageError(
            "there is no dose to match: the guided steps of this run do not move the picture", setting="dose"
        )
    return wanted / received
