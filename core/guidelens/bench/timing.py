"""Measure time on a device and peak memory, and summarise repeated measurements."""

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
"""A point in time: seconds on the CPU, an event in the stream of a CUDA device."""


class Clock:
    """Measures the times of work on a device without waiting for the device in between."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait(self) -> None:
        """Wait until the device has finished all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def start(self) -> Mark:
        """Wait for the device, and mark the start."""
        self.wait()
        return self.mark()

    def mark(self) -> Mark:
        """Mark the point at which the device finishes its current work."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
            return event
        self.wait()
        return time.perf_counter()

    def between(self, marks: Sequence[Mark]) -> list[float]:
        """Wait for the device, and return the seconds between successive marks."""
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
    """Repeated measurements in seconds, in their order."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, which the report shows."""
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
    """Run all actions in turn, ``repeats`` times, so that disturbances of the machine affect all equally. Every other
    round runs in reverse order, so that no action always follows the same one.

    :param actions: each returns seconds by name. Names are distinct over all actions.
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
    """Memory in bytes: the peak during an action, and the memory in use before.

    :param kind: ``cuda allocated``, ``resident`` (of the process), or ``resident since start`` on systems that cannot
        reset a process's peak.
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
