"""Clocks that wait for the device, peaks of memory, and what several repetitions of one thing say together."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

Mark = Any
"""A moment: seconds on the CPU, an event in the stream of a CUDA device."""


class Clock:
    """Takes the times of work on a device, without waiting for it in between."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait(self) -> None:
        """Return when the device has finished all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def start(self) -> Mark:
        """Wait for the device, and mark the beginning of something."""
        self.wait()
        return self.mark()

    def mark(self) -> Mark:
        """Mark the moment at which the device will have come this far."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
            return event
        self.wait()
        return time.perf_counter()

    def between(self, marks: Sequence[Mark]) -> list[float]:
        """Return the seconds between successive marks; waits for the device."""
        self.wait()
        if self.device.type == "cuda":
            return [a.elapsed_time(b) / 1000 for a, b in pairwise(marks)]
        return [b - a for a, b in pairwise(marks)]

    def time(self, action: Callable[[], object]) -> float:
        """Return the seconds that ``action`` takes."""
        before = self.start()
        action()
        (seconds,) = self.between([before, self.mark()])
        return seconds


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing, in seconds, in the order in which they were taken."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one: what the report shows."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest."""
        return max(self.values)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"median": self.median, "low": self.low, "high": self.high, "values": list(self.values)}


def interleaved(
    actions: Mapping[str, Callable[[], Mapping[str, float]]],
    *,
    repeats: int,
    on_round: Callable[[int], None] | None = None,
) -> dict[str, Spread]:
    """Run all actions in turn, ``repeats`` times, so that what disturbs the machine disturbs all alike.

    Every other round goes backwards, so that none always follows the same one.

    :param actions: each returns the seconds of what it did, by name; names are distinct over all actions.
    :param on_round: called with the number of rounds done.
    """
    seen: dict[str, list[float]] = {}
    for done in range(repeats):
        turn = list(actions.values())
        for action in reversed(turn) if done % 2 else turn:
            for name, seconds in action().items():
                seen.setdefault(name, []).append(seconds)
        if on_round is not None:
            on_round(done + 1)
    return {name: Spread(tuple(values)) for name, values in seen.items()}


@dataclass(frozen=True)
class Peak:
    """Memory in bytes: the most that was in use while something ran, and what was in use before.

    :param kind: ``cuda allocated``, ``resident`` (of the process), or ``resident since start`` where the
        system keeps one high-water mark per process and cannot reset it.
    """

    kind: str
    before: int
    peak: int


def peak_memory(device: torch.device, action: Callable[[], object]) -> Peak:
    """Run ``action`` and return the peak of the device's memory, or of the process's on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        torch.cuda.synchronize(device)
        return Peak("cuda allocated", before, torch.cuda.max_memory_allocated(device))
    resettable = _reset_high_water()
    before = _status("VmRSS") if resettable else _max_resident()
    action()
    if resettable:
        return Peak("resident", before, _status("VmHWM"))
    return Peak("resident since start", before, _max_resident())


def _reset_high_water() -> bool:
    # Linux: 5 resets the process's VmHWM (man 5 proc_pid_clear_refs).
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _status("VmHWM") > 0
    return False


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def _max_resident() -> int:
    import resource  # Unix only; nothing else here is

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kibibytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
