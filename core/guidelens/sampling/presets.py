"""Published guidance methods as named sets of options. Does not load torch.

A preset sets the options that define the method: where the gradient is taken, how long a step is, and what the gradient
is added to. The right scale depends on the loss as well, so most users set their own; the preset's scale is a starting
point. docs/guidance.md has the equation of each method, and how the preset differs from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError


@dataclass(frozen=True)
class Preset:
    """The publication of a method, and its options (fields of :class:`~guidelens.sampling.Sampling`)."""

    source: str
    options: Mapping[str, Any] = field(default_factory=dict)


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        "Kong & Kwak 2023, eq. 1: the mean of DDPM is moved by s Sigma g, g taken through the UNet"
    ),
    "dps": Preset(
        "Chung et al. 2023 (arXiv:2209.14687), algorithm 1, as in their code: x_{t-1} -= zeta grad |residual|",
        {"into": "sample", "see": "clamped", "normalize": "loss", "scale": 0.3},
    ),
    "freedom": Preset(
        "Yu et al. 2023 (arXiv:2303.09833), algorithm 2: x_{t-1} -= rho_t g_t, with time travel",
        {
            "into": "x0",
            "normalize": "noise",
            "scale": 0.02,
            "clip_denoised": False,
            "fixed_variance": "small",
            "recurrence": 10,
            "recurrence_start": 0.2,
            "recurrence_stop": 0.5,
        },
    ),
    "universal": Preset(
        "Bansal et al. 2023 (arXiv:2302.07121), forward guidance: eps += s sqrt(1 - abar) grad L, recurring",
        {"sampler": "ddim", "recurrence": 10, "clip_after_guidance": True},
    ),
    "mpgd": Preset(
        "He et al. 2023 (arXiv:2311.16424), without autoencoder: x0 -= s / sqrt(abar_{t-1}) dL/dx0, eps held",
        {
            "sampler": "ddim",
            "eta": 0.5,
            "into": "sample",
            "through": "x0",
            "see": "clamped",
            "scale": 0.02,
        },
    ),
    "lgd": Preset(
        "Song et al. 2023 (ICML, LGD-MC): grad log mean exp(-L) over draws around x0",
        {"smoothing": 10},
    ),
    "blended": Preset(
        "Avrahami et al. 2022 (arXiv:2111.14818), without masks: the model sees x0 blended with x_t, range loss",
        {"see": "blend", "range_scale": 50.0, "clip_denoised": False},
    ),
}


def find_preset(name: str) -> Preset:
    """Return the preset called ``name``.

    :raises UsageError: if there is none.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}; choose {', '.join(PRESETS)}", setting="preset")
    return PRESETS[name]
