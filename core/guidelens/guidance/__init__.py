"""Guidance: settings, plans, the dose, and the gradient itself. Names are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

if TYPE_CHECKING:
    from .denoiser import Guided, GuidedDenoiser
    from .gradients import HALF_PRECISION_LOSS_SCALES, scaled_vjp
    from .plan import (
        GuidancePlan,
        check_finite,
        check_objective,
        check_request,
        plan_guidance,
        resolve_scales,
    )
    from .settings import Settings, resolve

_HOME = {
    "HALF_PRECISION_LOSS_SCALES": "gradients",
    "GuidancePlan": "plan",
    "GuidedDenoiser": "denoiser",
    "Guided": "denoiser",
    "Settings": "settings",
    "check_finite": "plan",
    "check_objective": "plan",
    "check_request": "plan",
    "plan_guidance": "plan",
    "resolve": "settings",
    "resolve_scales": "plan",
    "scaled_vjp": "gradients",
}

__all__ = [
    "HALF_PRECISION_LOSS_SCALES",
    "GuidancePlan",
    "Guided",
    "GuidedDenoiser",
    "Settings",
    "check_finite",
    "check_objective",
    "check_request",
    "plan_guidance",
    "resolve",
    "resolve_scales",
    "scaled_vjp",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
