"""Combine a :class:`~guidelens.sampling.Sampling` and two models into :class:`Settings`, which the engine runs with.

The functions depend only on the attributes of the models. They move and evaluate no network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from ..contracts import FixedVariance, Generator, GuidanceModel, Prediction, Reads
from ..diffusion.process import DiffusionProcess
from ..diffusion.sampler_names import make_sampler
from ..diffusion.samplers import Sampler
from ..errors import UsageError, concerning
from ..guarding import image_shape_of, is_latent, picture_shape_of
from ..sampling import Sampling, progress_of
from .displacement import displacement_warning, largest_displacement
from .dose import dose_factor, guidance_gain, total_dose
from .plan import resolve_scales

IMAGE_CHANNELS = 3
"""The number of channels of the images that guidance models receive."""

Noise = Literal["sample", "repeat", "none"]
"""The noise that is added to x_{t-1}: the sample's own noise, extra noise for a repetition, or none."""


@dataclass(frozen=True, eq=False)
class Settings:
    """A sampling that fits its models, and the tables that follow from it. N steps, the noisiest first.

    :param sampling: the options with every default filled in: objective scales, the fixed variance, the reference of
        the dose. Resolving it again gives the same settings.
    :param process: the respaced diffusion process.
    :param sampler: takes the reverse steps.
    :param image_shape: the shape (C, H, W) of the state x_t.
    :param picture_shape: the shape (C, H, W) of the pictures. It differs if the generator diffuses latents.
    :param latent: whether the generator diffuses latents.
    :param prediction: what the generator predicts.
    :param learned_variance: whether the generator learned its variance.
    :param objectives: the objectives of the guidance model; empty without one.
    :param progress: the progress at each step.
    :param guided: whether each step is guided.
    :param noise: the noise of each repetition of each step.
    :param dose_factor: the factor of every scale s; 1 unless the dose is matched.
    :param gain: how far a unit of s * g moves x_{t-1}, (N,) by respaced index; None if the sampler adds the guidance.
    :param notes: what the reader should know, such as a step that magnifies guidance.
    """

    sampling: Sampling
    process: DiffusionProcess
    sampler: Sampler
    image_shape: tuple[int, int, int]
    picture_shape: tuple[int, int, int]
    latent: bool
    prediction: Prediction
    learned_variance: bool
    objectives: frozenset[str]
    progress: tuple[float, ...]
    guided: tuple[bool, ...]
    noise: tuple[tuple[Noise, ...], ...]
    dose_factor: float
    gain: Tensor | None
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """N, the number of steps."""
        return self.process.num_steps

    @property
    def repetitions(self) -> tuple[int, ...]:
        """How many times each step is taken; see ``recurrence``."""
        return tuple(len(draws) for draws in self.noise)

    @property
    def dose(self) -> float:
        """The dose of a run at s = 1: the sum of how far its guided steps move the state. See docs/guidance.md.

        :raises UsageError: for a sampler that does not define its gain.
        """
        received = total_dose(
            self.sampler, self.process, self.sampling, learned_variance=self.learned_variance
        )
        return self.dose_factor * received

    @cached_property
    def timesteps(self) -> tuple[int, ...]:
        """The training timestep of each step."""
        return tuple(reversed(self.process.timesteps.tolist()))

    def scale(self, own: float | None = None) -> float:
        """Return s times the dose factor.

        :param own: the sample's own s; None: the scale of the sampling.
        """
        return self.dose_factor * (self.sampling.scale if own is None else own)


