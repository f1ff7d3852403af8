"""The engine: samples a generator under a guidance model, in batches as mixed as one likes.

The sampler is a Python generator that yields steps. Progress bars, previews, telemetry and files consume
them; none of them is in here. Closing the generator stops the run and puts the networks back as they were.
"""

from __future__ import annotations

import collections.abc as cabc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar, get_args

import torch
from torch import Tensor

from .contracts import Generator, GuidanceModel, Prediction, Schedule, TextBatch
from .diffusion.noise import NoiseSource, NoiseStream, checked_seed
from .diffusion.process import DiffusionProcess
from .diffusion.samplers import DDIM, Sampler, make_sampler
from .errors import GuidelensError, UsageError
from .guidance import (
    HALF_PRECISION_LOSS_SCALES,
    GuidanceOptions,
    GuidancePlan,
    Guide,
    check_finite,
    plan_guidance,
    resolve_scales,
)
from .networks import frozen, place, resolve_device, resolve_dtype, weights_dtype

K = TypeVar("K")

logger = logging.getLogger(__name__)

IMAGE_CHANNELS = 3
"""What guidance models see."""

_STEPS_BETWEEN_CHECKS = 10
_LARGE_GAIN = 10.0


@dataclass(frozen=True)
class Sample:
    """One requested picture.

    :param prompt: what the guidance model reads; may be empty only where nothing guides.
    :param schedule: weights of the objectives; None for a picture without guidance.
    :param seed: of all the noise of this picture, 0 to 2**63 - 1.
    :param scale: s; None takes :attr:`GuidanceOptions.scale <guidelens.guidance.GuidanceOptions>`.
    :param label: for the caller; the engine does not read it.
    """

    prompt: str
    schedule: Schedule | None
    seed: int = 0
    scale: float | None = None
    label: str = ""


@dataclass(frozen=True, eq=False)
class Step:
    """One sampling step of a batch; tensors are detached and lie on the engine's device. B samples.

    :param index: 0..N-1 in the order of sampling.
    :param timestep: the training timestep of ``x_t``, as the generator was told.
    :param progress: 0 at the first (noisiest) step, 1 at the last; 0 for a run of one step.
    :param x_t: the state before the step, (B, C, H, W).
    :param pred_x0: the generator's x0 at ``x_t``, before guidance; clamped if ``clip_denoised``.
    :param sample: the state after the step; after the last step the picture, not clamped.
    :param weights: w_k(p) by objective, (B,); those that any sample of the batch uses at some step.
    :param losses: L_k likewise, nan where the objective is inactive for the sample.
    :param gradient_norms: the norm of dL_k/dx0 likewise, before weights and scales.
    :param cosines: of these gradients, by (sorted) pair of objectives; nan where either is inactive or 0.
    :param nonfinite: (B,) bool, samples left unguided in this step because their gradient was not finite.
    """

    index: int
    timestep: int
    progress: float
    x_t: Tensor
    pred_x0: Tensor
    sample: Tensor
    weights: dict[str, Tensor]
    losses: dict[str, Tensor]
    gradient_norms: dict[str, Tensor]
    cosines: dict[tuple[str, str], Tensor]
    nonfinite: Tensor


