"""The engine: sample a generator under a guidance model.

The samples of a batch may differ in prompt, schedule, seed and scale. Sampling is a Python generator that yields
steps. Other code reads the steps to show progress and previews, record telemetry and write files. Closing the generator
stops the run and restores the networks to their previous mode.
"""

from __future__ import annotations

import collections.abc as cabc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .allocator import keep_freed_memory
from .contracts import Generator, GuidanceModel, TextBatch
from .device_copies import upload
from .diffusion.noise import KeyedNoise, NoiseSource, NoiseStream
from .diffusion.process import lookup
from .diffusion.samplers import Sampler
from .errors import UsageError, concerning
from .guarding import decode, encode
from .guidance import (
    HALF_PRECISION_LOSS_SCALES,
    GuidancePlan,
    Guided,
    GuidedDenoiser,
    Settings,
    check_finite,
    plan_guidance,
    resolve,
)
from .guidance.settings import Noise
from .joint_guidance import JointGuidance
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
from .recording import FiniteCheck, Recorder
from .samples import Result, Sample, Step
from .sampling import Sampling
from .schedules import NamedSchedule, ScheduleSpec, read_schedules
from .seeds import checked_seed, read_seeds

if TYPE_CHECKING:
    from .plugins import PluginManager

__all__ = ["Engine", "Result", "Sample", "Step"]

logger = logging.getLogger(__name__)


