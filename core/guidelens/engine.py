"""The engine: samples a generator under a guidance model, in batches as mixed as one likes.

The sampler is a Python generator that yields steps. Progress bars, previews, telemetry and files consume
them; none of them is in here. Closing the generator stops the run and puts the networks back as they were.
"""

from __future__ import annotations

import collections.abc as cabc
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .contracts import Generator, GuidanceModel, Prediction, Reads, Schedule, TextBatch
from .diffusion.noise import KeyedNoise, NoiseSource, NoiseStream, checked_seed
from .diffusion.process import DiffusionProcess, lookup
from .diffusion.samplers import DDPM, Sampler, make_sampler
from .errors import UsageError
from .guarding import encode, image_shape_of
from .guidance import (
    HALF_PRECISION_LOSS_SCALES,
    GuidanceOptions,
    GuidancePlan,
    Guide,
    Guided,
    check_finite,
    plan_guidance,
    resolve_scales,
)
from .guidance.displacement import displacement_warning, largest_displacement
from .guidance.dose import dose_factor, guidance_gain, total_dose
from .heap import kept_heap
from .memory import (
    MicroBatches,
    available_memory,
    bytes_used,
    elapsed,
    is_out_of_memory,
    knee,
    predict_batch,
)
from .networks import frozen, place, resolve_device, resolve_dtype, weights_dtype
from .recording import Recorder, Watch
from .samples import Result, Sample, Step
from .transfer import upload

__all__ = ["Engine", "Result", "Sample", "Step"]

logger = logging.getLogger(__name__)

IMAGE_CHANNELS = 3
"""What guidance models see."""


