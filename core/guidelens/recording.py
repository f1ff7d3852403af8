"""Telemetry of a running batch, and a check that its values are finite.

Both keep tensors on the device, and read them without waiting for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from .device_copies import HostCopy
from .errors import GuidelensError
from .guidance.gradients import all_finite
from .guidance.plan import GuidancePlan
from .samples import Result, Sample, Step

K = TypeVar("K")

STEPS_BETWEEN_CHECKS = 10


class Recorder:
    """Collects the telemetry of a batch on its device, and returns the results at the end."""

    def __init__(self, samples: Sequence[Sample], plan: GuidancePlan) -> None:
        self._samples = samples
        self._plan = plan
        self._started = time.perf_counter()
        self._last: Step | None = None
        self._notes: tuple[tuple[str, ...], ...] = ()
        self._losses: list[dict[str, Tensor]] = []
        self._norms: list[dict[str, Tensor]] = []
        self._cosines: list[dict[tuple[str, str], Tensor]] = []
        self._nonfinite: list[Tensor] = []

    def add(self, step: Step) -> None:
        """Record a step."""
        self._last = step
        self._losses.append(step.losses)
        self._norms.append(step.gradient_norms)
        self._cosines.append(step.cosines)
        self._nonfinite.append(step.nonfinite)
        self._notes = step.notes

    def results(self) -> list[Result]:
        """Return the results after the steps so far. Synchronises with the device."""
        if self._last is None:
            return []
        images = self._last.picture.clamp(-1, 1).to("cpu", torch.float32)
        losses, norms, cosines = _series(self._losses), _series(self._norms), _series(self._cosines)
        nonfinite = torch.stack(self._nonfinite).sum(dim=0).tolist()
        seconds = (time.perf_counter() - self._started) / len(self._samples)
        results = []
        for row, sample in enumerate(self._samples):
            names = self._plan.used_by(row)
            pairs = [pair for pair in cosines if set(pair) <= set(names)]
            results.append(
                Result(
                    sample=sample,
                    image=images[row].clone(),
                    losses={name: losses[name][row] for name in names},
                    gradient_norms={name: norms[name][row] for name in names},
                    cosines={"|".join(pair): cosines[pair][row] for pair in pairs},
                    nonfinite_steps=nonfinite[row],
                    seconds=seconds,
                    notes=self._notes[row],
                )
            )
        return results


class FiniteCheck:
    """Raises an error when the values of a sample become infinite or NaN.

    It copies the counts and states to the host every :data:`STEPS_BETWEEN_CHECKS` steps and after the last step. It
    checks a copy when it has arrived. On an accelerator that is some steps later, or at the end of the run.

    :param tolerated: the largest number of steps in which a sample may be left unguided because its gradient is not
        finite.
    :param steps: the number of steps of the run.
    """

    def __init__(self, samples: Sequence[Sample], tolerated: int, steps: int) -> None:
        self._samples = samples
        self._tolerated = tolerated
        self._steps = steps
        self._counts: Tensor | None = None
        self._pending: deque[HostCopy] = deque()

    def check(self, step: int, nonfinite: Tensor, state: Tensor) -> None:
        """Count the samples that step ``step`` left unguided, and check the state after it.

        :param nonfinite: (B,) bool.
        :raises GuidelensError: if the gradients or values of a sample are no longer finite. The message names it.
        """
        counts = nonfinite.to(torch.int64)
        self._counts = counts if self._counts is None else self._counts + counts
        last = step + 1 == self._steps
        if last or (step + 1) % STEPS_BETWEEN_CHECKS == 0:
            self._pending.append(HostCopy(self._counts, all_finite(state)))
        while self._pending and (last or self._pending[0].arrived()):
            self._raise_if_nonfinite(*self._pending.popleft().values())

    def _raise_if_nonfinite(self, counts: Tensor, alive: Tensor) -> None:
        for sample, count, is_alive in zip(self._samples, counts.tolist(), alive.tolist(), strict=True):
            name = f"the sample of prompt {sample.prompt!r}, seed {sample.seed}"
            if count > self._tolerated:
                raise GuidelensError(
                    f"{name}: its guidance gradient was not finite in {count} of {self._steps} steps (at most"
                    f" {self._tolerated} are tolerated); lower the scale, or use the dtype float32"
                )
            if not is_alive:
                raise GuidelensError(
                    f"{name}: its values are no longer finite; lower the scale, or use the dtype float32"
                )


def _series(steps: list[dict[K, Tensor]]) -> dict[K, list[list[float]]]:
    """Return the values over steps, for each key and sample."""
    return {key: torch.stack([step[key] for step in steps], dim=1).tolist() for key in steps[0]}
