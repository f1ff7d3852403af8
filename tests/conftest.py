"""Refuse to test an outdated installation. In CI, a test that cannot run is a failure: a skip goes unseen there."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HARDWARE_AND_CHOICE = ("GPU", "CUDA", "MPS", "LAVIS", "no Python")
"""Words of the reasons that CI accepts: what its machines do not have, and what runs in an environment of its own."""


def pytest_configure() -> None:
    """Compare the installed plugins with those of ``pyproject.toml``: an editable installation does not update them."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    stated = project["project"]["entry-points"]["guidelens"]
    points = metadata.distribution("guidelens").entry_points.select(group="guidelens")
    if {point.name: point.value for point in points} != stated:
        raise pytest.UsageError(
            "the installed plugins are not those of pyproject.toml; install guidelens again: pip install --no-deps -e ."
        )


def _fail_unexpected_skip(report: Any) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or not os.environ.get("CI"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(word in reason for word in HARDWARE_AND_CHOICE):
        report.outcome = "failed"
        report.longrepr = f"{reason} (CI does not accept this skip: install what the test needs)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Judge the skip of a test."""
    report = yield
    _fail_unexpected_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """Judge the skip of a whole module."""
    report = yield
    _fail_unexpected_skip(report)
    return report