def resolve(
    sampling: Sampling,
    generator: Generator,
    guidance_model: GuidanceModel | None,
    *,
    sampler: Sampler | None = None,
) -> Settings:
    """Return the settings of a sampling for a generator and a guidance model.

    :param guidance_model: the guidance model; None for unguided sampling.
    :param sampler: replaces the sampler that ``sampling`` names.
    :raises UsageError: for models that cannot work together, or options that do not fit them. The error's ``setting``
        names the option.
    """
    _check_models(generator, guidance_model)
    latent = is_latent(generator)
    if latent:
        _check_latents(sampling, guidance_model)
    with concerning("steps"):
        process = DiffusionProcess(generator.alphas_cumprod, sampling.steps)
    chosen, variance = _sampler(sampling, generator, sampler)
    complete = replace(
        _with_plain_dose(sampling, len(generator.alphas_cumprod)),
        objective_scales=resolve_scales(guidance_model, sampling.objective_scales),
        fixed_variance=variance,
        clip_denoised=not latent if sampling.clip_denoised is None else sampling.clip_denoised,
    )
    steps = process.num_steps
    guided = complete.guided_steps(steps)
    if guidance_model is not None:
        _check_guidance(complete, guidance_model, guided)
    settings = Settings(
        sampling=complete,
        process=process,
        sampler=chosen,
        image_shape=generator.image_shape,
        picture_shape=picture_shape_of(generator),
        latent=latent,
        prediction=generator.prediction,
        learned_variance=generator.learned_variance,
        objectives=guidance_model.objectives if guidance_model is not None else frozenset(),
        progress=tuple(progress_of(step, steps) for step in range(steps)),
        guided=tuple(guided),
        noise=_noise_plan(
            chosen, complete.repetitions(process.timesteps.tolist(), len(generator.alphas_cumprod))
        ),
        dose_factor=dose_factor(
            generator.alphas_cumprod, chosen, process, complete, learned_variance=generator.learned_variance
        ),
        gain=_gain(chosen, process, complete, learned_variance=generator.learned_variance),
    )
    own = tuple(getattr(generator, "notes", ()))
    return replace(settings, notes=own if guidance_model is None else own + _notes(settings))


def _sampler(
    sampling: Sampling, generator: Generator, own: Sampler | None
) -> tuple[Sampler, FixedVariance | None]:
    """Return the sampler, and the fixed variance that it uses, if any.

    :raises UsageError: for options that the sampler does not use.
    """
    variance = sampling.fixed_variance
    if own is not None:
        given = {
            "eta": sampling.eta,
            "fixed_variance": variance,
            "clip_after_guidance": sampling.clip_after_guidance,
        }
        for name, value in given.items():
            if value:
                raise UsageError(
                    f"{name} belongs to the samplers with a name; give it to your {own!r} itself",
                    setting=name,
                )
        return own, None
    learned = generator.learned_variance
    if variance is None and sampling.sampler == "ddpm" and not learned:
        variance = getattr(generator, "fixed_variance", "small")
    if sampling.clip_after_guidance and sampling.into != "score":
        raise UsageError(
            f"clip_after_guidance needs into=score, got into={sampling.into}", setting="clip_after_guidance"
        )
    sampler = make_sampler(
        sampling.sampler,
        eta=sampling.eta,
        # Without a learned variance, None means "small".
        fixed_variance=None if variance == "small" and not learned else variance,
        clip_after_guidance=sampling.clip_after_guidance,
    )
    return sampler, variance if sampling.sampler == "ddpm" else None


def _with_plain_dose(sampling: Sampling, training_steps: int) -> Sampling:
    """Return the sampling with its dose in canonical form: a dose matched to the run's own steps becomes plain."""
    reference = training_steps if sampling.dose_steps is None else sampling.dose_steps
    if sampling.dose == "plain" or reference == sampling.steps:
        return replace(sampling, dose="plain", dose_steps=None)
    return replace(sampling, dose_steps=reference)


def _noise_plan(sampler: Sampler, repetitions: list[int]) -> tuple[tuple[Noise, ...], ...]:
    """Return the noise of each repetition of each step.

    The last repetition uses the sample's own noise, so the noise of the other steps does not change when steps are
    repeated. The last step adds no noise.
    """
    plan: list[tuple[Noise, ...]] = []
    for step, times in enumerate(repetitions):
        own: Noise = "sample" if sampler.draws_noise and step + 1 < len(repetitions) else "none"
        others: Noise = "repeat" if own == "sample" else "none"
        plan.append((*(others for _ in range(times - 1)), own))
    return tuple(plan)


