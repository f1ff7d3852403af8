"""Measure speed: the benchmark for every precision and batch size, and the shares of kernels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from guidelens.bench.alternatives import alternatives_of
from guidelens.bench.report import AgainstReport, BatchReport, BenchReport
from guidelens.bench.run import bench as run_bench
from guidelens.bench.subjects import EngineStep, EveryObjective
from guidelens.bench.timing import Clock
from guidelens.engine import Engine, Sample
from guidelens.errors import MissingPackageError
from guidelens.memory import is_out_of_memory
from guidelens.sampling import Sampling

from .context import CheckContext
from .precision import Precision, dtype_of, tf32
from .record import CaseResult

OTHER_PRECISIONS: tuple[Precision, ...] = ("float16", "tf32")
_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
"""How the names of the host's calls begin that start kernels."""
_KERNELS_SHOWN = 15


@dataclass(frozen=True)
class Measurement:
    """One call of the benchmark.

    :param guided: with the guidance model, or with a stand-in that costs almost nothing.
    :param against: an alternative of the generator to measure as well.
    :param compiled: this alternative is compiled.
    """

    precision: Precision
    batch: int
    guided: bool
    against: str | None = None
    compiled: bool = False

    @property
    def name(self) -> str:
        """Its name in the results."""
        words = [self.precision, f"batch {self.batch}", "with guidance" if self.guided else "generator alone"]
        words += [f"against {self.against}"] if self.against else []
        return ", ".join(words)


def first_measurements(context: CheckContext) -> Iterator[Measurement]:
    """Yield the measurements in bfloat16, without those that compile."""
    yield from _alone_and_guided(context, "bfloat16")
    yield from _beside(context, "bfloat16", compiled=False)


def other_measurements(context: CheckContext) -> Iterator[Measurement]:
    """Yield the measurements that compile, which takes minutes, and those in other precisions."""
    yield from _alone_and_guided(context, "float32")
    yield from _beside(context, "float32", compiled=False)
    yield from _beside(context, "bfloat16", compiled=True)
    for precision in OTHER_PRECISIONS:
        yield from _alone_and_guided(context, precision)


def _alone_and_guided(context: CheckContext, precision: Precision) -> Iterator[Measurement]:
    for guided in (True, False):
        for size in dict.fromkeys(context.settings.batch_sizes):
            yield Measurement(precision, size, guided)


def _beside(context: CheckContext, precision: Precision, *, compiled: bool) -> Iterator[Measurement]:
    for name, each in alternatives_of(context.generator).items():
        for size in _two_of(context.settings.batch_sizes) if each.compiled == compiled else ():
            yield Measurement(precision, size, guided=False, against=name, compiled=compiled)


def _two_of(sizes: Sequence[int]) -> list[int]:
    """Return the smallest size and the second largest."""
    return list(dict.fromkeys((min(sizes), sorted(sizes)[-2:][0])))


def measure(context: CheckContext, wanted: Measurement) -> CaseResult:
    """Run the benchmark once."""
    if wanted.compiled:
        torch.compiler.reset()  # otherwise a second batch size would be compiled for all sizes
    try:
        with tf32(wanted.precision == "tf32"):
            return CaseResult("ok", _numbers(_benchmark(context, wanted)))
    except MissingPackageError as error:
        return CaseResult("skipped", message=str(error))
    except Exception as error:
        if not is_out_of_memory(error.__cause__ or error):
            raise
        return CaseResult("skipped", message="does not fit into memory")


def _benchmark(context: CheckContext, wanted: Measurement) -> BenchReport:
    return run_bench(
        context.generator,
        context.guidance if wanted.guided else None,
        prompt=context.settings.prompt,
        batch_sizes=(wanted.batch,),
        repeats=context.settings.repeats,
        against=() if wanted.against is None else (wanted.against,),
        device=context.settings.device,
        dtype=dtype_of(wanted.precision),
    )


def _steps(context: CheckContext, precision: Precision, batch: int) -> EngineStep:
    sampling = Sampling(dtype=dtype_of(precision))
    engine = Engine(context.generator, context.guidance, sampling, device=context.settings.device)
    schedule = EveryObjective(context.guidance.objectives)
    return EngineStep(engine, [Sample(context.settings.prompt, schedule, seed) for seed in range(batch)])


def _numbers(report: BenchReport) -> dict[str, Any]:
    (batch,) = report.batches
    numbers: dict[str, Any] = {
        "guided": batch.guided.median,
        "unguided": batch.unguided.median,
        "networks": batch.bare.median,
        "forward": batch.forward.median,
        "parts": {name: part.median for name, part in batch.parts.items()},
        "per_picture": batch.guided.median / batch.batch,
        "engine_share": batch.hollow_share,
        "peak_bytes": batch.memory["guided"].peak,
        "matmul_rate": report.rates["matmul"],
    }
    if report.flop:
        numbers["forward_rate"] = report.flop * batch.batch / batch.forward.median
    for name, other in batch.against.items():
        numbers["against"] = {
            "name": name,
            "step": other.step.median,
            "times_as_long": other.speedup,
            "first": other.first,
            "pays_after": _pays_after(batch, other),
            "difference": other.difference,
            "peak_bytes": other.memory.peak,
        }
    return numbers


def _pays_after(batch: BatchReport, other: AgainstReport) -> int | None:
    """Return the steps, times pictures, after which an alternative has saved the time of its first step.

    None if it is not faster.
    """
    saved = (batch.bare.median - other.step.median) / batch.batch
    return math.ceil((other.first - other.step.median) / saved) if saved > 0 else None


def kernel_shares(context: CheckContext, batch: int) -> CaseResult:
    """Profile a guided step in bfloat16. Return the kernels with the largest shares of the device's time."""
    on_cuda = context.settings.device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with closing(_steps(context, "bfloat16", batch)) as step:
        step.prepare()
        step()
        with profile(activities=activities) as profiler:
            step()
            Clock(torch.device(context.settings.device)).wait()
    spent: Counter[str] = Counter()
    kernels = launches = 0
    for event in profiler.events() or ():
        launches += event.name.startswith(_LAUNCHES)
        if on_cuda and not str(event.device_type).endswith("CUDA"):
            continue
        spent[event.name] += event.self_device_time_total if on_cuda else event.self_cpu_time_total
        kernels += 1
    total = sum(spent.values()) or 1
    shares = {name[:120]: microseconds / total for name, microseconds in spent.most_common(_KERNELS_SHOWN)}
    return CaseResult(
        "ok", {"kernels": kernels, "launches": launches, "seconds": total / 1e6, "shares": shares}
    )
