"""The computations to time: a step of the engine, its bare networks, and the step of other implementations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from guidelens.contracts import GuidanceModel, TextBatch
from guidelens.diffusion.process import split_output
from guidelens.engine import Engine, Sample, Step
from guidelens.guarding import call, decode, encode
from guidelens.networks import frozen

from .alternatives import Alternative
from .default_allocator import default_allocator
from .timing import Clock

Network = Callable[[Tensor, Tensor], Tensor]

GENERATOR_FORWARD = "generator forward"
GUIDANCE_FORWARD = "guidance forward"
GUIDANCE_BACKWARD = "guidance backward"
GENERATOR_BACKWARD = "generator backward"
PARTS = (GENERATOR_FORWARD, GUIDANCE_FORWARD, GUIDANCE_BACKWARD, GENERATOR_BACKWARD)
"""The parts of a guided step that run networks, in their order."""

TINY_SCALE = 1e-6
"""With this scale guidance is computed in full but hardly changes the picture, so all steps cost the same."""


class EveryObjective:
    """A schedule with the same active objectives at every step."""

    def __init__(self, objectives: Collection[str]) -> None:
        self._weights = dict.fromkeys(sorted(objectives), 1.0)

    def weights(self, progress: float) -> Mapping[str, float]:
        """Return 1 for each."""
        return self._weights


class Pixels:
    """A guidance model of almost no cost, to measure the generator alone. Its only objective, ``pixels``, is the mean
    square of the image.
    """

    name = "none"
    objectives = frozenset({"pixels"})
    fingerprint = "pixels"

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        """Return the prompts unread."""
        return TextBatch(tuple(prompts))

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        """Return the mean square of each image (B, 3, H, W)."""
        return {name: images.square().mean(dim=(1, 2, 3)) for name in objectives}


class EngineStep:
    """Takes whole steps of an engine's stream, guided or not, one at a time."""

    def __init__(self, engine: Engine, samples: Sequence[Sample]) -> None:
        self._engine, self._samples = engine, samples
        self._stream = engine.stream(samples)
        self.latest: Step | None = None

    def prepare(self) -> None:
        """Start a stream if none is running. Its first step encodes the text, so it is taken here and not timed."""
        if self.latest is None or self.latest.index + 1 >= self._engine.settings.steps:
            self.close()
            self._stream = self._engine.stream(self._samples)
            self.latest = next(self._stream)

    def __call__(self) -> None:
        """Take the next step. Call :meth:`prepare` before."""
        self.latest = next(self._stream)

    def close(self) -> None:
        """End the stream."""
        self._stream.close()


