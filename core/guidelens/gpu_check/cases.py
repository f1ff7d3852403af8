"""The cases of a check, by part, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

from . import agreement, comparison, memory, own_tests, speed
from .record import CaseResult
from .workbench import Workbench


@dataclass(frozen=True)
class Case:
    """One thing to check.

    :param name: ``PART/...``, unique.
    :param run: runs it; may raise.
    """

    name: str
    run: Callable[[], CaseResult]


def cases(bench: Workbench) -> Iterator[Case]:
    """Yield the cases of the parts that were asked for."""
    for part, of_part in _PARTS.items():
        if part in bench.settings.parts:
            for name, run in of_part(bench):
                yield Case(f"{part}/{name}", run)


Cases = Iterator[tuple[str, Callable[[], CaseResult]]]


def _tests(bench: Workbench) -> Cases:
    folder = bench.settings.tests
    for file in [] if folder is None else own_tests.files_for_cuda(folder):
        yield file.stem, partial(own_tests.run_file, bench, file)


def _agreement(bench: Workbench) -> Cases:
    reference = cache(partial(agreement.reference_step, bench))
    for precision in agreement.PRECISIONS:
        yield f"step {precision}", partial(agreement.compare_step, bench, reference, precision)
    yield "pictures", partial(agreement.compare_pictures, bench)


def _bench(bench: Workbench) -> Cases:
    for measured in speed.measurements(bench):
        yield measured.name, partial(speed.measure, bench, measured)
    sizes = bench.settings.batch_sizes
    for size in dict.fromkeys((min(sizes), max(sizes))):
        yield f"kernels batch {size}", partial(speed.kernel_shares, bench, size)


def _comparison(bench: Workbench) -> Cases:
    yield "pictures", partial(comparison.compare, bench)


def _memory(bench: Workbench) -> Cases:
    yield "halving", partial(memory.halving, bench)


_PARTS: dict[str, Callable[[Workbench], Cases]] = {
    "tests": _tests,
    "agreement": _agreement,
    "bench": _bench,
    "comparison": _comparison,
    "memory": _memory,
}