class Engine:
    """Samples pictures from a generator, guided by a guidance model.

    :param generator: the diffusion model. A :class:`torch.nn.Module` is moved to the device, and is in eval
        mode with frozen parameters while a stream is open; other objects are moved by their
        ``to(device, dtype)``, if any.
    :param guidance_model: likewise; None for unguided sampling (every sample's schedule is None).
    :param steps: the number of sampling steps, 1..T, or a respacing such as ``"ddim25"``; see
        :func:`~guidelens.diffusion.process.space_timesteps`.
    :param sampler: ``ddpm``, ``ddim``, or a :class:`~guidelens.diffusion.samplers.Sampler`.
    :param options: how guidance enters the step.
    :param device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    :param dtype: ``float32``; ``bfloat16`` or ``float16`` for networks under autocast, where sampler state,
        losses and gradients stay float32; ``float64`` throughout, for verification.
    :param batch_size: how many samples :meth:`run` takes at once; ``auto``: as many as should fit into memory,
        see :meth:`predict_batch_size`.
    :param eta: of the ``ddim`` sampler.
    :param max_nonfinite: how many steps of a sample may be left unguided for a non-finite gradient before the
        run ends in an error; None: half of the steps.
    :raises UsageError: for a value that does not fit.

    A batch that does not fit into memory is evaluated in parts, and a single sample that does not with its
    activations computed again, where the generator offers that. Between runs an engine keeps nothing but what
    it so learned of memory; several may run in threads, with networks in common.
    """

    def __init__(
        self,
        generator: Generator,
        guidance_model: GuidanceModel | None,
        *,
        steps: int | str = 50,
        sampler: str | Sampler = "ddpm",
        options: GuidanceOptions | None = None,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int | Literal["auto"] = 16,
        eta: float = 0.0,
        max_nonfinite: int | None = None,
    ) -> None:
        _check_generator(generator, guidance_model)
        if batch_size != "auto" and (type(batch_size) is not int or batch_size < 1):
            raise UsageError(
                f"the batch size must be at least 1, got {batch_size!r} (auto fits it to memory)"
            )
        if max_nonfinite is not None and max_nonfinite < 0:
            raise UsageError(f"max_nonfinite must be at least 0, got {max_nonfinite}")
        self.options = options if options is not None else GuidanceOptions()
        self.process = DiffusionProcess(generator.alphas_cumprod, steps)
        self.steps = self.process.num_steps
        self.sampler = _sampler(sampler, eta, self.options, generator)
        _check_options(self.options, guidance_model, self.steps)
        self.objective_scales = resolve_scales(guidance_model, self.options.objective_scales)
        self.dose_factor = dose_factor(
            generator.alphas_cumprod,
            self.sampler,
            self.process,
            self.options,
            learned_variance=generator.learned_variance,
        )
        """What every scale s is multiplied by; 1 unless the dose is matched."""
        self.batch_size = batch_size
        self.max_nonfinite = self.steps // 2 if max_nonfinite is None else max_nonfinite
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, self.device)
        self._state_dtype = weights_dtype(self.dtype)
        self.generator: Generator = place(generator, self.device, self._state_dtype)
        self.guidance_model: GuidanceModel | None = (
            None if guidance_model is None else place(guidance_model, self.device, self._state_dtype)
        )
        self._timesteps: list[int] = self.process.timesteps.tolist()
        self.laps = self.options.laps(self._timesteps, len(generator.alphas_cumprod))
        """How often each step is taken, the noisiest first; see ``recurrence``."""
        self._gain = self._guidance_gain()
        self._micro = MicroBatches(self._recompute_activations)
        self._recomputes = False
        if guidance_model is not None:
            self._warn_of_displacement()

    def stream(
        self, samples: Sequence[Sample], *, noise: NoiseSource | None = None
    ) -> cabc.Generator[Step, None, None]:
        """Sample one batch, whatever its size, and yield each step.

        :param samples: prompts, schedules, seeds and scales may all differ.
        :param noise: used in place of the samples' own seeded noise.
        :raises UsageError: at once, for samples that cannot be run.
        :raises GuidelensError: while running, if a sample's gradients or values stop being finite, or a single
            sample does not fit into memory.
        """
        samples = tuple(samples)
        if not samples:
            raise UsageError("there are no samples to stream")
        plan = self._plan(samples)
        return self._whole_stream(samples, plan, noise)

    def run(
        self, samples: Sequence[Sample], *, on_step: Callable[[Step], None] | None = None
    ) -> cabc.Generator[Result, None, None]:
        """Sample in batches of ``batch_size``; yield results in order, as each batch finishes.

        Everything is checked before the first step. Each distinct prompt is encoded once per run.

        :param on_step: called with every step of every batch.
        :raises UsageError, GuidelensError: as :meth:`stream`.
        """
        samples = tuple(samples)
        return self._run(samples, self._plan(samples), on_step)

    def generate(
        self, prompts: str | Sequence[str], schedule: Schedule | None, seeds: Sequence[int] = (0,)
    ) -> list[Result]:
        """Run every prompt with every seed; results come prompt by prompt."""
        texts = [prompts] if isinstance(prompts, str) else prompts
        return list(self.run([Sample(prompt, schedule, seed) for prompt in texts for seed in seeds]))

    @property
    def dose(self) -> float:
        """The dose of a run at s = 1: how far its guided steps move the state, summed; see docs/guidance.md.

        :raises UsageError: for a sampler that does not say.
        """
        learned = self.generator.learned_variance
        received = total_dose(self.sampler, self.process, self.options, learned_variance=learned)
        return self.dose_factor * received

    @property
    def piece_limit(self) -> int | None:
        """The most pictures evaluated at once after a batch did not fit into memory; None while all fitted."""
        return self._micro.limit

    def resolved_options(self) -> dict[str, Any]:
        """Return the options that a picture depends on, with what components supplied filled in."""
        resolved = self.options.described()
        if isinstance(self.sampler, DDPM) and self.sampler.fixed_variance is not None:
            resolved["fixed_variance"] = self.sampler.fixed_variance
        return {**resolved, "objective_scales": dict(sorted(self.objective_scales.items()))}

    def predict_batch_size(self, sample: Sample) -> int:
        """Return how many samples like ``sample`` to take at once, at most 64.

        Its most demanding step is evaluated for one copy and for two, and the difference compared with the memory
        that is free. On CUDA larger batches are then timed while they pay: see :func:`~guidelens.memory.knee`.
        """
        plan = self._plan([sample])
        busiest = int((plan.weights != 0).sum(dim=(1, 2)).argmax())
        text = self._encode([sample])

        def evaluation(copies: int) -> Callable[[], object]:
            batch = self._begin([sample] * copies, plan.select([0] * copies), text, None)
            index = torch.full((copies,), self.steps - 1 - busiest, dtype=torch.int64)
            return lambda: batch.guide(batch.state, index, busiest)

        def seconds(copies: int) -> float:
            evaluate = evaluation(copies)
            evaluate()  # what is chosen or compiled once per shape
            return elapsed(evaluate, self.device)

        try:
            with frozen(self.generator, self.guidance_model), _no_grad():
                fitting = predict_batch(
                    lambda copies: bytes_used(evaluation(copies), self.device), available_memory(self.device)
                )
                return knee(seconds, fitting) if self.device.type == "cuda" else fitting
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        return 1

    def _run(
        self, samples: tuple[Sample, ...], plan: GuidancePlan, on_step: Callable[[Step], None] | None
    ) -> cabc.Generator[Result, None, None]:
        text = self._encode(samples)
        size = self._size_of_batches(samples)
        with kept_heap(self.device):  # from batch to batch
            for start in range(0, len(samples), size):
                rows = range(start, min(start + size, len(samples)))
                batch = [samples[row] for row in rows]
                batch_plan = plan.select(rows)
                recorder = Recorder(batch, batch_plan)
                with closing(self._steps(batch, batch_plan, text, None)) as steps:
                    for step in steps:
                        recorder.add(step)
                        if on_step is not None:
                            on_step(step)
                yield from recorder.results()

    def _size_of_batches(self, samples: Sequence[Sample]) -> int:
        if self.batch_size != "auto":
            return self.batch_size
        if len(samples) < 2:
            return 1
        guided = [sample for sample in samples if sample.schedule is not None]
        return self.predict_batch_size((guided or samples)[0])

    def _whole_stream(
        self, samples: tuple[Sample, ...], plan: GuidancePlan, noise: NoiseSource | None
    ) -> cabc.Generator[Step, None, None]:
        yield from self._steps(samples, plan, self._encode(samples), noise)

    def _plan(self, samples: Sequence[Sample]) -> GuidancePlan:
        """Check samples, and ask their schedules for all the weights of the run."""
        scales = []
        for sample in samples:
            checked_seed(sample.seed)
            scale = self.options.scale if sample.scale is None else sample.scale
            scales.append(self.dose_factor * check_finite(f"the guidance scale of {sample.prompt!r}", scale))
            if sample.schedule is not None and not sample.prompt.strip():
                raise UsageError(f"a prompt is empty (seed {sample.seed}); describe a picture in it")
        progress = [self._progress(k) for k in range(self.steps)]
        known = self.guidance_model.objectives if self.guidance_model is not None else frozenset()
        return plan_guidance(
            [sample.schedule for sample in samples],
            scales,
            progress,
            frozenset(known),
            self.options.guided_steps(self.steps),
        )

    def _progress(self, step: int) -> float:
        return step / (self.steps - 1) if self.steps > 1 else 0.0

    def _encode(self, samples: Sequence[Sample]) -> TextBatch | None:
        """Encode each distinct prompt that guides something, once."""
        prompts = tuple(dict.fromkeys(sample.prompt for sample in samples if sample.schedule is not None))
        if self.guidance_model is None or not prompts:
            return None
        with frozen(self.guidance_model), _no_grad(), self._autocast():
            text = encode(self.guidance_model, prompts)
        for prompt, notes in zip(text.prompts, text.notes, strict=False):
            for note in notes:
                logger.warning("%r: %s", prompt, note)
        return text

    def _autocast(self) -> AbstractContextManager[object]:
        if self.dtype == self._state_dtype:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def _steps(
        self, samples: Sequence[Sample], plan: GuidancePlan, text: TextBatch | None, noise: NoiseSource | None
    ) -> cabc.Generator[Step, None, None]:
        with _no_grad():
            batch = self._begin(samples, plan, text, noise)
        # No context but these spans a yield: grad mode and autocast would leak into the caller's code.
        with kept_heap(self.device), frozen(self.generator, self.guidance_model):
            for k in range(self.steps):
                with _no_grad():
                    step = self._step(batch, k)
                    batch.watch.look(k, step.nonfinite, step.sample)
                yield step

    def _begin(
        self, samples: Sequence[Sample], plan: GuidancePlan, text: TextBatch | None, noise: NoiseSource | None
    ) -> _Batch:
        seeds = [sample.seed for sample in samples]
        guide = Guide(
            self.generator,
            self.guidance_model,
            self.process,
            plan,
            _select(text, samples),
            prediction=self.generator.prediction,
            learned_variance=self.generator.learned_variance,
            options=self.options,
            objective_scales=self.objective_scales,
            seeds=seeds,
            autocast=self._autocast,
            loss_scales=HALF_PRECISION_LOSS_SCALES if self.dtype == torch.float16 else (1.0,),
        )
        source = noise or NoiseStream(seeds, self.generator.image_shape)
        return _Batch(
            guide=guide,
            plan=plan,
            weights=upload(plan.weights, self.device, self._state_dtype),
            noise=source,
            repeats=KeyedNoise(seeds),
            watch=Watch(samples, self.max_nonfinite, self.steps),
            state=self._placed(source.next(), len(samples)),
        )

    def _step(self, batch: _Batch, k: int) -> Step:
        """Take step ``k`` of a batch, and again from x_{t-1} noised back to x_t as often as it recurs."""
        position = self.steps - 1 - k
        index = torch.full((len(batch.state),), position, dtype=torch.int64)
        x_t, nonfinite = batch.state, None
        for lap in range(self.laps[k]):
            if lap > 0:
                x_t = self.process.renoise(batch.state, index, self._extra_noise(batch, "renoise", k, lap))
            guided = self._evaluate(batch, x_t, index, k, lap)
            # Drawn on the host while an accelerator is still computing the above.
            noise = self._step_noise(batch, k, lap)
            batch.state, pred_x0 = self._reverse(guided, x_t, index, noise)
            nonfinite = guided.nonfinite if nonfinite is None else nonfinite | guided.nonfinite
        names = batch.plan.objectives
        return Step(
            index=k,
            timestep=self._timesteps[position],
            progress=self._progress(k),
            x_t=x_t,
            pred_x0=pred_x0,
            sample=batch.state,
            weights=dict(zip(names, batch.weights[k].T, strict=True)),
            losses=dict(zip(names, guided.losses, strict=True)),
            gradients=guided.gradients,
            gradient_norms=dict(zip(names, guided.gradient_norms, strict=True)),
            cosines=guided.cosines,
            nonfinite=guided.nonfinite if nonfinite is None else nonfinite,
        )

    def _evaluate(self, batch: _Batch, x_t: Tensor, index: Tensor, k: int, lap: int) -> Guided:
        """Evaluate the networks, in as many parts as memory asks for."""

        def part(rows: range) -> Guided:
            of = slice(rows.start, rows.stop)
            return batch.guide(x_t[of], index[of], k, lap=lap, rows=rows)

        return Guided.join(self._micro.run(len(x_t), part))

    def _reverse(
        self, guided: Guided, x_t: Tensor, index: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return x_{t-1} and the predicted x0."""
        reverse = self.sampler.step(
            self.process,
            guided.output,
            x_t,
            index,
            prediction=self.generator.prediction,
            learned_variance=self.generator.learned_variance,
            clip_denoised=self.options.clip_denoised,
            guidance=guided.gradient if self._gain is None else None,
            noise=noise,
        )
        sample = reverse.sample
        if self._gain is not None and guided.gradient is not None:
            sample = sample + lookup(self._gain, index, x_t) * guided.gradient
        return sample, reverse.pred_x0

    def _guidance_gain(self) -> Tensor | None:
        """How far s * g moves x_{t-1}, where the engine and not the sampler adds it."""
        if self.options.into == "score":
            return None
        if self.options.into == "sample":
            return torch.ones(self.steps, dtype=torch.float64)
        learned = self.generator.learned_variance
        return guidance_gain(
            self.sampler, self.process, "x0", learned_variance=learned, needed_by="guidance into x0"
        )

    def _warn_of_displacement(self) -> None:
        found = largest_displacement(
            self.sampler,
            self.process,
            self.options,
            scale=self.dose_factor * self.options.scale,
            laps=self.laps,
            learned_variance=self.generator.learned_variance,
            pixels=math.prod(self.generator.image_shape),
        )
        warning = displacement_warning(found)
        if warning is not None:
            logger.warning("%s", warning)

    def _step_noise(self, batch: _Batch, k: int, lap: int) -> Tensor | None:
        """The noise of x_{t-1}. The sample's own goes to the last repetition, so that recurrence shifts none."""
        if not self.sampler.draws_noise or k + 1 == self.steps:
            return None
        if lap + 1 < self.laps[k]:
            return self._extra_noise(batch, "repeat", k, lap)
        return self._placed(batch.noise.next(), len(batch.state))

    def _extra_noise(self, batch: _Batch, purpose: str, k: int, lap: int) -> Tensor:
        return self._placed(
            batch.repeats.normal(self.generator.image_shape, purpose, k, lap), len(batch.state)
        )

    def _placed(self, noise: Tensor, batch: int) -> Tensor:
        expected = (batch, *self.generator.image_shape)
        if tuple(noise.shape) != expected:
            raise UsageError(f"the noise has the shape {tuple(noise.shape)}; this batch needs {expected}")
        return upload(noise, self.device, self._state_dtype)

    def _recompute_activations(self) -> bool:
        """Let the generator trade time for memory; False if it cannot, or does so already."""
        switch = getattr(self.generator, "checkpointing", None)
        if self._recomputes or not callable(switch):
            return False
        switch(True)
        self._recomputes = True
        return True


@dataclass(eq=False)
class _Batch:
    """What one batch carries from step to step."""

    guide: Guide
    plan: GuidancePlan
    weights: Tensor
    """w_k(p), (N, B, K), on the device."""
    noise: NoiseSource
    repeats: KeyedNoise
    watch: Watch
    state: Tensor
    """x_t, (B, C, H, W)."""


def _select(text: TextBatch | None, samples: Sequence[Sample]) -> TextBatch | None:
    """Pair text with samples one to one; a sample that nothing guides gets any text, which is never read."""
    if text is None:
        return None
    where = {prompt: row for row, prompt in enumerate(text.prompts)}
    return text.select([where.get(sample.prompt, 0) for sample in samples])


@contextmanager
def _no_grad() -> Iterator[None]:
    # Inference mode off as well: no graph can be built of tensors that were made under a caller's.
    with torch.inference_mode(False), torch.no_grad():
        yield


def _sampler(sampler: str | Sampler, eta: float, options: GuidanceOptions, generator: Generator) -> Sampler:
    """:raises UsageError: for settings that the sampler has no use for."""
    if not isinstance(sampler, str):
        if eta:
            raise UsageError(
                f"eta ({eta}) belongs to the sampler called 'ddim'; give it to your {sampler!r} itself"
            )
        if options.fixed_variance is not None:
            raise UsageError(
                f"fixed_variance belongs to the sampler called 'ddpm'; give it to your {sampler!r} itself"
            )
        if options.clip_after_guidance:
            raise UsageError(
                f"clip_after_guidance belongs to the sampler called 'ddim'; give it to your {sampler!r} itself"
            )
        return sampler
    variance = options.fixed_variance
    if variance is None and sampler == "ddpm" and not generator.learned_variance:
        variance = getattr(generator, "fixed_variance", None)
    if variance == "small" and not generator.learned_variance:
        variance = None  # what it is anyway
    if options.clip_after_guidance and options.into != "score":
        raise UsageError(f"clip_after_guidance needs into=score, got into={options.into}")
    return make_sampler(
        sampler, eta=eta, fixed_variance=variance, clip_after_guidance=options.clip_after_guidance
    )


def _check_options(options: GuidanceOptions, guidance_model: GuidanceModel | None, steps: int) -> None:
    """:raises UsageError: for options that do not fit this run."""
    if guidance_model is None:
        return
    if not any(options.guided_steps(steps)):
        raise UsageError(
            f"none of the {steps} steps lies between start={options.start:g} and stop={options.stop:g};"
            " nothing would be guided"
        )
    reads = getattr(guidance_model, "reads", "x0")
    if reads not in get_args(Reads):
        raise UsageError(f"the guidance model reads {reads!r}; choose {' or '.join(get_args(Reads))}")
    if reads == "x0":
        return
    about_x0 = {
        "through=x0": options.through == "x0",
        f"see={options.see}": options.see != "x0",
        "into=x0": options.into == "x0",
        "range_scale": options.range_scale != 0,
        "smoothing": options.smoothing > 0,
        "augment": bool(options.augment),
    }
    for option, given in about_x0.items():
        if given:
            raise UsageError(f"{option} has no use: this guidance model reads x_t, not the predicted x0")


def _check_generator(generator: Generator, guidance_model: GuidanceModel | None) -> None:
    """:raises UsageError: if these cannot work, or not together."""
    wanted = ("image_shape", "alphas_cumprod", "prediction", "learned_variance")
    missing = [name for name in wanted if not hasattr(generator, name)]
    if missing or not callable(generator):
        lack = f"lacks {', '.join(missing)}" if missing else "cannot be called"
        raise UsageError(
            f"{type(generator).__name__} is no generator: it {lack}; see guidelens.contracts.Generator"
        )
    image_shape_of(generator)
    if generator.prediction not in get_args(Prediction):
        choices = ", ".join(get_args(Prediction))
        raise UsageError(f"the generator predicts {generator.prediction!r}; choose {choices}")
    if guidance_model is None:
        return
    missing = [name for name in ("objectives", "encode_text", "losses") if not hasattr(guidance_model, name)]
    if missing:
        raise UsageError(
            f"{type(guidance_model).__name__} is no guidance model: it lacks {', '.join(missing)};"
            " see guidelens.contracts.GuidanceModel"
        )
    if generator.image_shape[0] != IMAGE_CHANNELS:
        raise UsageError(
            f"the generator draws images of {generator.image_shape[0]} channels;"
            f" guidance models see {IMAGE_CHANNELS}"
        )
