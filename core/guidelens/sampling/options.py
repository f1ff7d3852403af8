"""Every option of sampling and guidance, each declared once. Does not load torch.

The equations are in docs/guidance.md. To add an option, add a field here and implement its mathematics. Its flag, its
key in study files, its line in the documentation and its part of a cell's key are made from the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..contracts import FixedVariance, Into
from ..errors import UsageError
from .fields import Option, option, options_of
from .presets import find_preset
from .steps import read_steps, split_steps

Through = Literal["unet", "x0"]
See = Literal["x0", "clamped", "blend"]
Normalize = Literal["none", "unit", "rms", "loss", "noise"]
Average = Literal["logmeanexp", "mean"]
Dose = Literal["plain", "matched"]
SAMPLERS = ("ddpm", "ddim", "dpm++")
DTYPES = ("float32", "bfloat16", "float16", "float64")

AUGMENTATIONS = ("crop", "affine", "noise")
"""The kinds of random views, applied in this order."""

SAMPLING, GUIDANCE, TIMING = "Sampling", "Guidance", "When to guide"
VIEWS, COMPUTING = "What the guidance model is shown", "Computing"

PAGE = "docs/guidance.md"
"""The page with full explanations of options that have a short help text."""

_EDGE = 1e-9
"""Tolerance for comparing progress with the ends of a window."""


def _read_augment(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a text, got {value!r}")
    kinds = [kind.strip() for kind in value.split("+")] if value.strip() else []
    unknown = [kind for kind in kinds if kind not in AUGMENTATIONS]
    if unknown:
        raise ValueError(f"must be some of {', '.join(AUGMENTATIONS)} joined by +, got {value!r}")
    return "+".join(kinds)


@dataclass(frozen=True)
class Sampling:
    """How a picture is drawn: steps, sampler, guidance and precision.

    Instances are immutable; make variants with :func:`dataclasses.replace`. ``guidelens.sampling.options()`` and
    docs/guidance.md list the fields with their meaning, range and default. Numbers in float fields are converted to
    float, so equal settings compare equal.

    :raises UsageError: for a value outside its range. The error's ``setting`` is the field's name.
    """

    steps: int | str = option(
        50,
        "Number of sampling steps, spread evenly. ddim25: 25 steps at one stride. 10+10+5: that many in each third "
        "of the timesteps, the cleanest third first.",
        section=SAMPLING,
        kind=str,
        metavar="N|ddimN",
        study_key="steps",
        reader=read_steps,
        without_commas=True,
        source="Nichol & Dhariwal 2021",
    )
    sampler: str = option(
        "ddpm",
        "Reverse process. dpm++ (DPM-Solver++ 2M) is for few steps.",
        section=SAMPLING,
        choices=SAMPLERS,
        study_key="samplers",
        source="Ho et al. 2020; Song et al. 2020; Lu et al. 2022",
    )
    eta: float = option(
        0.0,
        "Noise of the ddim sampler: 0 is none, 1 is as much as ddpm.",
        section=SAMPLING,
        least=0,
        most=1,
        study_key="eta",
        source="Song et al. 2020, eq. 16",
    )
    fixed_variance: FixedVariance | None = option(
        None,
        "Variance of the ddpm sampler: the posterior variance (small) or beta (large).",
        section=SAMPLING,
        unset="the generator's own, else small",
        source="Ho et al. 2020",
    )
    clip_denoised: bool | None = option(
        None,
        "Clamp the predicted x0 to [-1, 1] in the reverse step.",
        section=SAMPLING,
        unset="yes; no for latents, which have no such range",
    )
    clip_after_guidance: bool = option(
        False,
        "Clamp x0 after guidance has moved it, in place of before (ddim with --into score).",
        section=SAMPLING,
        source="Bansal et al. 2023",
    )
    scale: float = option(
        1.0,
        "Guidance scale s. 0 draws unguided pictures.",
        section=GUIDANCE,
        study_key="scales",
        source="Dhariwal & Nichol 2021",
    )
    objective_scales: Mapping[str, float] = option(
        {},
        "Scale c_k of one objective. Repeatable.",
        section=GUIDANCE,
        flag="--objective-scale",
        metavar="NAME=VALUE",
        unset="the guidance model's own",
        study_key="objective_scales",
    )
    through: Through = option(
        "unet",
        "Differentiate through the diffusion network (unet), or take dx0/dx_t = sqrt(abar), which is cheaper (x0).",
        section=GUIDANCE,
        page=PAGE,
    )
    into: Into = option(
        "score",
        "What s * g is added to: the score, x_{t-1} (sample), or the predicted x0 with eps held.",
        section=GUIDANCE,
        page=PAGE,
        source="Dhariwal & Nichol 2021; Chung et al. 2023; He et al. 2023",
    )
    normalize: Normalize = option(
        "none",
        "Divide each sample's gradient by its norm (unit), its rms, or twice the root of its loss; noise: give it a "
        "share of the noise in x_t.",
        section=GUIDANCE,
        source="Chung et al. 2023; Yu et al. 2023",
    )
    clip_norm: float | None = option(
        None,
        "Largest norm of a sample's gradient, after --normalize and before the scale.",
        section=GUIDANCE,
        above=0,
        unset="no limit",
    )
    range_scale: float = option(
        0.0,
        "Weight of the range loss, which holds x0 within [-1, 1].",
        section=GUIDANCE,
        source="CLIP-guided diffusion",
    )
    dose: Dose = option(
        "plain",
        "matched: scale s so that the run receives as much guidance as one of --dose-steps steps.",
        section=GUIDANCE,
        page=PAGE,
    )
    dose_steps: int | None = option(
        None,
        "Number of steps whose dose is matched.",
        section=GUIDANCE,
        least=1,
        unset="all training timesteps",
    )
    start: float = option(
        0.0,
        "Progress at which guidance starts: 0 is the noisiest step, 1 the last.",
        section=TIMING,
        least=0,
        most=1,
    )
    stop: float = option(1.0, "Progress after which guidance ends.", section=TIMING, least=0, most=1)
    every: int = option(
        1, "Guide every N-th step, from the first within the window.", section=TIMING, least=1
    )
    recurrence: int = option(
        1,
        "Repeat each step N times, re-noising in between (time travel).",
        section=TIMING,
        least=1,
        source="Lugmayr et al. 2022; Bansal et al. 2023",
    )
    recurrence_start: float = option(
        0.0,
        "Training time 1 - t/T from which steps are repeated; 0 is the noisiest.",
        section=TIMING,
        least=0,
        most=1,
    )
    recurrence_stop: float = option(
        1.0,
        "Training time 1 - t/T up to which steps are repeated; 1 is the cleanest.",
        section=TIMING,
        least=0,
        most=1,
    )
    see: See = option(
        "x0",
        "Show the guidance model the predicted x0, x0 clamped as in the reverse step, or a blend of x0 and x_t.",
        section=VIEWS,
        page=PAGE,
        source="Chung et al. 2023; CLIP-guided diffusion",
    )
    augment: str = option(
        "",
        "Show random views in place of the image: crop, affine and noise, joined by +.",
        section=VIEWS,
        unset="the image itself",
        reader=_read_augment,
    )
    augmentations: int = option(1, "Number of views that a step averages over.", section=VIEWS, least=1)
    augment_strength: float = option(
        1.0, "Strength of the random views; 1 is moderate.", section=VIEWS, least=0, most=2
    )
    smoothing: int = option(
        0,
        "Number of draws around x0 over which the loss is smoothed; 0 is none.",
        section=VIEWS,
        least=0,
        source="Song et al. 2023, LGD-MC",
    )
    smoothing_average: Average = option(
        "logmeanexp",
        "How the losses of the draws are combined.",
        section=VIEWS,
        source="Song et al. 2023, LGD-MC",
    )
    smoothing_radius: float = option(
        1.0, "Spread of the draws, in units of sqrt(1 - abar).", section=VIEWS, least=0
    )
    dtype: str = option(
        "float32",
        "Precision of the networks. Sampler state, losses and gradients stay float32.",
        section=COMPUTING,
        choices=DTYPES,
        study_key="dtype",
    )

    def __post_init__(self) -> None:
        for known in options():
            try:
                value = known.read(getattr(self, known.name))
            except ValueError as error:
                raise UsageError(f"{known.name} {error}", setting=known.name) from None
            object.__setattr__(self, known.name, value)
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.augmentations > 1 and not self.augment:
            raise UsageError(
                f"{self.augmentations} augmentations without a kind are one image; choose augment, such as crop",
                setting="augmentations",
            )
        for start, stop in (("start", "stop"), ("recurrence_start", "recurrence_stop")):
            first, last = getattr(self, start), getattr(self, stop)
            if first > last:
                raise UsageError(f"{start} ({first:g}) must not exceed {stop} ({last:g})", setting=start)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Sampling:
        """Return the sampling with these values.

        :raises UsageError: for an unknown option or value.
        """
        known = [each.name for each in options()]
        unknown = sorted(values.keys() - set(known))
        if unknown:
            raise UsageError(
                f"unknown option {unknown[0]!r}; there are {', '.join(known)}", setting=unknown[0]
            )
        return cls(**values)

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> Sampling:
        """Return the sampling of a published method, with some options replaced; see :mod:`.presets`.

        The preset's ``eta`` applies only to its own sampler. If you choose another sampler, eta is 0 by default.

        :raises UsageError: for an unknown preset, option or value.
        """
        own = dict(find_preset(name).options)
        if overrides.get("sampler", own.get("sampler")) != own.get("sampler"):
            own.pop("eta", None)
        return cls.of({**own, **overrides})

    @property
    def number_of_steps(self) -> int:
        """The number of steps in :attr:`steps`."""
        return split_steps(self.steps)[0]

    @property
    def augmentation_kinds(self) -> tuple[str, ...]:
        """The kinds of views in :attr:`augment`."""
        return tuple(self.augment.split("+")) if self.augment else ()

    def guided_steps(self, steps: int) -> list[bool]:
        """Return whether each of ``steps`` steps is guided, according to ``start``, ``stop`` and ``every``."""
        inside = [k for k in range(steps) if _within(k, steps, self.start, self.stop)]
        chosen = set(inside[:: self.every])
        return [k in chosen for k in range(steps)]

    def repetitions(self, timesteps: Sequence[int], total: int) -> list[int]:
        """Return how many times each step is taken, the noisiest first.

        :param timesteps: the training timesteps of the run, cleanest first.
        :param total: T, the number of training timesteps.
        """
        first, last = self.recurrence_start - _EDGE, self.recurrence_stop + _EDGE
        return [self.recurrence if first <= 1 - t / total <= last else 1 for t in reversed(timesteps)]

    def as_dict(self) -> dict[str, Any]:
        """Return every option as a JSON value, defaults included. A cell's key is the hash of these values."""
        values = {known.name: getattr(self, known.name) for known in options()}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}

    def arguments(self, base: Sampling | None = None) -> list[str]:
        """Return the command-line arguments that turn ``base`` (None: the defaults) into this sampling."""
        before = Sampling() if base is None else base
        pairs = [(known, getattr(self, known.name), getattr(before, known.name)) for known in options()]
        return [word for known, value, old in pairs if value != old for word in known.arguments(value)]


def options() -> tuple[Option, ...]:
    """Return all options of :class:`Sampling`, in order."""
    return options_of(Sampling)


def _within(step: int, steps: int, start: float, stop: float) -> bool:
    progress = progress_of(step, steps)
    return start - _EDGE <= progress <= stop + _EDGE


def progress_of(step: int, steps: int) -> float:
    """Return the progress of step ``step``: 0 at the first (noisiest), 1 at the last, 0 in a run of one step."""
    return step / (steps - 1) if steps > 1 else 0.0
