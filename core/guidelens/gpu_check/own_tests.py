"""Run the project's GPU tests, each file in a separate process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

from .context import CheckContext
from .record import CaseResult

_MARK = "mark.cuda"
_LONGEST = 180
"""Seconds after which a file is given up. A test that waits for a device that is hung would wait for ever."""


def files_for_cuda(folder: Path) -> list[Path]:
    """Return the files with GPU tests. Other files may import packages that are not installed."""
    files = sorted(folder.rglob("test_*.py"))
    return [file for file in files if _MARK in file.read_text(encoding="utf-8")]


def run_file(context: CheckContext, file: Path) -> CaseResult:
    """Run the tests in ``file`` with the mark ``cuda``."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider"]
        command += [f"--junitxml={report}", str(file)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LONGEST)
        except subprocess.TimeoutExpired:
            return CaseResult("failed", message=f"the tests took longer than {_LONGEST} seconds")
        if not report.is_file():
            return CaseResult("failed", message=_last_line(done.stdout + done.stderr))
        return _read(report, context.settings.device.startswith("cuda"))


def _read(report: Path, expected_to_run: bool) -> CaseResult:
    suite = next(ET.parse(report).getroot().iter("testsuite"))
    tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    wrong = [
        f"{case.get('name')}: {problem.get('message', '').splitlines()[0]}"
        for case in suite.iter("testcase")
        for problem in case
        if problem.tag in ("failure", "error")
    ]
    values = {"passed": tests - skipped - len(wrong), "skipped": skipped, "failed": wrong}
    if wrong:
        return CaseResult("failed", values, f"{len(wrong)} of {tests} tests failed: {'; '.join(wrong)}"[:500])
    if skipped == tests:
        state = CaseResult("skipped", values, "no test ran: they need a CUDA device")
        return CaseResult("failed", values, "no test ran") if expected_to_run else state
    return CaseResult("ok", values)


def _last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "pytest wrote nothing"
