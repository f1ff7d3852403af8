"""Guidance: options, presets, plans, and the gradient itself.

Names are resolved when they are first used: options and presets load no torch, so that the command line can
read them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidelens.lazy import lazy_names

if TYPE_CHECKING:
    from .gradients import HALF_PRECISION_LOSS_SCALES, scaled_vjp
    from .guide import Guide, Guided
    from .options import GuidanceOptions, check_finite
    from .plan import GuidancePlan, check_objective, plan_guidance, resolve_scales
    from .presets import PRESETS, Preset, find_preset

_HOME = {
    "HALF_PRECISION_LOSS_SCALES": "gradients",
    "PRESETS": "presets",
    "GuidanceOptions": "options",
    "GuidancePlan": "plan",
    "Guide": "guide",
    "Guided": "guide",
    "Preset": "presets",
    "check_finite": "options",
    "check_objective": "plan",
    "find_preset": "presets",
    "plan_guidance": "plan",
    "resolve_scales": "plan",
    "scaled_vjp": "gradients",
}

__all__ = [
    "HALF_PRECISION_LOSS_SCALES",
    "PRESETS",
    "GuidanceOptions",
    "GuidancePlan",
    "Guide",
    "Guided",
    "Preset",
    "check_finite",
    "check_objective",
    "find_preset",
    "plan_guidance",
    "resolve_scales",
    "scaled_vjp",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