@dataclass(frozen=True, eq=False)
class Result:
    """A finished picture and its telemetry: one number per step, nan where an objective was inactive.

    :param image: (C, H, W) float32 on the CPU, clamped to [-1, 1].
    :param losses: L_k by objective, for those that this sample's schedule uses at some step.
    :param gradient_norms: norm of dL_k/dx0 likewise.
    :param cosines: by pair of them, spelled ``"a|b"`` in sorted order.
    :param nonfinite_steps: how many steps were left unguided because the gradient was not finite.
    :param seconds: wall time of the batch divided by its size.
    """

    sample: Sample
    image: Tensor
    losses: dict[str, list[float]]
    gradient_norms: dict[str, list[float]]
    cosines: dict[str, list[float]]
    nonfinite_steps: int
    seconds: float


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
    :param batch_size: how many samples :meth:`run` takes at once.
    :param eta: of the ``ddim`` sampler.
    :param max_nonfinite: how many steps of a sample may be left unguided for a non-finite gradient before the
        run ends in an error; None: half of the steps.
    :raises UsageError: for a value that does not fit.

    An engine keeps no state between runs, and several may run in threads, with networks in common.
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
        batch_size: int = 16,
        eta: float = 0.0,
        max_nonfinite: int | None = None,
    ) -> None:
        _check_generator(generator, guidance_model)
        if batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, got {batch_size}")
        if max_nonfinite is not None and max_nonfinite < 0:
            raise UsageError(f"max_nonfinite must be at least 0, got {max_nonfinite}")
        self.options = options if options is not None else GuidanceOptions()
        self.process = DiffusionProcess(generator.alphas_cumprod, steps)
        self.steps = self.process.num_steps
        self.sampler = _sampler(sampler, eta)
        self.objective_scales = resolve_scales(guidance_model, self.options.objective_scales)
        self.batch_size = batch_size
        self.max_nonfinite = self.steps // 2 if max_nonfinite is None else max_nonfinite
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype)
        self._state_dtype = weights_dtype(self.dtype)
        self.generator: Generator = place(generator, self.device, self._state_dtype)
        self.guidance_model: GuidanceModel | None = (
            None if guidance_model is None else place(guidance_model, self.device, self._state_dtype)
        )
        if guidance_model is not None:
            _warn_of_gain(self.sampler, self.process)

    def stream(
        self, samples: Sequence[Sample], *, noise: NoiseSource | None = None
    ) -> cabc.Generator[Step, None, None]:
        """Sample one batch, whatever its size, and yield each step.

        :param samples: prompts, schedules, seeds and scales may all differ.
        :param noise: used in place of the samples' own seeded noise.
        :raises UsageError: at once, for samples that cannot be run.
        :raises GuidelensError: while running, if a sample's gradients or values stop being finite.
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

    def _run(
        self, samples: tuple[Sample, ...], plan: GuidancePlan, on_step: Callable[[Step], None] | None
    ) -> cabc.Generator[Result, None, None]:
        text = self._encode(samples)
        for start in range(0, len(samples), self.batch_size):
            rows = range(start, min(start + self.batch_size, len(samples)))
            batch = [samples[row] for row in rows]
            batch_plan = plan.select(rows)
            recorder = _Recorder(batch, batch_plan)
            with closing(self._steps(batch, batch_plan, text, None)) as steps:
                for step in steps:
                    recorder.add(step)
                    if on_step is not None:
                        on_step(step)
            yield from recorder.results()

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
            scales.append(check_finite(f"the guidance scale of {sample.prompt!r}", scale))
            if sample.schedule is not None and not sample.prompt.strip():
                raise UsageError(f"a prompt is empty (seed {sample.seed}); describe a picture in it")
        progress = [self._progress(k) for k in range(self.steps)]
        known = self.guidance_model.objectives if self.guidance_model is not None else frozenset()
        return plan_guidance([sample.schedule for sample in samples], scales, progress, frozenset(known))

    def _progress(self, step: int) -> float:
        return step / (self.steps - 1) if self.steps > 1 else 0.0

    def _encode(self, samples: Sequence[Sample]) -> TextBatch | None:
        """Encode each distinct prompt that guides something, once."""
        prompts = tuple(dict.fromkeys(sample.prompt for sample in samples if sample.schedule is not None))
        if self.guidance_model is None or not prompts:
            return None
        with frozen(self.guidance_model), _no_grad(), self._autocast():
            text = self.guidance_model.encode_text(prompts)
        if text.prompts != prompts:
            raise GuidelensError(
                f"the guidance model encoded {len(text)} prompts, not the {len(prompts)} it was given"
            )
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
        source = noise or NoiseStream([sample.seed for sample in samples], self.generator.image_shape)
        with _no_grad():
            guide = self._guide(samples, plan, text)
            x_t = self._draw(source, len(samples))
            counts = torch.zeros(len(samples), dtype=torch.int64, device=self.device)
        # No context but this one spans a yield: grad mode and autocast would leak into the caller's code.
        with frozen(self.generator, self.guidance_model):
            for k in range(self.steps):
                with _no_grad():
                    step = self._step(guide, plan, k, x_t, source)
                    counts += step.nonfinite
                    if k + 1 == self.steps or (k + 1) % _STEPS_BETWEEN_CHECKS == 0:
                        self._check(samples, counts, step.sample)
                x_t = step.sample
                yield step

    def _guide(self, samples: Sequence[Sample], plan: GuidancePlan, text: TextBatch | None) -> Guide:
        return Guide(
            self.generator,
            self.guidance_model,
            self.process,
            plan,
            _select(text, samples),
            prediction=self.generator.prediction,
            learned_variance=self.generator.learned_variance,
            options=self.options,
            objective_scales=self.objective_scales,
            autocast=self._autocast,
            loss_scales=HALF_PRECISION_LOSS_SCALES if self.dtype == torch.float16 else (1.0,),
        )

    def _step(self, guide: Guide, plan: GuidancePlan, k: int, x_t: Tensor, source: NoiseSource) -> Step:
        position = self.steps - 1 - k
        index = torch.full((len(x_t),), position, dtype=torch.int64)
        guided = guide(x_t, index, k)
        draws = self.sampler.draws_noise and position > 0
        reverse = self.sampler.step(
            self.process,
            guided.output,
            x_t,
            index,
            prediction=self.generator.prediction,
            learned_variance=self.generator.learned_variance,
            clip_denoised=self.options.clip_denoised,
            guidance=guided.gradient,
            noise=self._draw(source, len(x_t)) if draws else None,
        )
        weights = plan.weights[k].T.to(self._state_dtype).to(self.device, non_blocking=True)
        return Step(
            index=k,
            timestep=int(self.process.timesteps[position]),
            progress=self._progress(k),
            x_t=x_t,
            pred_x0=reverse.pred_x0,
            sample=reverse.sample,
            weights=dict(zip(plan.objectives, weights, strict=True)),
            losses=dict(zip(plan.objectives, guided.losses, strict=True)),
            gradient_norms=dict(zip(plan.objectives, guided.gradient_norms, strict=True)),
            cosines=guided.cosines,
            nonfinite=guided.nonfinite,
        )

    def _draw(self, source: NoiseSource, batch: int) -> Tensor:
        noise = source.next()
        expected = (batch, *self.generator.image_shape)
        if tuple(noise.shape) != expected:
            raise UsageError(f"the noise has the shape {tuple(noise.shape)}; this batch needs {expected}")
        return noise.to(self._state_dtype).to(self.device)

    def _check(self, samples: Sequence[Sample], counts: Tensor, state: Tensor) -> None:
        """Stop when a sample can no longer come to anything. This waits for the device: not at every step."""
        finite = state.flatten(1).isfinite().all(dim=1)
        for sample, count, alive in zip(samples, counts.tolist(), finite.tolist(), strict=True):
            name = f"the sample of prompt {sample.prompt!r}, seed {sample.seed}"
            if count > self.max_nonfinite:
                raise GuidelensError(
                    f"{name}: its guidance gradient was not finite in {count} of {self.steps} steps (at most"
                    f" {self.max_nonfinite} are tolerated); lower the scale, or use the dtype float32"
                )
            if not alive:
                raise GuidelensError(
                    f"{name}: its values are no longer finite; lower the scale, or use the dtype float32"
                )


class _Recorder:
    """Keeps the telemetry of a batch on its device until the end, then makes results of it."""

    def __init__(self, samples: Sequence[Sample], plan: GuidancePlan) -> None:
        self._samples = samples
        self._plan = plan
        self._started = time.perf_counter()
        self._last: Tensor | None = None
        self._losses: list[dict[str, Tensor]] = []
        self._norms: list[dict[str, Tensor]] = []
        self._cosines: list[dict[tuple[str, str], Tensor]] = []
        self._nonfinite: list[Tensor] = []

    def add(self, step: Step) -> None:
        self._last = step.sample
        self._losses.append(step.losses)
        self._norms.append(step.gradient_norms)
        self._cosines.append(step.cosines)
        self._nonfinite.append(step.nonfinite)

    def results(self) -> list[Result]:
        if self._last is None:
            return []
        images = self._last.clamp(-1, 1).to("cpu", torch.float32)
        losses, norms, cosines = _series(self._losses), _series(self._norms), _series(self._cosines)
        nonfinite = torch.stack(self._nonfinite).sum(dim=0).tolist()
        seconds = (time.perf_counter() - self._started) / len(self._samples)
        results = []
        for row, sample in enumerate(self._samples):
            names = self._plan.used_by(row)
            pairs = [pair for pair in cosines if set(pair) <= set(names)]
            results.append(
                Result(
                    sample=sample,
                    image=images[row].clone(),
                    losses={name: losses[name][row] for name in names},
                    gradient_norms={name: norms[name][row] for name in names},
                    cosines={"|".join(pair): cosines[pair][row] for pair in pairs},
                    nonfinite_steps=nonfinite[row],
                    seconds=seconds,
                )
            )
        return results


def _series(steps: list[dict[K, Tensor]]) -> dict[K, list[list[float]]]:
    """Per key, per sample, the values over steps."""
    return {key: torch.stack([step[key] for step in steps], dim=1).tolist() for key in steps[0]}


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


def _sampler(sampler: str | Sampler, eta: float) -> Sampler:
    if isinstance(sampler, str):
        return make_sampler(sampler, eta=eta)
    if eta:
        raise UsageError(
            f"eta ({eta}) belongs to the sampler called 'ddim'; give it to your {sampler!r} itself"
        )
    return sampler


def _warn_of_gain(sampler: Sampler, process: DiffusionProcess) -> None:
    gain = sampler.guidance_gain(process)[-1].item() if isinstance(sampler, DDIM) else 0.0
    if gain > _LARGE_GAIN:
        logger.warning(
            "the first DDIM step would magnify guidance %.0f times, and spoil the picture: timestep %d has"
            " almost no signal left; steps spelled like 'ddim50' start lower",
            gain,
            process.timesteps[-1],
        )


def _check_generator(generator: Generator, guidance_model: GuidanceModel | None) -> None:
    """:raises UsageError: if these cannot work, or not together."""
    wanted = ("image_shape", "alphas_cumprod", "prediction", "learned_variance")
    missing = [name for name in wanted if not hasattr(generator, name)]
    if missing or not callable(generator):
        lack = f"lacks {', '.join(missing)}" if missing else "cannot be called"
        raise UsageError(
            f"{type(generator).__name__} is no generator: it {lack}; see guidelens.contracts.Generator"
        )
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