@dataclass(frozen=True)
class StepInputs:
    """A batch at the middle step of sampling, and the networks that an engine evaluates there.

    :param x_t: (B, C, H, W) on the engine's device.
    :param index: (B,) respaced indices, on the CPU.
    :param timesteps: (B,) training timesteps, on the device.
    """

    engine: Engine
    x_t: Tensor
    index: Tensor
    timesteps: Tensor
    model: GuidanceModel
    text: TextBatch
    objectives: tuple[str, ...]

    @classmethod
    def of(
        cls, engine: Engine, model: GuidanceModel, prompt: str, batch: int, objectives: tuple[str, ...]
    ) -> StepInputs:
        """Make a batch of noise at the middle step."""
        random = torch.Generator().manual_seed(0)
        noise = torch.randn(batch, *engine.generator.image_shape, generator=random)
        x_t = noise.to(engine.device, torch.float64 if engine.dtype == torch.float64 else torch.float32)
        index = torch.full((batch,), engine.settings.steps // 2, dtype=torch.int64)
        timesteps = engine.settings.process.timesteps[index].to(engine.device)
        with frozen(model), torch.no_grad(), precision(engine):
            text = encode(model, [prompt]).select([0] * batch)
        return cls(engine, x_t, index, timesteps, model, text, objectives)

    @property
    def reads_x_t(self) -> bool:
        """Whether the guidance model reads x_t, so that no gradient passes through the generator."""
        return getattr(self.model, "reads", "x0") == "x_t"

    def pictures(self, x0: Tensor) -> Tensor:
        """Return the input of the guidance model: x0, or its decoded picture."""
        if not self.engine.settings.latent:
            return x0
        with precision(self.engine):
            return decode(self.engine.generator, x0).to(x0.dtype)

    def losses(self, images: Tensor) -> dict[str, Tensor]:
        """Return the losses of ``images`` under the engine's precision."""
        told: dict[str, Any] = {"timesteps": self.timesteps} if self.reads_x_t else {}
        with precision(self.engine):
            arguments = (images, self.text, self.objectives)
            losses = call(self.model, "guidance model", "losses", *arguments, **told)
        return {name: loss.to(images.dtype) for name, loss in losses.items()}


def precision(engine: Engine, *, float32: bool = False) -> AbstractContextManager[object]:
    """Return the context in which ``engine`` evaluates networks, or with ``float32`` one that keeps float32."""
    return nullcontext() if float32 else engine._autocast()  # one package: the same context, not a copy of it


class BareStep:
    """The networks of a guided step without the engine, in parts. The generator may be another implementation.

    The generator is evaluated once, the guidance model sees the predicted x0, each objective is differentiated
    alone (as the engine does), and one vector-Jacobian product passes through the generator.
    """

    def __init__(self, inputs: StepInputs, network: Network, *, float32: bool = False) -> None:
        self._s, self._network, self._float32 = inputs, network, float32

    def __call__(self, clock: Clock) -> dict[str, float]:
        """Return the seconds of each of :data:`PARTS`. For a model that reads x_t, the last part is missing."""
        s = self._s
        through = not s.reads_x_t
        marks = [clock.start()]
        of_x_t, of_output = s.engine.settings.process.x0_coefficients(
            s.index, s.engine.generator.prediction, s.x_t
        )
        with torch.set_grad_enabled(through):
            point = s.x_t.detach().requires_grad_(through)
            predicted = self._predict(point)
        marks.append(clock.mark())
        with torch.enable_grad():
            x0 = (of_x_t * s.x_t + of_output * predicted.detach()).requires_grad_()
            picture = s.pictures(x0)
            images = (picture.detach() if through else s.x_t.clone()).requires_grad_()
            losses = s.losses(images)
        marks.append(clock.mark())
        total = torch.zeros_like(images)
        for k, loss in enumerate(losses.values()):
            (gradient,) = torch.autograd.grad(loss.sum(), images, retain_graph=k + 1 < len(losses))
            total += gradient
        if picture is not x0:
            (total,) = torch.autograd.grad(picture, x0, total)
        marks.append(clock.mark())
        if through:
            torch.autograd.grad(predicted, point, of_output * total)
            marks.append(clock.mark())
        return dict(zip(PARTS, clock.between(marks), strict=False))

    def _predict(self, point: Tensor) -> Tensor:
        with precision(self._s.engine, float32=self._float32):
            output = self._network(point, self._s.timesteps)
        predicted, _ = split_output(output.to(point.dtype), point, self._s.engine.generator.learned_variance)
        return predicted


class PublishedStep:
    """A DDPM step of published guidance code: one evaluation for the mean, another for the guidance.

    Dhariwal & Nichol 2021, algorithm 1, with the gradient taken through the predicted x0: the network runs
    without gradients for p(x_{t-1} | x_t), and again with them; the losses' sum is differentiated in x_t.
    """

    def __init__(
        self, inputs: StepInputs, network: Network, *, float32: bool = False, scale: float = TINY_SCALE
    ) -> None:
        self._s, self._network, self._float32, self._scale = inputs, network, float32, scale

    def __call__(self) -> Tensor:
        """Return x_{t-1} without its noise, (B, C, H, W)."""
        s, generator = self._s, self._s.engine.generator
        with torch.no_grad():
            posterior = s.engine.settings.process.p_mean_variance(
                self._evaluate(s.x_t),
                s.x_t,
                s.index,
                prediction=generator.prediction,
                learned_variance=generator.learned_variance,
                clip_denoised=not s.engine.settings.latent,
            )
        with torch.enable_grad():
            point = s.x_t.detach().requires_grad_()
            total = torch.stack([loss.sum() for loss in s.losses(self._seen(point)).values()]).sum()
            (gradient,) = torch.autograd.grad(total, point)
        return posterior.mean - self._scale * posterior.variance * gradient

    def _seen(self, point: Tensor) -> Tensor:
        """What the guidance model is shown: the predicted x0, or x_t itself."""
        s, generator = self._s, self._s.engine.generator
        if s.reads_x_t:
            return point
        predicted, _ = split_output(self._evaluate(point), point, generator.learned_variance)
        x0 = s.engine.settings.process.predict_x0(predicted, point, s.index, generator.prediction)
        return s.pictures(x0)

    def _evaluate(self, x_t: Tensor) -> Tensor:
        with precision(self._s.engine, float32=self._float32):
            return self._network(x_t, self._s.timesteps).to(x_t.dtype)


def alternative_step(
    inputs: StepInputs, alternative: Alternative, network: Network, clock: Clock
) -> Callable[[], float]:
    """Return a function that takes a guided step with an alternative and returns its seconds."""
    if alternative.passes == 2:
        published = PublishedStep(inputs, network, float32=alternative.float32)

        def as_published() -> float:
            with default_allocator(clock.device):  # published code does not keep freed memory
                return clock.time(published)

        return as_published
    bare = BareStep(inputs, network, float32=alternative.float32)
    return lambda: sum(bare(clock).values())


def evaluate(inputs: StepInputs, network: Network, *, float32: bool = False) -> Tensor:
    """Return a network's output (B, C or 2C, H, W) without gradients."""
    with torch.no_grad(), precision(inputs.engine, float32=float32):
        return network(inputs.x_t, inputs.timesteps)
