"""Schedules over guidance objectives: none, one alone, SHIFT (linear) and BLEND (constant).

Kong & Kwak (2023), *Analyzing Multimodal Objectives Through the Lens of Generative Diffusion Guidance*.
Progress t runs from 0 at the first (noisiest) sampling step to 1 at the last. The ``repr`` of a schedule is
its spelling on the command line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guidelens.errors import UsageError

PAPER_OBJECTIVES = {
    "itc": "image-text contrast alone",
    "itm": "image-text matching alone",
    "cap": "captioning alone",
}
"""The objectives of Kong & Kwak (2023), with summaries. Each is also the name of a schedule."""


@dataclass(frozen=True, repr=False)
class Unguided:
    """No guidance: the generator draws from the same noise as under the other schedules."""

    def weights(self, progress: float) -> Mapping[str, float]:
        """Return no weights."""
        return {}

    def __repr__(self) -> str:
        return "none"


@dataclass(frozen=True, repr=False)
class SingleObjective:
    """One objective at constant weight: w_name(t) = 1. The baselines ITC, ITM and CAP of Kong & Kwak (2023).

    :param name: of the objective, as the guidance model calls it.
    """

    name: str

    def __post_init__(self) -> None:
        check_objective(self.name)

    def weights(self, progress: float) -> Mapping[str, float]:
        """Return ``{name: 1.0}``."""
        return {self.name: 1.0}

    def __repr__(self) -> str:
        return self.name if self.name in PAPER_OBJECTIVES else f"objective:name={self.name}"


@dataclass(frozen=True, repr=False)
class Shift:
    """Linear change from one objective to another: w_start(t) = 1 - t, w_end(t) = t.

    SHIFT of Kong & Kwak (2023) goes from CAP, which composes the scene at high noise, to ITC, which refines the
    salient object.

    :param start: the objective at t = 0.
    :param end: the objective at t = 1.
    :raises UsageError: if both are the same objective.
    """

    start: str = "cap"
    end: str = "itc"

    def __post_init__(self) -> None:
        check_objective(self.start)
        check_objective(self.end)
        if self.start == self.end:
            raise UsageError(
                f"shift from {self.start!r} to itself; for one objective alone use objective:name=..."
            )

    def weights(self, progress: float) -> Mapping[str, float]:
        """Return ``{start: 1 - progress, end: progress}``."""
        return {self.start: 1.0 - progress, self.end: progress}

    def __repr__(self) -> str:
        return f"shift:start={self.start},end={self.end}"


class Blend:
    """Constant weights of several objectives: w_k(t) = w_k. BLEND of Kong & Kwak (2023).

    :param weights: finite weights by objective, which are not normalised. Default: 0.5 for ITC and CAP.
    :raises UsageError: if a weight is not finite, or if all weights are 0.
    """

    def __init__(self, **weights: float) -> None:
        chosen = weights or {"cap": 0.5, "itc": 0.5}
        for name, weight in chosen.items():
            check_objective(name)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise UsageError(f"blend: the weight of {name!r} must be a finite number, not {weight!r}")
        if not any(chosen.values()):
            raise UsageError("blend: every weight is 0, so nothing would guide")
        self._weights = {name: float(weight) for name, weight in sorted(chosen.items())}

    def weights(self, progress: float) -> Mapping[str, float]:
        """Return the weights. They do not depend on progress."""
        return dict(self._weights)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return "blend:" + ",".join(f"{name}={weight!r}" for name, weight in self._weights.items())


def check_objective(name: Any) -> None:
    """Check that a value can name an objective.

    :raises UsageError: if it is not text, or only white space.
    """
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"an objective is named by a text such as 'itc', not {name!r}")
