"""Samplers by their names in options."""

from __future__ import annotations

from ..contracts import FixedVariance
from ..errors import UsageError
from .multistep import DPMSolver
from .samplers import DDIM, DDPM, Sampler


def make_sampler(
    name: str,
    *,
    eta: float = 0.0,
    fixed_variance: FixedVariance | None = None,
    clip_after_guidance: bool = False,
) -> Sampler:
    """Return the sampler called ``ddpm``, ``ddim`` or ``dpm++``.

    :raises UsageError: for another name, or an option that the sampler does not use.
    """
    if name == "ddim":
        if fixed_variance == "large":
            raise UsageError(
                f"the fixed variance ({fixed_variance}) belongs to the ddpm sampler; ddim has eta",
                setting="fixed_variance",
            )
        return DDIM(eta=eta, clip_after_guidance=clip_after_guidance)
    if name == "ddpm":
        if clip_after_guidance:
            raise UsageError(
                "clip_after_guidance belongs to the ddim sampler: under ddpm guidance moves no x0",
                setting="clip_after_guidance",
            )
        if eta:
            raise UsageError(f"eta ({eta}) belongs to the ddim sampler; ddpm has none", setting="eta")
        return DDPM(fixed_variance=fixed_variance)
    if name == "dpm++":
        owners = {"eta": ("ddim", eta), "clip_after_guidance": ("ddim", clip_after_guidance)}
        for option, (owner, value) in {**owners, "fixed_variance": ("ddpm", fixed_variance)}.items():
            if value:
                raise UsageError(
                    f"{option} ({value}) belongs to the {owner} sampler; dpm++ has none", setting=option
                )
        return DPMSolver()
    raise UsageError(f"unknown sampler {name!r}; choose ddpm, ddim or dpm++", setting="sampler")