class Engine:
    """Samples pictures from a generator, guided by a guidance model.

    :param generator: the diffusion model. A :class:`torch.nn.Module` is moved to the device, and is in eval
        mode with frozen parameters while a stream is open. Other objects are moved by their method
        ``to(device, dtype)``, if they have one.
    :param guidance_model: the guidance model, which is moved and frozen in the same way. None allows only unguided
        samples, whose schedule is None.
    :param sampling: how pictures are drawn; None: :class:`~guidelens.sampling.Sampling` with its defaults. Settings
        that :func:`~guidelens.guidance.resolve` returned for these models are used unchanged.
    :param sampler: replaces the sampler that ``sampling`` names.
    :param device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    :param batch_size: the number of samples in a batch of :meth:`run`; ``auto``: as many as should fit into memory,
        see :meth:`predict_batch_size`.
    :param max_nonfinite: the largest number of steps in which a sample may be left unguided because its gradient is
        not finite. The run ends with an error if there are more. None: half of the steps.
    :raises UsageError: for an invalid value.

    A batch that does not fit into memory is evaluated in parts. If a single sample does not fit, the engine switches on
    the generator's checkpointing, which recomputes activations, if the generator has it. These memory limits are the
    only state that an engine keeps between runs. Several engines may run in threads and share networks.
    """

    def __init__(
        self,
        generator: Generator,
        guidance_model: GuidanceModel | None,
        sampling: Sampling | Settings | None = None,
        *,
        sampler: Sampler | None = None,
        device: str = "auto",
        batch_size: int | Literal["auto"] = 16,
        max_nonfinite: int | None = None,
    ) -> None:
        if batch_size != "auto" and (type(batch_size) is not int or batch_size < 1):
            raise UsageError(
                f"the batch size must be at least 1, got {batch_size!r} (auto fits it to memory)",
                setting="batch_size",
            )
        if max_nonfinite is not None and max_nonfinite < 0:
            raise UsageError(
                f"max_nonfinite must be at least 0, got {max_nonfinite}", setting="max_nonfinite"
            )
        if isinstance(sampling, Settings):
            self.settings = sampling
        else:
            self.settings = resolve(sampling or Sampling(), generator, guidance_model, sampler=sampler)
            for note in self.settings.notes:
                logger.warning("%s", note)
        self.batch_size = batch_size
        self.max_nonfinite = self.settings.steps // 2 if max_nonfinite is None else max_nonfinite
        with concerning("device"):
            self.device = resolve_device(device)
        with concerning("dtype"):
            self.dtype = resolve_dtype(self.settings.sampling.dtype, self.device)
        self._state_dtype = weights_dtype(self.dtype)
        self.generator: Generator = place(generator, self.device, self._state_dtype)
        self.guidance_model: GuidanceModel | None = (
            None if guidance_model is None else place(guidance_model, self.device, self._state_dtype)
        )
        self._micro = MicroBatches(self._recompute_activations)
        self._recomputes = False

    def stream(
        self, samples: Sequence[Sample], *, noise: NoiseSource | None = None
    ) -> cabc.Generator[Step, None, None]:
        """Draw all given samples as one batch, and yield each step.

        :param samples: their prompts, schedules, seeds and scales may all differ.
        :param noise: replaces the noise that is drawn from the samples' seeds.
        :raises UsageError: at once, for samples that cannot be run.
        :raises GuidelensError: during the run, if a sample's gradients or values are no longer finite, or if a single
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
        """Draw samples in batches of ``batch_size``. Yield results in order, as each batch finishes.

        All samples are checked before the first step. Each distinct prompt is encoded once per run.

        :param on_step: called with every step of every batch.
        :raises UsageError, GuidelensError: as :meth:`stream`.
        """
        samples = tuple(samples)
        return self._run(samples, self._plan(samples), on_step)

    def generate(
        self,
        prompts: str | Sequence[str],
        schedules: ScheduleSpec | None,
        seeds: int | str | Sequence[int] = 1,
        *,
        plugins: PluginManager | None = None,
    ) -> list[Result]:
        """Draw every prompt under every schedule with every seed. Results are ordered by prompt, schedule and seed.

        :param schedules: one or several, by name (``"shift"``) or as objects; None draws unguided pictures.
        :param seeds: the number of seeds (2 means 0 and 1), a list such as ``"0,3,7-9"``, or the seeds themselves.
        :param plugins: where schedules are looked up by name; None: the installed plugins.
        """
        texts = [prompts] if isinstance(prompts, str) else prompts
        chosen: Sequence[NamedSchedule | None] = [None]
        if schedules is not None:
            chosen = read_schedules(schedules, lambda: plugins or _installed_plugins())
        return list(
            self.run(
                [
                    Sample(text, None, seed)
                    if each is None
                    else Sample(text, each.schedule, seed, label=each.name)
                    for text in texts
                    for each in chosen
                    for seed in read_seeds(seeds)
                ]
            )
        )

    @property
    def piece_limit(self) -> int | None:
        """The largest batch that is evaluated at once. None as long as every batch has fitted into memory."""
        return self._micro.limit

    def predict_batch_size(self, sample: Sample) -> int:
        """Return how many samples like ``sample`` to draw at once, at most 64.

        The engine evaluates the step with the most active objectives for one copy of the sample and for two. The
        difference in memory, compared with the free memory, gives the size. On CUDA,
        :func:`~guidelens.memory.knee` then times batches up to this size.
        """
        plan = self._plan([sample])
        busiest = int((plan.weights != 0).sum(dim=(1, 2)).argmax())
        text = self._encode([sample])

        def evaluation(copies: int) -> Callable[[], object]:
            batch = self._begin([sample] * copies, plan.select([0] * copies), text, None)
            index = torch.full((copies,), self.settings.steps - 1 - busiest, dtype=torch.int64)
            return lambda: batch.denoiser(batch.state, index, busiest)

        def seconds(copies: int) -> float:
            evaluate = evaluation(copies)
            evaluate()  # warm-up: kernels are chosen or compiled once per shape
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
        with keep_freed_memory(self.device):  # also between batches
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
        """Check the samples, and evaluate their schedules at every step of the run."""
        for sample in samples:
            checked_seed(sample.seed)
            if sample.scale is not None:
                check_finite(f"the guidance scale of {sample.prompt!r}", sample.scale)
            if sample.schedule is not None and not sample.prompt.strip():
                raise UsageError(f"a prompt is empty (seed {sample.seed}); describe a picture in it")
        return plan_guidance(
            [sample.schedule for sample in samples],
            [self.settings.scale(sample.scale) for sample in samples],
            self.settings.guided,
            self.settings.objectives,
        )

    def _encode(self, samples: Sequence[Sample]) -> TextBatch | None:
        """Encode each distinct prompt of the guided samples once."""
        prompts = tuple(dict.fromkeys(sample.prompt for sample in samples if sample.schedule is not None))
        if self.guidance_model is None or not prompts:
            return None
        with frozen(self.guidance_model), _no_grad(), self._autocast():
            return encode(self.guidance_model, prompts)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.dtype == self._state_dtype:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def _has_float16(self) -> bool:
        """Return whether gradients pass through float16, by autocast or in a guidance model with such weights."""
        model = self.guidance_model
        models = model.models.values() if isinstance(model, JointGuidance) else (model,)
        return torch.float16 in (self.dtype, *(getattr(each, "dtype", None) for each in models))

    def _steps(
        self, samples: Sequence[Sample], plan: GuidancePlan, text: TextBatch | None, noise: NoiseSource | None
    ) -> cabc.Generator[Step, None, None]:
        with _no_grad():
            batch = self._begin(samples, plan, text, noise)
        # Only these contexts stay open across a yield: grad mode and autocast would leak into the caller's code.
        with keep_freed_memory(self.device), frozen(self.generator, self.guidance_model):
            for k in range(self.settings.steps):
                with _no_grad():
                    step = self._step(batch, k)
                    batch.finite_check.check(k, step.nonfinite, step.sample)
                yield step

    def _begin(
        self, samples: Sequence[Sample], plan: GuidancePlan, text: TextBatch | None, noise: NoiseSource | None
    ) -> _Batch:
        seeds = [sample.seed for sample in samples]
        own_text = _select(text, samples)
        denoiser = GuidedDenoiser(
            self.generator,
            self.guidance_model,
            self.settings,
            plan,
            own_text,
            seeds=seeds,
            autocast=self._autocast,
            loss_scales=HALF_PRECISION_LOSS_SCALES if self._has_float16() else (1.0,),
        )
        source = noise or NoiseStream(seeds, self.settings.image_shape)
        begin = getattr(self.settings.sampler, "begin", None)
        return _Batch(
            denoiser=denoiser,
            sampler=self.settings.sampler if begin is None else begin(),
            plan=plan,
            weights=upload(plan.weights, self.device, self._state_dtype),
            noise=source,
            repeats=KeyedNoise(seeds),
            finite_check=FiniteCheck(samples, self.max_nonfinite, self.settings.steps),
            state=self._placed(source.next(), len(samples)),
            notes=_notes(own_text, samples),
        )

    def _step(self, batch: _Batch, k: int) -> Step:
        """Take step ``k`` of a batch. The noise plan may repeat it, re-noising x_{t-1} to x_t in between."""
        settings = self.settings
        position = settings.steps - 1 - k
        index = torch.full((len(batch.state),), position, dtype=torch.int64)
        x_t, nonfinite = batch.state, None
        for lap, draws in enumerate(settings.noise[k]):
            if lap > 0:
                x_t = settings.process.renoise(
                    batch.state, index, self._extra_noise(batch, "renoise", k, lap)
                )
            guided = self._evaluate(batch, x_t, index, k, lap)
            # Draw on the host while an accelerator still computes the evaluation.
            noise = self._step_noise(batch, draws, k, lap)
            batch.state, pred_x0 = self._reverse(batch.sampler, guided, x_t, index, noise)
            nonfinite = guided.nonfinite if nonfinite is None else nonfinite | guided.nonfinite
        names = batch.plan.objectives
        return Step(
            index=k,
            timestep=settings.timesteps[k],
            progress=settings.progress[k],
            x_t=x_t,
            pred_x0=pred_x0,
            sample=batch.state,
            weights=dict(zip(names, batch.weights[k].T, strict=True)),
            losses=dict(zip(names, guided.losses, strict=True)),
            gradients=guided.gradients,
            gradient_norms=dict(zip(names, guided.gradient_norms, strict=True)),
            cosines=guided.cosines,
            nonfinite=guided.nonfinite if nonfinite is None else nonfinite,
            notes=batch.notes,
            decode=self._decode if settings.latent else None,
            decoded=guided.preview,
        )

    def _evaluate(self, batch: _Batch, x_t: Tensor, index: Tensor, k: int, lap: int) -> Guided:
        """Evaluate the networks, in parts if the batch does not fit into memory."""

        def part(rows: range) -> Guided:
            of = slice(rows.start, rows.stop)
            return batch.denoiser(x_t[of], index[of], k, lap=lap, rows=rows)

        return Guided.join(self._micro.run(len(x_t), part))

    def _decode(self, latents: Tensor) -> Tensor:
        """Decode latents into pictures (B, 3, h, w), in parts if they do not fit into memory."""

        def part(rows: range) -> Tensor:
            with self._autocast():
                return decode(self.generator, latents[rows.start : rows.stop]).to(latents.dtype)

        with frozen(self.generator), _no_grad():
            return torch.cat(self._micro.run(len(latents), part))

    def _reverse(
        self, sampler: Sampler, guided: Guided, x_t: Tensor, index: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return x_{t-1} and the predicted x0."""
        settings = self.settings
        reverse = sampler.step(
            settings.process,
            guided.output,
            x_t,
            index,
            prediction=settings.prediction,
            learned_variance=settings.learned_variance,
            clip_denoised=bool(settings.sampling.clip_denoised),
            guidance=guided.gradient if settings.gain is None else None,
            noise=noise,
        )
        sample = reverse.sample
        if settings.gain is not None and guided.gradient is not None:
            sample = sample + lookup(settings.gain, index, x_t) * guided.gradient
        return sample, reverse.pred_x0

    def _step_noise(self, batch: _Batch, draws: Noise, k: int, lap: int) -> Tensor | None:
        """Draw the noise of x_{t-1}. Return None if the step adds no noise."""
        if draws == "none":
            return None
        if draws == "repeat":
            return self._extra_noise(batch, "repeat", k, lap)
        return self._placed(batch.noise.next(), len(batch.state))

    def _extra_noise(self, batch: _Batch, purpose: str, k: int, lap: int) -> Tensor:
        return self._placed(
            batch.repeats.normal(self.settings.image_shape, purpose, k, lap), len(batch.state)
        )

    def _placed(self, noise: Tensor, batch: int) -> Tensor:
        expected = (batch, *self.settings.image_shape)
        if tuple(noise.shape) != expected:
            raise UsageError(f"the noise has the shape {tuple(noise.shape)}; this batch needs {expected}")
        return upload(noise, self.device, self._state_dtype)

    def _recompute_activations(self) -> bool:
        """Switch on the generator's checkpointing. Return False if it has none, or if it is already on."""
        switch = getattr(self.generator, "checkpointing", None)
        if self._recomputes or not callable(switch):
            return False
        switch(True)
        self._recomputes = True
        return True


