"""A guidelens plugin: the schedule ``cosine-shift``, SHIFT along a half-wave of the cosine, after a warm-up."""

from __future__ import annotations

import math
from collections.abc import Mapping

from guidelens import UsageError, hookimpl

guidelens_contract = 1


class CosineShift:
    """From one objective to another, slowly at both ends; the guidance grows from nothing at first.

    :param start: the objective at first.
    :param end: the objective at last.
    :param warmup: share of the sampling, 0 to below 1, in which the guidance grows linearly and ``start`` is alone.
    :raises UsageError: for objectives that are the same, or a warm-up outside its range.
    """

    def __init__(self, start: str = "cap", end: str = "itc", warmup: float = 0.1) -> None:
        if start == end:
            raise UsageError(
                f"cosine-shift turns from one objective to another, not from {start!r} to itself"
            )
        if not 0 <= warmup < 1:
            raise UsageError(f"the warm-up of cosine-shift must be at least 0 and below 1, not {warmup:g}")
        self.start, self.end, self.warmup = start, end, warmup

    def weights(self, progress: float) -> Mapping[str, float]:
        """Return the weights of the two objectives at ``progress`` in [0, 1]."""
        gain = min(1.0, progress / self.warmup) if self.warmup else 1.0
        after = max(0.0, progress - self.warmup) / (1 - self.warmup)
        share = (1 - math.cos(math.pi * after)) / 2
        return {self.start: gain * (1 - share), self.end: gain * share}


@hookimpl
def register_schedules(register):
    register("cosine-shift", CosineShift, summary="SHIFT along a cosine, after a warm-up")
