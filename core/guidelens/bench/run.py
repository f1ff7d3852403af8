"""Run a benchmark: interleaved and warmed up, on the engine's device and in its precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from guidelens.contracts import Generator, GuidanceModel, Prediction, TextBatch
from guidelens.engine import Engine, Sample
from guidelens.errors import GuidelensError, UsageError
from guidelens.guarding import picture_shape_of
from guidelens.guidance import check_objective
from guidelens.memory import is_out_of_memory
from guidelens.networks import frozen
from guidelens.sampling import Sampling

from .alternatives import Alternative, choose_alternatives
from .cost import count_cost
from .machine import describe_machine, measured_rates
from .report import AgainstReport, BatchReport, BenchReport, paired_median
from .subjects import (
    PARTS,
    TINY_SCALE,
    BareStep,
    EngineStep,
    EveryObjective,
    Network,
    Pixels,
    StepInputs,
    alternative_step,
    evaluate,
)
from .timing import Clock, Peak, interleaved, peak_memory

PROMPT = "a red circle above a blue square"

_MAX_STEPS = 1000


def bench(
    generator: Generator,
    guidance: GuidanceModel | None = None,
    *,
    objectives: Collection[str] | None = None,
    prompt: str = PROMPT,
    batch_sizes: Sequence[int] = (1,),
    repeats: int = 5,
    warmup: int = 1,
    against: Sequence[str] = (),
    device: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> BenchReport:
    """Measure the steps of an engine and their parts.

    Each round times, in turn: the engine's guided and its unguided step; the bare networks of the guided step
    by parts; the bare generator without gradients; the engine with networks that do nothing; and a guided step
    of each alternative. The engine's overhead compares times of the same round.

    :param guidance: None takes :class:`~guidelens.bench.subjects.Pixels`, which costs almost nothing.
    :param objectives: objectives of the guidance model, all active at once; None: all.
    :param batch_sizes: each is measured separately.
    :param repeats: number of measured rounds.
    :param warmup: number of rounds before them, at least 1. Memory is measured in the last one.
    :param against: alternatives of the generator (:mod:`guidelens.bench.alternatives`).
    :param threads: number of CPU threads of PyTorch; None keeps it.
    :param on_progress: called with a text about the current work.
    :raises UsageError: for a request that makes no sense.
    :raises GuidelensError: if an alternative cannot be built, or a network fails.
    """
    say = on_progress or (lambda _: None)
    _check(batch_sizes, repeats, warmup, threads)
    chosen = choose_alternatives(generator, tuple(against))
    model: GuidanceModel = Pixels() if guidance is None else guidance
    names = _objectives(model, objectives)
    with _threads(threads):
        engine = _engine(generator, model, device, dtype)
        model = engine.guidance_model or model
        say("measuring the machine")
        rates = measured_rates(engine.device, engine.dtype)
        batches, flop = [], None
        with frozen(engine.generator, engine.guidance_model):
            networks = {name: alternative.build() for name, alternative in chosen.items()}
            for size in dict.fromkeys(batch_sizes):
                subject = _Subject(engine, model, names, prompt, size, chosen, networks)
                with _explained_out_of_memory(size):
                    batches.append(subject.measure(repeats, warmup, say))
                    flop = subject.flop() if flop is None else flop
        settings = {"dtype": _name(engine.dtype), "prompt": prompt, "repeats": repeats, "warmup": warmup}
        return BenchReport(
            generator=_describe_generator(engine.generator),
            guidance={"objectives": list(names), "stand_in": guidance is None, **_size(model)},
            settings={**settings, "against": list(chosen)},
            machine=describe_machine(engine.device),
            rates=rates,
            flop=flop,
            batches=tuple(batches),
        )


@dataclass(frozen=True)
class _Subject:
    """The measurements for one batch size."""

    engine: Engine
    model: GuidanceModel
    objectives: tuple[str, ...]
    prompt: str
    batch: int
    chosen: Mapping[str, Alternative]
    networks: Mapping[str, Network]

    def measure(self, repeats: int, warmup: int, say: Callable[[str], None]) -> BatchReport:
        clock, inputs = Clock(self.engine.device), self._inputs()
        bare = BareStep(inputs, self.engine.generator)
        others = {
            name: alternative_step(inputs, self.chosen[name], network, clock)
            for name, network in self.networks.items()
        }
        with (
            closing(self._steps(self.engine, None)) as unguided,
            closing(self._steps(self.engine, self.objectives)) as guided,
            closing(self._steps(_hollow(self.engine, self.objectives), self.objectives)) as hollow,
        ):
            actions: dict[str, Callable[[], Mapping[str, float]]] = {
                "unguided": lambda: {"unguided": _timed(clock, unguided)},
                "guided": lambda: {"guided": _timed(clock, guided)},
                "bare": lambda: bare(clock),
                "forward": lambda: {"forward": clock.time(lambda: evaluate(inputs, self.engine.generator))},
                "hollow": lambda: {"hollow": _timed(clock, hollow)},
                **{f"against {name}": _named(f"against {name}", step) for name, step in others.items()},
            }
            peaks, first = self._warm_up(actions, warmup, say)
            seen = interleaved(
                actions,
                repeats=repeats,
                on_round=lambda done: say(f"batch {self.batch}: round {done} of {repeats}"),
            )
        return BatchReport(
            batch=self.batch,
            guided=seen["guided"],
            unguided=seen["unguided"],
            parts={part: seen[part] for part in PARTS if part in seen},
            forward=seen["forward"],
            hollow=seen["hollow"],
            memory={name: peaks[name] for name in ("unguided", "guided")},
            against={
                name: AgainstReport(
                    summary=self.chosen[name].summary,
                    step=seen[f"against {name}"],
                    first=first[f"against {name}"],
                    speedup=paired_median(seen[f"against {name}"], seen["guided"]),
                    difference=self._difference(inputs, name),
                    memory=peaks[f"against {name}"],
                )
                for name in others
            },
        )

    def flop(self) -> int | None:
        """Count the operations of one evaluation of the generator, per picture."""
        inputs = self._inputs()
        cost = count_cost(lambda: evaluate(inputs, self.engine.generator))
        return cost.flop // self.batch or None

    def _warm_up(
        self, actions: Mapping[str, Callable[[], object]], warmup: int, say: Callable[[str], None]
    ) -> tuple[dict[str, Peak], dict[str, float]]:
        """Run everything once per round. Return the memory in the last round, and the seconds in the first."""
        peaks: dict[str, Peak] = {}
        first: dict[str, float] = {}
        for done in range(warmup):
            for name, action in actions.items():
                say(f"batch {self.batch}: warming up, {name}")
                began = time.perf_counter()
                if done + 1 == warmup:
                    peaks[name] = peak_memory(self.engine.device, action)
                else:
                    action()
                first.setdefault(name, time.perf_counter() - began)
        return peaks, first

    def _difference(self, inputs: StepInputs, name: str) -> float:
        own = evaluate(inputs, self.engine.generator).cpu().double()
        float32 = self.chosen[name].float32
        other = evaluate(inputs, self.networks[name], float32=float32).cpu().double()
        if own.shape != other.shape:
            raise GuidelensError(
                f"the alternative {name!r} returned {tuple(other.shape)}, not {tuple(own.shape)} as the generator"
            )
        return ((own - other).abs().max() / own.abs().max().clamp(min=1e-30)).item()

    def _inputs(self) -> StepInputs:
        return StepInputs.of(self.engine, self.model, self.prompt, self.batch, self.objectives)

    def _steps(self, engine: Engine, objectives: tuple[str, ...] | None) -> EngineStep:
        schedule = None if objectives is None else EveryObjective(objectives)
        return EngineStep(engine, [Sample(self.prompt, schedule, seed) for seed in range(self.batch)])


class _HollowGenerator:
    """A generator without network. Its output is the input, or the input twice."""

    fingerprint = "hollow"

    def __init__(self, generator: Generator) -> None:
        self.image_shape = picture_shape_of(generator)  # without a decoder
        self.alphas_cumprod = generator.alphas_cumprod
        self.prediction: Prediction = generator.prediction
        self.learned_variance = generator.learned_variance

    def __call__(self, x_t: Tensor, timesteps: Tensor) -> Tensor:
        return torch.cat([x_t, x_t], dim=1) if self.learned_variance else x_t * 1


class _HollowModel(Pixels):
    """A guidance model with the given objectives, at almost no cost."""

    def __init__(self, objectives: tuple[str, ...]) -> None:
        self.objectives = frozenset(objectives)

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        mean = images.mean(dim=(1, 2, 3))
        return dict.fromkeys(objectives, mean)


def _engine(generator: Generator, model: GuidanceModel, device: str, dtype: str) -> Engine:
    steps = min(len(generator.alphas_cumprod), _MAX_STEPS)
    return Engine(generator, model, Sampling(steps=steps, scale=TINY_SCALE, dtype=dtype), device=device)


def _hollow(engine: Engine, objectives: tuple[str, ...]) -> Engine:
    networks = _HollowGenerator(engine.generator), _HollowModel(objectives)
    return _engine(*networks, str(engine.device), _name(engine.dtype))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _timed(clock: Clock, step: EngineStep) -> float:
    step.prepare()
    return clock.time(step)


def _named(name: str, step: Callable[[], float]) -> Callable[[], Mapping[str, float]]:
    return lambda: {name: step()}


def _check(batch_sizes: Sequence[int], repeats: int, warmup: int, threads: int | None) -> None:
    named = [("the batch size", size) for size in batch_sizes]
    for what, value in [*named, ("repeats", repeats), ("warmup", warmup), ("threads", threads)]:
        if value is not None and value < 1:
            raise UsageError(f"{what} must be at least 1, got {value}")
    if not batch_sizes:
        raise UsageError("there is no batch size to measure")


def _objectives(model: GuidanceModel, wanted: Collection[str] | None) -> tuple[str, ...]:
    names = tuple(sorted(model.objectives if wanted is None else set(wanted)))
    for name in names:
        check_objective(name, model.objectives, "the benchmark")
    if not names:
        raise UsageError("there is no objective to measure")
    return names


def _describe_generator(generator: Generator) -> dict[str, Any]:
    return {
        "image_shape": list(generator.image_shape),
        "prediction": generator.prediction,
        "learned_variance": generator.learned_variance,
        "fingerprint": generator.fingerprint,
        **_size(generator),
    }


def _size(network: object) -> dict[str, Any]:
    if not isinstance(network, nn.Module):
        return {"parameters": None}
    return {"parameters": sum(parameter.numel() for parameter in network.parameters())}


@contextmanager
def _explained_out_of_memory(batch: int) -> Iterator[None]:
    """Report a batch that does not fit into memory. The engine could split it, but the bare networks cannot."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise GuidelensError(f"a batch of {batch} does not fit into memory; measure a smaller one") from error


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
