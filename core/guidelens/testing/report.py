"""Reports of conformance checks, with numbers, and the error that lists failed checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """The check of one promise of a contract.

    :param name: such as ``batch-independence``; the same in every report of its kind.
    :param about: the promise, one line.
    :param status: ``skipped`` if it could not be checked; ``detail`` has the reason.
    :param detail: the result with numbers, one line.
    :param numbers: the measured numbers by name.
    :param error: the exception that the component raised, if any.
    """

    name: str
    about: str
    status: Status
    detail: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    error: BaseException | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class ConformanceReport:
    """Every check of one component.

    :param kind: a name in :data:`guidelens.plugins.KINDS`.
    :param component: its class, or its spelling on the command line.
    """

    kind: str
    component: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def skipped(self) -> tuple[Check, ...]:
        """The skipped checks."""
        return tuple(check for check in self.checks if check.status == "skipped")

    def __getitem__(self, name: str) -> Check:
        """Return the check with this name."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name!r}; there are {', '.join(check.name for check in self.checks)}")

    def raise_for_failures(self) -> None:
        """Raise an error if a check failed.

        :raises ConformanceError: lists each failed check with its numbers.
        """
        if self.failures:
            raise ConformanceError(self) from next((c.error for c in self.failures if c.error), None)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "kind": self.kind,
            "component": self.component,
            "ok": self.ok,
            "checks": [
                {
                    "name": check.name,
                    "about": check.about,
                    "status": check.status,
                    "detail": check.detail,
                    "numbers": dict(check.numbers),
                }
                for check in self.checks
            ],
        }


class ConformanceError(AssertionError):
    """A component breaks its contract. The message lists each failed check with its numbers."""

    def __init__(self, report: ConformanceReport) -> None:
        self.report = report
        lines = [f"  {check.name}: {check.detail} ({check.about})" for check in report.failures]
        super().__init__("\n".join([f"{report.component} breaks the contract of its kind:", *lines]))
