"""Progress of long computations on stderr: one line that is updated on a terminal, at most ten lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from guidelens.words import plural

from . import console

if TYPE_CHECKING:
    from rich.table import Table

    from guidelens.engine import Step
    from guidelens.runs.drive import Progress

LINES = 10
"""Maximum number of plain lines: one after each tenth of the work."""

SECONDS_BETWEEN_LINES = 5.0
"""The minimum time between plain lines."""

REFRESH_PER_SECOND = 8


class Reporter(Protocol):
    """Called with the progress of a comparison."""

    def __call__(self, progress: Progress) -> None: ...


class Pace:
    """The rate of new pictures."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._share = 0.0

    def text(self, progress: Progress) -> str:
        """Return the rate and the remaining time, as far as they are known."""
        if progress.share < self._share:  # the next run of a sweep has begun
            self.started = time.monotonic()
        self._share = progress.share
        fresh = progress.done - progress.reused
        seconds = time.monotonic() - self.started
        if fresh <= 0 or seconds <= 0 or progress.share <= 0:
            return ""
        left = duration(seconds * (1 - progress.share) / progress.share)
        return f"{fresh / seconds:.2g} pictures/s, {left} left"


def duration(seconds: float) -> str:
    """Return a duration as text: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def comparison_progress() -> Iterator[Reporter]:
    """Show the progress of a comparison while the block runs. Call the yielded function with each update."""
    screen = console.err()
    if screen.is_terminal:
        from rich.live import Live

        pace: Pace | None = None
        with Live(console=screen, refresh_per_second=REFRESH_PER_SECOND, transient=True) as live:

            def show(progress: Progress) -> None:
                nonlocal pace
                pace = pace or Pace()
                live.update(_line(progress, pace.text(progress)))

            yield show
    else:
        yield _PlainLines()


class _PlainLines:
    def __init__(self) -> None:
        self._pace: Pace | None = None
        self._last = time.monotonic()
        self._parts = 0

    def __call__(self, progress: Progress) -> None:
        self._pace = self._pace or Pace()
        now = time.monotonic()
        parts_done = math.floor(progress.share * LINES)
        if parts_done < self._parts:  # the next run of a sweep has begun
            self._parts = 0
        if parts_done <= self._parts or (now - self._last < SECONDS_BETWEEN_LINES and progress.share < 1):
            return
        self._last, self._parts = now, parts_done
        parts = [_counted(progress), self._pace.text(progress)]
        means = ", ".join(f"{name} {mean:.2f}" for name, (mean, n) in progress.means.items() if n)
        parts.append(f"{progress.column}: {means}" if means else "")
        console.err().print("; ".join(part for part in parts if part), markup=False)


def _counted(progress: Progress) -> str:
    failed = f", {progress.failed} failed" if progress.failed else ""
    return f"{int(progress.done)} of {plural(progress.total, 'picture')}{failed}"


def _line(progress: Progress, pace: str) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2))
    line.add_row(
        ProgressBar(total=progress.total, completed=progress.done, width=30),
        Text(_counted(progress)),
        Text(pace, style="dim"),
    )
    return line


@contextmanager
def step_progress(steps: int) -> Iterator[Callable[[Step], None] | None]:
    """Show a bar over the steps of one picture on a terminal, and nothing elsewhere."""
    screen = console.err()
    if not screen.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=screen, transient=True) as bars:
        task = bars.add_task("", total=steps)
        yield lambda step: bars.update(task, completed=step.index + 1)
