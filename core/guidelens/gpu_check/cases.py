"""The cases of a check by part, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

from . import agreement, comparison, memory, own_tests, speed
from .context import CheckContext
from .record import CaseResult


@dataclass(frozen=True)
class Case:
    """A case of a check.

    :param name: ``PART/...``, unique.
    :param run: runs it; may raise.
    """

    name: str
    run: Callable[[], CaseResult]


def cases(context: CheckContext) -> Iterator[Case]:
    """Yield the cases of the requested parts, the most important first, because time may run out.

    The benchmark in half precision comes before the parts that take least time, and the rest of it after them.
    """
    for part, of_part in _ORDER:
        if part in context.settings.parts:
            for name, run in of_part(context):
                yield Case(f"{part}/{name}", run)


Cases = Iterator[tuple[str, Callable[[], CaseResult]]]


def _tests(context: CheckContext) -> Cases:
    folder = context.settings.tests
    for file in [] if folder is None else own_tests.files_for_cuda(folder):
        yield file.stem, partial(own_tests.run_file, context, file)


def _agreement(context: CheckContext) -> Cases:
    reference = cache(partial(agreement.reference_step, context))
    for precision in agreement.PRECISIONS:
        yield f"step {precision}", partial(agreement.compare_step, context, reference, precision)
    yield "pictures", partial(agreement.compare_pictures, context)


def _first_of_bench(context: CheckContext) -> Cases:
    for measured in speed.first_measurements(context):
        yield measured.name, partial(speed.measure, context, measured)
    sizes = context.settings.batch_sizes
    for size in dict.fromkeys((min(sizes), max(sizes))):
        yield f"kernels batch {size}", partial(speed.kernel_shares, context, size)


def _rest_of_bench(context: CheckContext) -> Cases:
    for measured in speed.other_measurements(context):
        yield measured.name, partial(speed.measure, context, measured)


def _comparison(context: CheckContext) -> Cases:
    yield "pictures", partial(comparison.compare, context)


def _memory(context: CheckContext) -> Cases:
    yield "halving", partial(memory.halving, context)


_ORDER: tuple[tuple[str, Callable[[CheckContext], Cases]], ...] = (
    ("tests", _tests),
    ("agreement", _agreement),
    ("bench", _first_of_bench),
    ("comparison", _comparison),
    ("memory", _memory),
    ("bench", _rest_of_bench),
)
