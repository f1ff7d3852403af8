"""The settings of a check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guidelens.errors import UsageError
from guidelens.plugins import Component

PARTS = ("tests", "agreement", "bench", "comparison", "memory")
"""In the order in which they run. The rest of ``bench``, in other precisions than bfloat16 and compiled, runs last."""


@dataclass(frozen=True)
class CheckSettings:
    """The networks, the device, and how much to measure.

    :param generator: the generator to check.
    :param guidance: the guidance model to check.
    :param device: a device name, already resolved.
    :param parts: some of :data:`PARTS`.
    :param prompt: the prompt for all cases.
    :param schedules: specs of the schedules for the part ``comparison``.
    :param plugins: plugins from the command line, passed on to processes.
    :param batch_sizes: for the part ``bench``.
    :param repeats: number of rounds of each measurement.
    :param steps: sampling steps of the parts that draw pictures.
    :param tests: folder with the project's tests; None skips the part ``tests``.
    :param minutes: no case starts after this time.
    :raises UsageError: for a value out of range.
    """

    generator: Component
    guidance: Component
    device: str
    parts: Sequence[str] = PARTS
    prompt: str = "a red circle above a blue square"
    schedules: Sequence[str] = ("shift", "itc")
    plugins: Sequence[str] = ()
    batch_sizes: Sequence[int] = (1, 2, 4, 8, 16)
    repeats: int = 5
    steps: int = 50
    tests: Path | None = None
    minutes: float = 8.0

    def __post_init__(self) -> None:
        """Check the values."""
        for part in self.parts:
            if part not in PARTS:
                raise UsageError(f"unknown part {part!r}; choose {', '.join(PARTS)}")
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise UsageError("batch sizes must be at least 1")
        if self.minutes <= 0:
            raise UsageError(f"minutes must be positive, got {self.minutes:g}")

    def identity(self) -> dict[str, object]:
        """Return the settings that results depend on, as JSON values. A check with another identity starts again."""
        return {
            "generator": self.generator.spec,
            "guidance": self.guidance.spec,
            "device": self.device,
            "prompt": self.prompt,
            "schedules": list(self.schedules),
            "repeats": self.repeats,
            "steps": self.steps,
        }
