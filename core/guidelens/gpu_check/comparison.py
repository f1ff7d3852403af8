"""Run a comparison from end to end with the command line, on the networks of the check."""

from __future__ import annotations

import subprocess
import sys
import time

from guidelens.runs.store import read_rows

from .context import CheckContext
from .record import CaseResult


def compare(context: CheckContext) -> CaseResult:
    """Run ``guidelens compare`` with one prompt and seed, in bfloat16."""
    settings, out = context.settings, context.directory / "comparison"
    command = [sys.executable, "-m", "guidelens", "compare", settings.prompt]
    for plugin in settings.plugins:
        command += ["--plugin", plugin]
    for schedule in settings.schedules:
        command += ["--schedule", schedule]
    command += ["--generator", settings.generator.spec, "--guidance", settings.guidance.spec]
    command += ["--steps", str(settings.steps), "--seeds", "1", "--dtype", "bfloat16"]
    command += ["--device", settings.device, "--out", str(out)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return CaseResult("failed", {"exit_code": done.returncode}, lines[-1][:500])
    rows, _ = read_rows(out / "results.jsonl")
    values = {"pictures": len(rows), "wall_seconds": seconds}
    values["sampling_seconds"] = sum(float(row.get("seconds", 0)) for row in rows.values())
    wrong = len(rows) != len(set(settings.schedules))
    return CaseResult("failed" if wrong else "ok", values, "pictures are missing" if wrong else "")
