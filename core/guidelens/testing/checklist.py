"""Lists of checks. A check is a function that returns measured numbers or raises what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from guidelens.errors import GuidelensError, UsageError

from .report import Check, Status

S = TypeVar("S")

Numbers = Mapping[str, float]


class Failed(Exception):
    """Raised by a check if the promise is broken, with numbers."""

    def __init__(self, detail: str, **numbers: float) -> None:
        super().__init__(detail)
        self.numbers = {name.replace("_", " "): value for name, value in numbers.items()}


class NotChecked(Exception):
    """Raised by a check that is not possible, with the reason."""


@dataclass(frozen=True)
class _Entry(Generic[S]):
    name: str
    about: str
    function: Callable[[S], Numbers]
    needs: tuple[str, ...]


class CheckList(Generic[S]):
    """The checks of a kind of component, in order. ``S`` is the type of their argument."""

    def __init__(self) -> None:
        self._entries: list[_Entry[S]] = []

    @property
    def about(self) -> dict[str, str]:
        """The promise behind each check, by name."""
        return {entry.name: entry.about for entry in self._entries}

    def add(
        self, name: str, *, needs: Collection[str] = ()
    ) -> Callable[[Callable[[S], Numbers]], Callable[[S], Numbers]]:
        """Add the decorated function. The first line of its docstring is the promise that it checks.

        :param needs: checks that must pass first. If one fails, this check is skipped.
        """

        def decorate(function: Callable[[S], Numbers]) -> Callable[[S], Numbers]:
            about = (function.__doc__ or "").strip().splitlines()[0].rstrip(".").replace("``", "`")
            self._entries.append(_Entry(name, about, function, tuple(needs)))
            return function

        return decorate

    def run(self, subject: S, skip: Collection[str] = ()) -> tuple[Check, ...]:
        """Run every check.

        :param skip: names of checks to leave out.
        :raises UsageError: ``skip`` has an unknown name.
        """
        for name in skip:
            if name not in self.about:
                raise UsageError(f"no check {name!r} to skip; there are {', '.join(self.about)}")
        done: dict[str, Check] = {}
        for entry in self._entries:
            unmet = [name for name in entry.needs if done[name].status != "passed" and name not in skip]
            if entry.name in skip:
                done[entry.name] = Check(entry.name, entry.about, "skipped", "not checked: as you asked")
            elif unmet:
                reason = f"not checked: it needs {', '.join(unmet)}"
                done[entry.name] = Check(entry.name, entry.about, "skipped", reason)
            else:
                done[entry.name] = _run(entry, subject)
        return tuple(done.values())


def _run(entry: _Entry[S], subject: S) -> Check:
    status: Status = "passed"
    numbers: Numbers = {}
    cause: BaseException | None = None
    try:
        numbers = entry.function(subject)
        detail = ", ".join(f"{name} {_written(value)}" for name, value in numbers.items())
    except Failed as failure:
        status, detail, numbers = "failed", str(failure), failure.numbers
    except NotChecked as reason:
        status, detail = "skipped", f"not checked: {reason}"
    except GuidelensError as error:  # errors that the program itself reports for the component
        cause = error.__cause__ or error
        status, detail = "failed", str(error) if cause is error else f"raised {one_line(cause)}"
    except Exception as error:  # a component may raise anything, and that is a failure
        status, detail, cause = "failed", f"raised {one_line(error)}", error
    return Check(entry.name, entry.about, status, detail, dict(numbers), cause)


def _written(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return an exception as one line, its class first, cut to ``limit`` characters."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= limit else f"{text[:limit]} ..."


def at_most(what: str, value: float, limit: float, **numbers: float) -> float:
    """Return ``value``.

    :raises Failed: if it exceeds ``limit`` or is not a number.
    """
    if math.isnan(value) or value > limit:
        raise Failed(f"{what} is {value:.3g}, and at most {limit:.3g} is allowed", **numbers)
    return value


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite int or float (a numpy float64 is one; a bool and a tensor are not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
