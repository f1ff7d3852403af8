"""Other implementations of a generator's network, to compare time and output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from guidelens.contracts import Generator
from guidelens.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

REFERENCE = "reference"
"""The alternative that every generator has: the step of the published code."""


@dataclass(frozen=True)
class Alternative:
    """Another way to evaluate a generator's network. A generator offers them as ``alternatives()``, by name.

    :param build: returns a callable that maps x_t (B, C, H, W) and timesteps (B,) to the output, as the
        generator does, with the same weights, on the device where these are.
    :param summary: one line.
    :param passes: 1: one evaluation for both the mean and the guidance. 2: one evaluation each, the first without
        gradients, as in published guidance code.
    :param float32: it always computes in float32.
    :param compiled: its first step compiles, which may take minutes.
    :raises GuidelensError: from ``build``, if it cannot be built; MissingPackageError if a package is missing.
    """

    build: Callable[[], Callable[[Tensor, Tensor], Tensor]]
    summary: str
    passes: Literal[1, 2] = 1
    float32: bool = False
    compiled: bool = False


def alternatives_of(generator: Generator) -> dict[str, Alternative]:
    """Return the generator's alternatives by name; ``reference`` is always there."""
    offered: Mapping[str, Alternative] = getattr(generator, "alternatives", dict)()
    own = Alternative(
        lambda: generator,
        "its own network, evaluated twice per step: without gradients for the mean, and with them for guidance",
        passes=2,
    )
    return {REFERENCE: own, **offered}


def choose_alternatives(generator: Generator, names: tuple[str, ...]) -> dict[str, Alternative]:
    """Return the alternatives with these names.

    :raises UsageError: the generator lacks one. The message lists the choices.
    """
    known = alternatives_of(generator)
    for name in names:
        if name not in known:
            raise UsageError(
                f"the generator has no alternative {name!r} to measure; it has {', '.join(known)}"
            )
    return {name: known[name] for name in names}