def _installed_plugins() -> PluginManager:
    from .plugins import PluginManager

    return PluginManager.load()


@dataclass(eq=False)
class _Batch:
    """The state of one batch between steps."""

    denoiser: GuidedDenoiser
    sampler: Sampler
    """The sampler of the settings, or the object that its ``begin()`` returned for this batch."""
    plan: GuidancePlan
    weights: Tensor
    """w_k(p), (N, B, K), on the device."""
    noise: NoiseSource
    repeats: KeyedNoise
    finite_check: FiniteCheck
    state: Tensor
    """x_t, (B, C, H, W)."""
    notes: tuple[tuple[str, ...], ...]
    """The guidance model's notes on each sample's prompt."""


def _select(text: TextBatch | None, samples: Sequence[Sample]) -> TextBatch | None:
    """Select one text per sample. An unguided sample gets an arbitrary text, which is never read."""
    if text is None:
        return None
    where = {prompt: row for row, prompt in enumerate(text.prompts)}
    return text.select([where.get(sample.prompt, 0) for sample in samples])


def _notes(text: TextBatch | None, samples: Sequence[Sample]) -> tuple[tuple[str, ...], ...]:
    """Return the text encoder's notes on each sample's prompt. An unguided sample has no notes."""
    if text is None or not text.notes:
        return ((),) * len(samples)
    pairs = zip(samples, text.notes, strict=True)
    return tuple(() if sample.schedule is None else tuple(notes) for sample, notes in pairs)


@contextmanager
def _no_grad() -> Iterator[None]:
    # Also leave the caller's inference mode: autograd cannot use tensors that were created in it.
    with torch.inference_mode(False), torch.no_grad():
        yield
