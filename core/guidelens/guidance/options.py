"""The options of guidance: what enters each of its equations, checked. Loads no torch.

Every field is a flag of the command line under the same name and part of a cell's key. The equations are in
docs/guidance.md, in the order of the fields here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from ..contracts import FixedVariance, Into
from ..errors import UsageError
from .presets import find_preset

Through = Literal["unet", "x0"]
See = Literal["x0", "clamped", "blend"]
Normalize = Literal["none", "unit", "rms", "loss", "noise"]
Average = Literal["logmeanexp", "mean"]
Dose = Literal["plain", "matched"]

AUGMENTATIONS = ("crop", "affine", "noise")
"""The kinds of random views, applied in this order."""

_SINCE_FORMAT_1 = ("scale", "objective_scales", "through", "see", "clip_denoised")
_EDGE = 1e-9


@dataclass(frozen=True)
class GuidanceOptions:
    """How the gradient enters sampling. g is the gradient of log p, minus that of the weighted loss.

    :param scale: s, for every sample that states none itself; 0 is unguided.
    :param objective_scales: c_k by objective; the guidance model's ``default_scales`` elsewhere, else 1.
    :param through: ``unet`` differentiates the network. ``x0`` does not, and takes dx0/dx_t = sqrt(abar)
        instead, which is exact for standard normal data: cheaper, and what v-prediction gives with its
        network held constant.
    :param see: what the guidance model is shown. ``x0``: the predicted x0, not clamped, since a clamp has no
        gradient outside. ``clamped``: x0 as the reverse step uses it, clamped under ``clip_denoised``;
        ``through="unet"`` then differentiates the clamp as well (authors' code of Chung et al. 2023).
        ``blend``: sqrt(1 - abar) * x0 + (1 - sqrt(1 - abar)) * x_t, which turns from x0 to x_t as the noise
        goes (CLIP-guided diffusion; Avrahami et al. 2022).
    :param clip_denoised: clamp the predicted x0 to [-1, 1] where the reverse step uses it.
    :param clip_after_guidance: of the ``ddim`` sampler with ``into="score"``: clamp x0 after guidance moved it
        in place of before, and derive eps again (authors' code of Bansal et al. 2023). Without
        ``clip_denoised`` it has no effect.
    :param into: what s * g is added to. ``score``: the score, so that DDPM's mean moves by Sigma s g and
        DDIM's eps by -sqrt(1 - abar) s g (Dhariwal & Nichol 2021). ``sample``: x_{t-1} itself (Chung et al.
        2023, Yu et al. 2023). ``x0``: the predicted x0, eps held (He et al. 2023, algorithm 1). With
        ``through="x0"`` the g of both is the gradient at x0 itself.
    :param normalize: per sample, before s: ``unit`` g / |g|; ``rms`` g / rms(g); ``loss`` g / (2 sqrt(|L|)), L
        the weighted loss, which is the gradient of sqrt(|L|): of the residual's norm, where L is a squared
        residual (authors' code of Chung et al. 2023); ``noise`` g * rms(x_t / sqrt(abar) - x0) / rms(g), a
        share of the noise that x_t holds (authors' code of Yu et al. 2023).
    :param clip_norm: per sample, after ``normalize`` and before s: |g| is at most this; None: no limit.
    :param range_scale: r, adds r * mean((x0 - clamp(x0, -1, 1))^2) to the loss wherever a sample is guided
        (range loss of CLIP-guided diffusion).
    :param augment: kinds of random views that the guidance model is shown in place of the image, of
        ``crop``, ``affine`` and ``noise``, joined by ``+``; empty: the image itself.
    :param augmentations: how many views a step averages over.
    :param augment_strength: 0 to 2, how far they go; 1 is moderate.
    :param smoothing: n, draws x0 + r_t z around the predicted x0 over which the objective is smoothed (Song et
        al. 2023, LGD-MC); 0: none.
    :param smoothing_average: ``logmeanexp``: -log mean exp(-L), their equation; ``mean``: mean L.
    :param smoothing_radius: r in r_t = r sqrt(1 - abar), their r_t at r = 1.
    :param start: progress at which guidance sets in.
    :param stop: progress after which it ends.
    :param every: guide every so many steps, counted from the first within [start, stop].
    :param recurrence: how often a step is taken: x_{t-1} is noised to x_t again in between ("time travel",
        Lugmayr et al. 2022, Bansal et al. 2023, Yu et al. 2023).
    :param recurrence_start: training time 1 - t / T from which steps recur, 0 the noisiest timestep.
    :param recurrence_stop: training time up to which they do, 1 the cleanest.
    :param dose: ``matched`` multiplies s so that its sum over the guided steps, each weighted by how far it
        moves x_{t-1}, is that of a run of ``dose_steps`` steps; ``plain`` leaves s alone.
    :param dose_steps: the reference of ``matched``; None: all training timesteps.
    :param fixed_variance: Sigma of the ``ddpm`` sampler: the posterior variance (``small``) or beta (``large``);
        None: the variance that the generator learned, else its ``fixed_variance``, else ``small``.
    """

    scale: float = 1.0
    objective_scales: Mapping[str, float] = field(default_factory=dict)
    through: Through = "unet"
    see: See = "x0"
    clip_denoised: bool = True
    clip_after_guidance: bool = False
    into: Into = "score"
    normalize: Normalize = "none"
    clip_norm: float | None = None
    range_scale: float = 0.0
    augment: str = ""
    augmentations: int = 1
    augment_strength: float = 1.0
    smoothing: int = 0
    smoothing_average: Average = "logmeanexp"
    smoothing_radius: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    every: int = 1
    recurrence: int = 1
    recurrence_start: float = 0.0
    recurrence_stop: float = 1.0
    dose: Dose = "plain"
    dose_steps: int | None = None
    fixed_variance: FixedVariance | None = None

    def __post_init__(self) -> None:
        check_finite("the guidance scale", self.scale)
        for name, value in self.objective_scales.items():
            check_finite(f"the scale of objective {name!r}", value)
        if self.through not in get_args(Through):
            raise UsageError(
                f"cannot guide through {self.through!r}; choose {' or '.join(get_args(Through))}"
            )
        if self.see not in get_args(See):
            raise UsageError(f"a guidance model cannot see {self.see!r}; choose {' or '.join(get_args(See))}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in (*get_args(choices), getattr(GuidanceOptions, name)):
                raise UsageError(
                    f"{name} must be one of {', '.join(get_args(choices))}, got {getattr(self, name)!r}"
                )
        for name, lowest, highest in _RANGES:
            _check_range(name, getattr(self, name), lowest, highest)
        for name in ("augmentations", "every", "recurrence", "smoothing"):
            _check_count(name, getattr(self, name), 0 if name == "smoothing" else 1)
        if self.dose_steps is not None:
            _check_count("dose_steps", self.dose_steps, 1)
        if self.clip_norm is not None and not check_finite("clip_norm", self.clip_norm) > 0:
            raise UsageError(f"clip_norm must be positive, got {self.clip_norm}; leave it out for no limit")
        self._check_combinations()

    def _check_combinations(self) -> None:
        unknown = [kind for kind in self.augmentation_kinds if kind not in AUGMENTATIONS]
        if unknown:
            raise UsageError(
                f"unknown augmentation {unknown[0]!r}; join some of {', '.join(AUGMENTATIONS)} by +"
            )
        if self.augmentations > 1 and not self.augment:
            raise UsageError(
                f"{self.augmentations} augmentations of no kind are one image; choose augment, such as crop"
            )
        for start, stop in (("start", "stop"), ("recurrence_start", "recurrence_stop")):
            if getattr(self, start) > getattr(self, stop):
                raise UsageError(
                    f"{start} ({getattr(self, start):g}) lies after {stop} ({getattr(self, stop):g})"
                )

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> GuidanceOptions:
        """Return the options of a published method, some of them replaced; see :mod:`.presets`.

        The sampler is no option of guidance: ``find_preset(name).sampler`` is the method's own.

        :raises UsageError: for an unknown preset, option or value.
        """
        return cls.of({**find_preset(name).options, **overrides})

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> GuidanceOptions:
        """Return the options with these values.

        :raises UsageError: for an unknown option or value.
        """
        known = [part.name for part in fields(cls)]
        unknown = sorted(values.keys() - set(known))
        if unknown:
            raise UsageError(f"unknown guidance option {unknown[0]!r}; there are {', '.join(known)}")
        return cls(**values)

    @property
    def augmentation_kinds(self) -> tuple[str, ...]:
        """The kinds of views, as spelled in :attr:`augment`."""
        return tuple(kind.strip() for kind in self.augment.split("+")) if self.augment else ()

    def guided_steps(self, steps: int) -> list[bool]:
        """Return for each of ``steps`` steps whether guidance is on, by ``start``, ``stop`` and ``every``."""
        inside = [k for k in range(steps) if _within(k, steps, self.start, self.stop)]
        chosen = set(inside[:: self.every])
        return [k in chosen for k in range(steps)]

    def laps(self, timesteps: Sequence[int], total: int) -> list[int]:
        """Return how often each step is taken, the noisiest first.

        :param timesteps: the training timesteps of the run, cleanest first.
        :param total: T, how many training timesteps there are.
        """
        first, last = self.recurrence_start - _EDGE, self.recurrence_stop + _EDGE
        return [self.recurrence if first <= 1 - t / total <= last else 1 for t in reversed(timesteps)]

    def described(self) -> dict[str, Any]:
        """Return what a picture depends on: the oldest options always, the others where not at their default.

        Leaving out defaults keeps the keys of pictures that were drawn before an option existed.
        """
        return {
            part.name: dict(value) if isinstance(value, Mapping) else value
            for part in fields(self)
            for value in [getattr(self, part.name)]
            if part.name in _SINCE_FORMAT_1 or value != part.default
        }


_CHOICES: dict[str, Any] = {
    "into": Into,
    "normalize": Normalize,
    "smoothing_average": Average,
    "dose": Dose,
    "fixed_variance": FixedVariance,
}
_RANGES: Sequence[tuple[str, float, float]] = (
    ("range_scale", -math.inf, math.inf),
    ("augment_strength", 0.0, 2.0),
    ("smoothing_radius", 0.0, math.inf),
    ("start", 0.0, 1.0),
    ("stop", 0.0, 1.0),
    ("recurrence_start", 0.0, 1.0),
    ("recurrence_stop", 0.0, 1.0),
)


def check_finite(what: str, value: float) -> float:
    """Return ``value`` as a float.

    :raises UsageError: if it is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{what} must be a finite number, got {value!r}")
    return float(value)


def _check_range(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= check_finite(name, value) <= highest:
        limit = f"from {lowest:g} to {highest:g}" if math.isfinite(highest) else f"at least {lowest:g}"
        raise UsageError(f"{name} must be {limit}, got {value!r}")


def _check_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} must be a whole number from {least} on, got {value!r}")


def _within(step: int, steps: int, start: float, stop: float) -> bool:
    progress = step / (steps - 1) if steps > 1 else 0.0
    return start - _EDGE <= progress <= stop + _EDGE