def _gain(
    sampler: Sampler, process: DiffusionProcess, sampling: Sampling, *, learned_variance: bool
) -> Tensor | None:
    """Return how far a unit of s * g moves x_{t-1}; None if the sampler and not the engine adds it."""
    if sampling.into == "score":
        return None
    if sampling.into == "sample":
        return torch.ones(process.num_steps, dtype=torch.float64)
    with concerning("into"):
        return guidance_gain(
            sampler, process, "x0", learned_variance=learned_variance, needed_by="guidance into x0"
        )


def _notes(settings: Settings) -> tuple[str, ...]:
    """Return a note if guidance would move x_t far from its usual scale."""
    warning = displacement_warning(
        largest_displacement(
            settings.sampler,
            settings.process,
            settings.sampling,
            scale=settings.scale(),
            laps=settings.repetitions,
            learned_variance=settings.learned_variance,
            pixels=math.prod(settings.image_shape),
        )
    )
    return () if warning is None else (warning,)


def _check_guidance(sampling: Sampling, guidance_model: GuidanceModel, guided: list[bool]) -> None:
    """Check that the options of guidance fit this run.

    :raises UsageError: if they do not.
    """
    if not any(guided):
        raise UsageError(
            f"none of the {len(guided)} steps lies between start={sampling.start:g} and stop={sampling.stop:g};"
            " nothing would be guided",
            setting="start" if sampling.start else "stop",
        )
    reads = getattr(guidance_model, "reads", "x0")
    if reads not in get_args(Reads):
        raise UsageError(f"the guidance model reads {reads!r}; choose {' or '.join(get_args(Reads))}")
    if reads == "x0":
        return
    about_x0 = {
        "through": sampling.through == "x0",
        "see": sampling.see != "x0",
        "into": sampling.into == "x0",
        "range_scale": sampling.range_scale != 0,
        "smoothing": sampling.smoothing > 0,
        "augment": bool(sampling.augment),
    }
    for name, given in about_x0.items():
        if given:
            raise UsageError(
                f"{name}={getattr(sampling, name)} has no use: this guidance model reads x_t, not the predicted x0",
                setting=name,
            )


def _check_latents(sampling: Sampling, guidance_model: GuidanceModel | None) -> None:
    """Reject options and models that need x_t to be a picture.

    :raises UsageError: if there are such.
    """
    about_pixels = {
        "clip_denoised": bool(sampling.clip_denoised),
        "clip_after_guidance": sampling.clip_after_guidance,
        "range_scale": sampling.range_scale != 0,
        "see": sampling.see == "clamped",
    }
    for name, given in about_pixels.items():
        if given:
            raise UsageError(
                f"{name}={getattr(sampling, name)} holds x0 within [-1, 1], the range of pixels; this generator"
                " diffuses latents, which have no such range",
                setting=name,
            )
    if getattr(guidance_model, "reads", "x0") == "x_t":
        raise UsageError(
            "this guidance model reads noisy pictures (x_t), and this generator's x_t are latents; choose a guidance"
            " model that reads x0"
        )


def _check_models(generator: Generator, guidance_model: GuidanceModel | None) -> None:
    """Check that the models work, alone and together.

    :raises UsageError: if they do not.
    """
    wanted = ("image_shape", "alphas_cumprod", "prediction", "learned_variance")
    missing = [name for name in wanted if not hasattr(generator, name)]
    if missing or not callable(generator):
        lack = f"lacks {', '.join(missing)}" if missing else "cannot be called"
        raise UsageError(
            f"{type(generator).__name__} is not a generator: it {lack}; see guidelens.contracts.Generator"
        )
    image_shape_of(generator)
    channels = picture_shape_of(generator)[0]
    if generator.prediction not in get_args(Prediction):
        choices = ", ".join(get_args(Prediction))
        raise UsageError(f"the generator predicts {generator.prediction!r}; choose {choices}")
    if guidance_model is None:
        return
    missing = [name for name in ("objectives", "encode_text", "losses") if not hasattr(guidance_model, name)]
    if missing:
        raise UsageError(
            f"{type(guidance_model).__name__} is not a guidance model: it lacks {', '.join(missing)};"
            " see guidelens.contracts.GuidanceModel"
        )
    if channels != IMAGE_CHANNELS:
        raise UsageError(
            f"the generator draws images of {channels} channels; guidance models see {IMAGE_CHANNELS}"
        )
